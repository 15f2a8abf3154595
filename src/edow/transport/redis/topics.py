"""Topics and their queues: one for each consumer group, one for all broadcast listeners.

The truth is a hash in Redis that every publishing reads anew, so that a message published after a group was made
reaches it, whichever process made it. What is remembered here is for one purpose: to make it again when the server has
lost everything (FLUSHALL, a restart without persistence), so that nobody has to restart anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.redis.link import Link

EVERYBODY = ""  # the group of a broadcast queue

Groups = Mapping[str, str]  # queue by group

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class Topics:
    """`key`: the hash in Redis, {group: queue} in JSON by topic."""

    def __init__(self, link: Link, root: str) -> None:
        self._link = link
        self._root = root
        self.key = f"{root}:topics"
        self._known: dict[str, bytes] = {}

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Make what is missing. Raises InvalidInput for a name that is empty, TransportUnavailable."""
        wanted: dict[str, dict[str, str]] = {}
        for spec in specs:
            _check_name("topic", spec.name)
            for group in spec.groups:
                _check_name("group", group)
            wanted.setdefault(spec.name, {}).update((group, self._queue(spec.name, group)) for group in spec.groups)
        await self._make(wanted)

    async def join(self, names: Iterable[str], group: str) -> None:
        """Make the queues of a group, or of EVERYBODY, in topics that exist."""
        await self._make({name: {group: self._queue(name, group)} for name in names})

    async def queues(self, topics: Sequence[str], group: str) -> list[tuple[str, str]]:
        """Topic and queue. Raises InvalidInput when there is no such topic, or no such group of it."""
        (found,) = cast("list[list[bytes | None]]", await self._link.ask(("HMGET", self.key, *topics)))
        for topic, groups in zip(topics, found, strict=True):
            if groups is None:
                raise unknown(topic)
            if group not in _decode(groups) and group != EVERYBODY:
                raise InvalidInput(f"topic {topic!r} has no group {group!r}: make it with transport.ensure() first")
            self.remember([topic], [groups])
        return [(topic, self._queue(topic, group)) for topic in topics]

    def remember(self, topics: Sequence[str], groups: Sequence[bytes]) -> None:
        """What the server has just said."""
        self._known.update(zip(topics, groups, strict=True))

    def knows(self, topic: str) -> bool:
        """Whether it has existed once."""
        return topic in self._known

    async def restore(self) -> None:
        """Make everything again that has existed."""
        await self._make({topic: _decode(groups) for topic, groups in self._known.items()})

    async def _make(self, wanted: Mapping[str, Groups]) -> None:
        if not wanted:
            return
        queues = [queue for groups in wanted.values() for queue in groups.values()]
        pairs = [part for topic, groups in wanted.items() for part in (topic, _encode(groups))]
        await self._link.run("ensure", [self.key, *queues], pairs)
        for topic, groups in wanted.items():
            known = _decode(self._known.get(topic, b"{}"))
            self._known[topic] = _encode({**known, **groups})

    def _queue(self, topic: str, group: str) -> str:
        return f"{self._root}:{_escaped(topic)}:{_escaped(group)}"


def has_group(groups: bytes | None, group: str) -> bool:
    """Whether a topic is there, and with this group, or EVERYBODY."""
    return groups is not None and group in _decode(groups)


def unknown(topic: str) -> InvalidInput:
    """To be raised."""
    return InvalidInput(f"topic {topic!r} does not exist: make it with transport.ensure() first")


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")


def _check_name(what: str, name: str) -> None:
    if not name:
        raise InvalidInput(f"a {what} needs a name, not {name!r}")
