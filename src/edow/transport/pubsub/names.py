"""EDOW's names as Pub/Sub's. The mapping can be read back: what Pub/Sub does not allow in a name is percent-encoded."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from urllib.parse import quote

from edow.errors import InvalidInput
from edow.transport.pubsub.options import PubsubOptions

_ALLOWED = re.compile(r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}")


class Names:
    """Resource names in one project. A group's subscription is TOPIC+GROUP; an encoded name never has a plus sign."""

    def __init__(self, project: str, options: PubsubOptions) -> None:
        self.project = f"projects/{project}"
        self._prefix = options.prefix
        self._in_order = [each for each in options.in_order.split(",") if each]

    def topic(self, topic: str) -> str:
        """projects/PROJECT/topics/ID. Raises InvalidInput for a name that Pub/Sub does not take."""
        return f"{self.project}/topics/{self._topic_id(topic)}"

    def subscription(self, topic: str, group: str) -> str:
        """projects/PROJECT/subscriptions/ID."""
        if not group:
            raise InvalidInput(f"a consumer group of topic {topic!r} needs a name, not {group!r}")
        return f"{self.project}/subscriptions/{_checked(f'{self._topic_id(topic)}+{_encoded(group)}', 'group', group)}"

    def own_subscription(self, topic: str, owner: str) -> str:
        """The subscription of one broadcast subscriber; no group has such a name."""
        return f"{self.project}/subscriptions/{_checked(f'{self._topic_id(topic)}++{owner}', 'topic', topic)}"

    def keeps_order(self, topic: str) -> bool:
        """Whether the topic's messages without a key keep their order."""
        return any(fnmatchcase(topic, pattern) for pattern in self._in_order)

    def _topic_id(self, topic: str) -> str:
        if not topic:
            raise InvalidInput(f"a topic needs a name, not {topic!r}")
        return _checked(_encoded(self._prefix + topic), "topic", topic)


def _encoded(name: str) -> str:
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"name {name!r} is no valid text: {problem}") from problem


def _checked(name: str, what: str, given: str) -> str:
    if _ALLOWED.fullmatch(name) and not name.lower().startswith("goog"):
        return name
    raise InvalidInput(
        f"{what} {given!r} would be {name!r} in Pub/Sub, where a name has 3 to 255 characters, begins with a letter "
        "and not with goog: rename it, or set the URL's prefix option"
    )
