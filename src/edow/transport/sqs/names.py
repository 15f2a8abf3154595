"""Names of queues and topics at Amazon, and back.

Amazon allows letters, digits, hyphens and underscores, 80 in all for a queue. A dot becomes a hyphen and anything else
`_` and two hexadecimal digits per byte, so that `edow.tasks.default` reads `edow-tasks-default` and no two
names become one. A group's queue is TOPIC__GROUP, a broadcast subscriber's TOPIC_s_RANDOM.
"""

from __future__ import annotations

import re

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.sqs.options import Options

FIFO = ".fifo"
MOST = 80
_UNSAFE = re.compile(rb"[^A-Za-z0-9.]")
_ESCAPED = re.compile(rb"_([0-9a-f]{2})")
_WORD = re.compile(r"(?:[A-Za-z0-9-]|_[0-9a-f]{2})+")


class Names:
    """The names of one system."""

    def __init__(self, options: Options) -> None:
        self.prefix = _encode(options.prefix)
        self._options = options

    def topic(self, topic: str) -> str:
        """What names of the topic's queues begin with, and the name of its SNS topic."""
        return self.prefix + _named("topic", topic)

    def queue(self, topic: str, group: str) -> str:
        """A group's queue."""
        return _fits(f"{self.topic(topic)}__{_named('group', group)}{self._suffix(topic)}", topic)

    def group(self, topic: str, queue: str) -> str | None:
        """Whose queue of the topic it is; None: no group's."""
        start, end = f"{self.topic(topic)}__", self._suffix(topic)
        word = queue.removeprefix(start).removesuffix(end)
        return _decode(word) if queue == start + word + end and _WORD.fullmatch(word) else None

    def check(self, spec: TopicSpec) -> None:
        """Raises InvalidInput for what Amazon cannot name."""
        self.listener(spec.name)
        for group in spec.groups:
            self.queue(spec.name, group)

    def listener(self, topic: str, random: str = "") -> str:
        """The queue of a broadcast subscriber, or what the names of all of them begin with."""
        return _fits(f"{self.topic(topic)}_s_{random}", topic)

    def _suffix(self, topic: str) -> str:
        return "" if self._options.order(topic) == "none" else FIFO


def _named(what: str, name: str) -> str:
    if not name:
        raise InvalidInput(f"a {what} needs a name, not {name!r}")
    try:
        return _encode(name)
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"a {what} cannot be named {name!r}: {problem}") from problem


def _encode(name: str) -> str:
    return _UNSAFE.sub(lambda found: b"_%02x" % ord(found[0]), name.encode()).decode().replace(".", "-")


def _decode(word: str) -> str | None:
    dotted = word.replace("-", ".").encode()
    try:
        return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), dotted).decode()
    except UnicodeDecodeError:
        return None


def _fits(name: str, topic: str) -> str:
    if len(name) > MOST:
        raise InvalidInput(
            f"the queue of topic {topic!r} would be named {name!r}, which has {len(name)} letters and SQS allows "
            f"{MOST}: use a shorter topic, group or prefix"
        )
    return name
