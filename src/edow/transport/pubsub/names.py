"""EDOW's names as Pub/Sub's. The mapping can be read back: what Pub/Sub does not allow in a name is percent-encoded."""

from __future__ import annotations

import re
from urllib.parse import quote

from edow.errors import InvalidInput

_ALLOWED = re.compile(r"(?i:(?!goog)[a-z][a-z0-9._~+%-]{2,254})")


class Names:
    """Resource names in one project. A group's subscription is TOPIC+GROUP; an encoded name never has a plus sign."""

    def __init__(self, project: str, prefix: str) -> None:
        self.project = f"projects/{project}"
        self._prefix = prefix

    def topic(self, topic: str) -> str:
        """projects/PROJECT/topics/ID. Raises InvalidInput for a name that Pub/Sub does not take."""
        return f"{self.project}/topics/{self._id(topic)}"

    def subscription(self, topic: str, group: str) -> str:
        """projects/PROJECT/subscriptions/ID."""
        if not group:
            raise InvalidInput(f"a consumer group of topic {topic!r} needs a name, not {group!r}")
        return f"{self.project}/subscriptions/{_checked(f'{self._id(topic)}+{_encoded(group)}', group)}"

    def own_subscription(self, topic: str, owner: str) -> str:
        """The subscription of one broadcast subscriber; no group has such a name."""
        return f"{self.project}/subscriptions/{_checked(f'{self._id(topic)}++{owner}', topic)}"

    def _id(self, topic: str) -> str:
        if not topic:
            raise InvalidInput(f"a topic needs a name, not {topic!r}")
        return _checked(_encoded(self._prefix + topic), topic)


def _encoded(name: str) -> str:
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"name {name!r} is no valid text: {problem}") from problem


def _checked(name: str, given: str) -> str:
    if _ALLOWED.fullmatch(name):
        return name
    raise InvalidInput(
        f"{given!r} would be {name!r} in Pub/Sub, where a name has 3 to 255 characters, begins with a letter and not "
        "with goog: rename it, or set the URL's prefix option"
    )
