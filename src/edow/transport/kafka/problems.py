"""librdkafka's errors as EDOW's, and its log lines as Python's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from edow.errors import EdowError, InvalidInput, TransportUnavailable

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5
QUIET_SECONDS = 30.0  # a log line is not repeated sooner
LINES = 100  # that are remembered for this

log = logging.getLogger("edow.kafka")

PERMISSION = "give its user the permission (docs/brokers/kafka.md lists what is needed)"
SESSION = "session_timeout must be within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms"

# Why brokers do not let us in, and what to do about it.
LOGIN = {
    KafkaError._AUTHENTICATION: "check user and password, sasl.mechanism and security.protocol",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check user and password, sasl.mechanism and security.protocol",
    KafkaError._SSL: "check security.protocol and the ssl.* options",
}

# What else will be the same however often it is tried.
WRONG = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: PERMISSION,
    KafkaError.GROUP_AUTHORIZATION_FAILED: PERMISSION,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: PERMISSION,
    KafkaError.INVALID_SESSION_TIMEOUT: SESSION,
    KafkaError._INVALID_ARG: "",
    KafkaError.INVALID_CONFIG: "",
    KafkaError.INVALID_PARTITIONS: "",
    KafkaError.INVALID_REPLICATION_FACTOR: "",
    KafkaError.POLICY_VIOLATION: "",
    KafkaError.TOPIC_EXCEPTION: "",
    KafkaError.MSG_SIZE_TOO_LARGE: "",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "",
    KafkaError.UNSUPPORTED_VERSION: "",
}


class NotLetIn(InvalidInput):
    """Wrong from the first, or else what was right once and may be so again."""


def error_of(problem: BaseException | None) -> KafkaError:
    """What librdkafka said, of any exception."""
    found = problem.args[0] if isinstance(problem, KafkaException) and problem.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(problem))


def translate(error: KafkaError, doing: str) -> EdowError:
    """`doing` says what failed, and for whom: "kafka://host: publishing to 'topic'"."""
    code, text = error.code(), f"{doing}: {error.str()}"
    if code in LOGIN:
        return NotLetIn(f"{text}: {LOGIN[code]}")
    if code in WRONG:
        return InvalidInput(f"{text}: {WRONG[code]}" if WRONG[code] else text)
    return TransportUnavailable(text)


@contextmanager
def let_in() -> Iterator[None]:
    """Around what follows a first connection: brokers that do not let us in any more are away, and it says nothing of
    what was asked.
    """
    try:
        yield
    except NotLetIn as problem:
        raise TransportUnavailable(str(problem)) from problem


async def persist(attempt: Callable[[], Awaitable[Result]], seconds: float) -> Result:
    """Try again while a cluster does not agree with itself: elections, topics just made, moving coordinators."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except TransportUnavailable:
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class Lines:
    """What librdkafka calls as its logger. While a broker is away it would say so many times a second."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, float] = OrderedDict()

    def log(self, level: int, form: str, *values: object) -> None:
        """Called by librdkafka with facility, client and text."""
        facility = str(values[0]) if values else ""
        text = str(values[2]) if len(values) > 2 else form
        if facility == "CONFWARN":
            return  # one URL configures producers and consumers alike
        now = time.monotonic()
        line = facility + text.partition(" (after ")[0]
        if now - self._said.get(line, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._said.pop(line, None)
        self._said[line] = now
        if len(self._said) > LINES:
            self._said.popitem(last=False)
        log.log(min(level, logging.WARNING), "%s: %s", facility, text)  # clients recover by themselves
