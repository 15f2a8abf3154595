"""Messages as SQS takes them, and back.

SQS carries text of the characters XML allows, not empty. Such a body goes as it is, any other as a binary attribute.
A key is the message's group, where there are groups and Amazon allows it as one; else an attribute. So an ordinary
client reads and writes ordinary messages without knowing of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from edow.errors import InvalidInput
from edow.model.message import Message
from edow.transport.sqs.options import OVERHEAD, Order

BODY = "edow-body"  # attribute: the bytes that could not be the message's text; a String for none at all
KEY = "edow-key"  # attribute: "=" and the percent-encoded key
OWN = "~"  # begins groups that are no keys

_EMPTY: dict[str, str | bytes] = {"DataType": "String", "StringValue": "empty"}
_ALLOWED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_GROUP = re.compile(r"(?!~)[\x21-\x7e]{1,128}")


def decode(message: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """Body and key of what ReceiveMessage answers. Whatever a foreign client has sent is a body, too."""
    attributes = message.get("MessageAttributes", {})
    body = attributes[BODY].get("BinaryValue", b"") if BODY in attributes else message["Body"].encode()
    group = message.get("Attributes", {}).get("MessageGroupId", OWN)
    if value := attributes.get(KEY, {}).get("StringValue"):
        return body, unquote(value[1:], errors="surrogatepass")
    return body, None if group.startswith(OWN) else group


class Entry(NamedTuple):
    """A message on its way. `place`: in the publish; `id`: the same for every attempt; `group`: "" in no FIFO queue."""

    place: int
    id: str
    text: str
    attributes: dict[str, dict[str, str | bytes]]
    group: str
    size: int

    def parameters(self, through_sns: bool) -> dict[str, object]:
        """As the services want it."""
        found: dict[str, object] = {"Id": str(self.place), "Message" if through_sns else "MessageBody": self.text}
        if self.attributes:
            found["MessageAttributes"] = self.attributes
        if self.group:
            found |= {"MessageGroupId": self.group, "MessageDeduplicationId": self.id}
        return found


def encode(place: int, id: str, message: Message, order: Order) -> Entry:
    """For a queue of that order. Raises InvalidInput for a key that leaves no room."""
    text, key = _text(message.body), message.key
    attributes: dict[str, dict[str, str | bytes]] = {}
    if text is None:
        attributes[BODY] = {"DataType": "Binary", "BinaryValue": message.body} if message.body else _EMPTY
    group = "" if order == "none" else OWN if order == "all" else OWN + id
    if key is not None and group and _GROUP.fullmatch(key):
        group = key
    elif key is not None:
        value = "=" + quote(key, safe="", errors="surrogatepass")
        if len(value) > OVERHEAD - 64:
            raise InvalidInput(
                f"message {place} to {message.topic!r} has a key that takes {len(value):,} bytes: shorten it"
            )
        attributes[KEY] = {"DataType": "String", "StringValue": value}
        group = group and OWN + sha256(value.encode()).hexdigest()
    return Entry(place, id, text or "-", attributes, group, len(message.body) + OVERHEAD)


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if _ALLOWED.fullmatch(text) else None
