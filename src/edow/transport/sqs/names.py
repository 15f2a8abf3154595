"""Names of queues and topics at Amazon, and back.

Amazon allows letters, digits, hyphens and underscores, 80 in all for a queue. A dot becomes a hyphen and anything else
`_` and two hexadecimal digits per byte, so that `edow.tasks.default` reads `edow-tasks-default` and no two
names become one. A group's queue is TOPIC__GROUP, a broadcast subscriber's TOPIC_s_RANDOM.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from edow.errors import InvalidInput
from edow.transport.sqs.options import Options, Order

FIFO = ".fifo"
MOST = 80
_UNSAFE = re.compile(rb"[^A-Za-z0-9.]")
_WORD = r"(?:[A-Za-z0-9-]|_[0-9a-f]{2})+"
_QUEUE = re.compile(rf"(?P<topic>{_WORD})__(?P<group>{_WORD})(?P<suffix>\.fifo)?")
_ESCAPED = re.compile(rb"_([0-9a-f]{2})")


class QueueName(NamedTuple):
    """Whose queue it is."""

    topic: str
    group: str


class Names:
    """The names of one system."""

    def __init__(self, options: Options) -> None:
        self.prefix = _encode(options.prefix)
        self._options = options

    def suffix(self, topic: str) -> str:
        """What names of queues in order end with."""
        return "" if self._options.order(topic) is Order.NONE else FIFO

    def topic(self, topic: str) -> str:
        """What names of the topic's queues begin with, and the name of its SNS topic, but for a suffix."""
        return self.prefix + _named("topic", topic)

    def queue(self, topic: str, group: str) -> str:
        """A group's queue. Raises InvalidInput for what Amazon cannot name."""
        return _fits(f"{self.topic(topic)}__{_named('group', group)}{self.suffix(topic)}", topic)

    def subscriber(self, topic: str, random: str) -> str:
        """The queue of a broadcast subscriber."""
        return _fits(f"{self.subscribers(topic)}{random}", topic)

    def subscribers(self, topic: str) -> str:
        """What the queues of all broadcast subscribers begin with."""
        return f"{self.topic(topic)}_s_"

    def parse(self, queue: str) -> QueueName | None:
        """None: it is no group's queue, or not ours."""
        found = _QUEUE.fullmatch(queue, len(self.prefix)) if queue.startswith(self.prefix) else None
        try:
            name = QueueName(_decode(found["topic"]), _decode(found["group"])) if found else None
        except UnicodeDecodeError:
            return None
        return name if found and name and (found["suffix"] or "") == self.suffix(name.topic) else None


def _named(what: str, name: str) -> str:
    if not name:
        raise InvalidInput(f"a {what} needs a name, not {name!r}")
    try:
        return _encode(name)
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"a {what} cannot be named {name!r}: {problem}") from problem


def _encode(name: str) -> str:
    return _UNSAFE.sub(lambda found: b"_%02x" % ord(found[0]), name.encode()).decode().replace(".", "-")


def _decode(word: str) -> str:
    dotted = word.replace("-", ".").encode()
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), dotted).decode()


def _fits(name: str, topic: str) -> str:
    if len(name) > MOST:
        raise InvalidInput(
            f"the queue of topic {topic!r} would be named {name!r}, which has {len(name)} letters and SQS allows "
            f"{MOST}: use a shorter topic, group or prefix"
        )
    return name
