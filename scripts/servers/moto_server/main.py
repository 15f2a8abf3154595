"""moto's server, with its SQS made to keep the promises that Amazon's keeps.

As it is (5.2.5), every request's thread changes plain lists: a message sent while another is being deleted can be lost,
and one that two receive at once be delivered twice. A poll that waits never learns that a FIFO group was given back,
and a group of which several messages have come back begins with the last. A poll whose client was killed takes the
next messages with it. Here one lock serves all queues, given up while a poll waits; a poll looks again when something
happens to its queue, and now and then for what time brings back, but not when its client has gone; and an old receipt
is no receipt. Messages are counted only for those who ask, which it does for each message otherwise; and binary
attributes survive the way through SNS.
"""

from __future__ import annotations

import base64
import functools
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import request  # type: ignore[import-not-found]  # it is in an environment of its own
from moto.server import main  # type: ignore[import-not-found]
from moto.sqs.models import Message, Queue, SQSBackend  # type: ignore[import-not-found]

LOOK_SECONDS = 0.05  # a poll that waits looks as often for leases and delays that have ended
VERBS = (
    "create_queue",
    "delete_queue",
    "list_queues",
    "tag_queue",
    "send_message",
    "send_message_batch",
    "delete_message",
    "delete_message_batch",
    "change_message_visibility",
    "change_message_visibility_batch",
    "purge_queue",
)
LOCK = threading.RLock()
COUNTS = (
    "approximate_number_of_messages",
    "approximate_number_of_messages_delayed",
    "approximate_number_of_messages_not_visible",
)
receive_at_once = SQSBackend.receive_message
make_queue = Queue.__init__
send_attributes = SQSBackend.send_message
get_attributes = SQSBackend.get_queue_attributes
counting = threading.local()


def one_at_a_time(verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def locked(self: SQSBackend, queue_name: str, *arguments: Any, **named: Any) -> Any:
        with LOCK:
            queue = self.queues.get(queue_name)
            try:
                return verb(self, queue_name, *arguments, **named)
            finally:
                if queue is not None:
                    queue._messages_lock.notify_all()

    return locked


def receive(
    self: SQSBackend,
    queue_name: str,
    count: int,
    wait_seconds_timeout: int,
    visibility_timeout: int,
    message_attribute_names: list[str] | None = None,
) -> list[Message]:
    end = time.monotonic() + wait_seconds_timeout
    with LOCK:
        while True:
            queue = self.get_queue(queue_name)
            if client_is_gone():
                return []
            queue._pending_messages = {message for message in queue._pending_messages if not message.visible}
            found: list[Message] = receive_at_once(
                self, queue_name, count, 0, visibility_timeout, message_attribute_names
            )
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            queue._messages_lock.wait(min(LOOK_SECONDS, left) if queue._messages else left)


def client_is_gone() -> bool:
    """Its end of the connection is closed, as the kernel does for a process that was killed."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def get_queue_attributes(self: SQSBackend, queue_name: str, attribute_names: list[str]) -> dict[str, Any]:
    with LOCK:
        counting.now = any(name == "All" or name.startswith("Approximate") for name in attribute_names)
        try:
            return dict(get_attributes(self, queue_name, attribute_names))
        finally:
            counting.now = False


def send_message(self: SQSBackend, *arguments: Any, **named: Any) -> Message:
    for value in (named.get("message_attributes") or {}).values():
        if isinstance(value.get("BinaryValue"), str):
            value["BinaryValue"] = base64.b64decode(value["BinaryValue"])
    return send_attributes(self, *arguments, **named)


def counted_on_demand(count: Callable[[Queue], int]) -> property:
    return property(lambda self: count(self) if getattr(counting, "now", False) else 0)


def make_queue_with_lock(self: Queue, *arguments: Any, **named: Any) -> None:
    make_queue(self, *arguments, **named)
    self._messages_lock = threading.Condition(LOCK)


def is_visible(self: Message) -> bool:
    return bool(time.time() * 1000 >= self.visible_at)


def is_its_receipt(self: Message, receipt_handle: str) -> bool:
    return bool(self.receipt_handle == receipt_handle)


Queue.__init__ = make_queue_with_lock
Message.visible = property(is_visible)
Message.had_receipt_handle = is_its_receipt
SQSBackend.receive_message = receive
SQSBackend.send_message = send_message
SQSBackend.get_queue_attributes = get_queue_attributes
for name in COUNTS:
    setattr(Queue, name, counted_on_demand(getattr(Queue, name).fget))
for name in VERBS:
    setattr(SQSBackend, name, one_at_a_time(getattr(SQSBackend, name)))

main(sys.argv[1:])
