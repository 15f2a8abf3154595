"""JSON that may be absent survives encoding and decoding."""

from __future__ import annotations

import msgspec
import pytest

from edow.model import history, inbox
from edow.model.failure import Failure
from edow.model.raw import OptionalRaw


@pytest.mark.parametrize("value", [None, b"null", b"7", b'{"a":[1]}'])
def test_what_may_be_absent_comes_back(value: bytes | None) -> None:
    """Absent, null and every other JSON value are told apart after a round trip."""
    raw: OptionalRaw = None if value is None else msgspec.Raw(value)

    command = inbox.decode(inbox.encode(inbox.ChildEnded(run=1, step="child", result=raw)))
    assert isinstance(command, inbox.ChildEnded)
    assert command.result == raw

    [event] = history.decoder.decode(history.encoder.encode([history.TaskRedriven(at=1, step="charge", args=raw)]))
    assert isinstance(event, history.TaskRedriven)
    assert event.args == raw

    failure = Failure(type="ValueError", message="no", args=raw)
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure
