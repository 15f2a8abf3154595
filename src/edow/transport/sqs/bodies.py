"""Messages as SQS takes them, and back.

SQS carries text of the characters XML allows, not empty. Such a body goes as it is, any other as a binary attribute.
A key is the message's group, where there are groups and Amazon allows it as one; else an attribute. So an ordinary
client reads and writes ordinary messages without knowing of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote

from edow.errors import InvalidInput
from edow.model.message import Message
from edow.transport.sqs.options import OVERHEAD, Order

BODY = "edow-body"  # attribute: the bytes that could not be the message's text; a String for none at all
KEY = "edow-key"  # attribute: "=" and the percent-encoded key
OWN = "~"  # begins groups that are no keys

_ALLOWED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_GROUP = re.compile(r"(?!~)[\x21-\x7e]{1,128}")


def encode(message: Message, id: str, order: Order) -> dict[str, Any]:
    """An entry of SendMessageBatch, for a queue of that order. `id`: the same for every attempt to send it.

    Raises InvalidInput for a key that leaves no room.
    """
    text, key = _text(message.body), message.key
    group = OWN if order == "all" else OWN + id
    attributes: dict[str, dict[str, str | bytes]] = {}
    if text is None and message.body:
        attributes[BODY] = {"DataType": "Binary", "BinaryValue": message.body}
    elif text is None:
        attributes[BODY] = {"DataType": "String", "StringValue": "empty"}
    if key is not None and order != "none" and _GROUP.fullmatch(key):
        group = key
    elif key is not None:
        value = "=" + quote(key, safe="", errors="surrogatepass")
        if len(value) > OVERHEAD - 64:
            raise InvalidInput(f"a message to {message.topic!r} has a key that takes {len(value):,} bytes: shorten it")
        attributes[KEY] = {"DataType": "String", "StringValue": value}
        group = OWN + sha256(value.encode()).hexdigest()
    in_order = {"MessageGroupId": group, "MessageDeduplicationId": id} if order != "none" else {}
    return {"MessageBody": text or "-", "MessageAttributes": attributes, **in_order}


def decode(message: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """Body and key of what ReceiveMessage answers. Whatever a foreign client has sent is a body, too."""
    attributes = message.get("MessageAttributes", {})
    body = attributes[BODY].get("BinaryValue", b"") if BODY in attributes else message["Body"].encode()
    if value := attributes.get(KEY, {}).get("StringValue"):
        return body, unquote(value[1:], errors="surrogatepass")
    group = message.get("Attributes", {}).get("MessageGroupId", OWN)
    return body, None if group.startswith(OWN) else group


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if _ALLOWED.fullmatch(text) else None
