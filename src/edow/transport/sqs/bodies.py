"""Messages as SQS takes them, and back.

SQS carries text of the characters XML allows, not empty. Such a body goes as it is, any other as a binary attribute.
A key is the message's group, where there are groups and Amazon allows it as one; else an attribute. So an ordinary
client reads and writes ordinary messages without knowing of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote, unquote

import msgspec

from edow.model.message import Message
from edow.transport.sqs.options import Order

BODY = "edow-body"  # attribute: the bytes that could not be the message's text; a String for none at all
KEY = "edow-key"  # attribute: "=" and the percent-encoded key
ATTRIBUTES = [BODY, KEY]
SYSTEM_ATTRIBUTES = ["ApproximateReceiveCount", "MessageGroupId"]
INSTEAD = "-"  # the text of a message whose body is an attribute
OWN = "~"  # begins groups that are no keys

_PLAIN = re.compile(rb"[\t\n\r\x20-\x7e]+")
_ALLOWED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_GROUP = re.compile(r"(?!~)[\x21-\x7e]{1,128}")


class Value(msgspec.Struct, frozen=True, rename="pascal"):
    """A message attribute."""

    data_type: str
    string_value: str | None = None
    binary_value: bytes | None = None


class Received(msgspec.Struct, frozen=True, rename="pascal"):
    """A message of an answer to ReceiveMessage."""

    message_id: str
    receipt_handle: str
    body: str = ""
    attributes: dict[str, str] = {}
    message_attributes: dict[str, Value] = {}

    @property
    def count(self) -> int:
        return int(self.attributes.get("ApproximateReceiveCount", "1"))


class Entry(msgspec.Struct, frozen=True):
    """A message of a publish. `index`: its place there; `id`: the same for every attempt to send it."""

    index: int
    id: str
    text: str
    attributes: dict[str, dict[str, str | bytes]]
    key: str | None
    group: str
    size: int


def encode(index: int, id: str, message: Message, order: Order) -> Entry:
    """For a queue of that order."""
    text = _text(message.body)
    attributes: dict[str, dict[str, str | bytes]] = {}
    if text is None:
        text = INSTEAD
        attributes[BODY] = (
            {"DataType": "Binary", "BinaryValue": message.body}
            if message.body
            else {"DataType": "String", "StringValue": "empty"}
        )
    group = OWN if order is Order.ALL else OWN + id
    if (key := message.key) is not None:
        if order is not Order.NONE and _GROUP.fullmatch(key):
            group = key
        else:
            group = OWN + sha256(key.encode(errors="surrogatepass")).hexdigest()
            value = "=" + quote(key, safe="", errors="surrogatepass")
            attributes[KEY] = {"DataType": "String", "StringValue": value}
    size = len(message.body) + sum(_size(name, value) for name, value in attributes.items())
    return Entry(index, id, text, attributes, key, group, size)


def decode(received: Received) -> tuple[bytes, str | None]:
    """Body and key. Whatever a foreign client has sent is a body, too."""
    return _body(received), _key(received.message_attributes, received.attributes.get("MessageGroupId", OWN))


def _text(body: bytes) -> str | None:
    if _PLAIN.fullmatch(body):
        return body.decode("ascii")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if _ALLOWED.fullmatch(text) else None


def _body(received: Received) -> bytes:
    value = received.message_attributes.get(BODY)
    if value is None:
        return received.body.encode()
    return value.binary_value or b""


def _key(attributes: Mapping[str, Value], group: str) -> str | None:
    value = attributes.get(KEY)
    if value is not None and value.string_value:
        return unquote(value.string_value[1:], errors="surrogatepass")
    return None if group.startswith(OWN) else group


def _size(name: str, value: Mapping[str, str | bytes]) -> int:
    return len(name) + sum(len(part) for part in value.values())
