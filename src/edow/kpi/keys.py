"""Which keys get most of the messages: the heaviest of a stream, in bounded memory.

Space-saving counters in their mergeable form (Agarwal et al., "Mergeable summaries", 2012): a key's count is never too
high and never by more than `missed` too low, and `missed` is at most all / (kept + 1). So a key with a larger share
than that is always found.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

KEPT = 100
SHOWN = 10
LIGHT = 0.01  # share below which a key is not worth telling
HOT = 0.2  # share of all messages from which on a key holds up others
OTHERS_WAIT = "keys of one partition wait for each other: give this key a topic of its own, or split it (KEY/0, KEY/1)"
ALONE = "nearly everything has this key, so it runs one at a time: leave out the key, or split it (KEY/0, KEY/1)"


class HotKey(msgspec.Struct, frozen=True):
    """`share` of the topic's messages with a key, as a lower limit."""

    topic: str
    key: str
    messages: int
    share: float
    action: str  # what may help; empty: nothing need be done


class Keys(msgspec.Struct, array_like=True):
    """Of one topic. `all` messages had a key."""

    counts: dict[str, int] = {}
    all: int = 0
    missed: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """So many messages with each key."""
        mine = self.counts
        for key, count in counts.items():
            mine[key] = mine.get(key, 0) + count
            self.all += count
        if len(mine) > KEPT:
            self._keep_heaviest()

    def merge(self, other: Keys) -> None:
        self.missed += other.missed
        self.all += other.all - sum(other.counts.values())
        self.add(other.counts)

    def heaviest(self, topic: str) -> list[HotKey]:
        """The most frequent first; those that have hardly anything are left out."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [self._told(topic, key, count) for key, count in ranked[:SHOWN] if count >= LIGHT * self.all]

    def _told(self, topic: str, key: str, count: int) -> HotKey:
        share = count / self.all
        action = "" if share < HOT else ALONE if share > 1 - HOT else OTHERS_WAIT
        return HotKey(topic, key, count, share, action)

    def _keep_heaviest(self) -> None:
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        cut = ranked[KEPT][1]
        self.missed += cut
        self.counts = {key: count - cut for key, count in ranked[:KEPT] if count > cut}
