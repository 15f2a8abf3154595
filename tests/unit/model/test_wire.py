"""What travels: a strict CloudEvents reader understands it, and what is no CloudEvent is refused."""

from __future__ import annotations

import msgspec
import pytest

from edow.engine.decision import Decision, Dispatch
from edow.model import wire
from edow.model.execution import Execution
from edow.model.policy import RetryPolicy, StepPolicy
from edow.orchestrator.draft import Draft, Farewell
from edow.worker.reports import Reporter
from tests.unit.worker.harness import task_event

REQUIRED = ("id", "source", "type", "specversion")


class Told:
    event = task_event("t")
    number = 1
    started_at = 0
    duration = 0
    result = msgspec.Raw(b"1")


def dispatch(key: str | None = None) -> Dispatch:
    return Dispatch("s", "t", 1, msgspec.Raw(b"{}"), key, StepPolicy(), 0)


def task_body(key: str | None = None) -> bytes:
    return Draft(0, 1).task_message(Execution(id="e", workflow="w", shard=0), dispatch(key)).body


def result_body() -> bytes:
    return Reporter("w", lambda: 0, 1 << 20).completed(Told()).body  # type: ignore[arg-type]


def cancel_body() -> bytes:
    draft = Draft(0, 1)
    last = Decision()
    last.cancels.append("s")
    draft.abandon([Farewell(Execution(id="e", workflow="w", shard=0), last)])
    draft.finish()
    return draft.messages[0].body


EVENTS = [
    (task_body, wire.decode_task, wire.TASK_TYPE),
    (result_body, wire.decode_result, wire.RESULT_TYPE),
    (cancel_body, wire.decode_cancel, wire.CANCEL_TYPE),
]


@pytest.mark.parametrize(("body", "decode", "kind"), EVENTS)
def test_what_cloudevents_requires_is_on_the_wire(body, decode, kind):
    """Every event says its id, source, type and specversion."""
    sent = msgspec.json.decode(body())
    assert all(sent[name] for name in REQUIRED)
    assert (sent["type"], sent["specversion"]) == (kind, "1.0")


@pytest.mark.parametrize("missing", REQUIRED)
@pytest.mark.parametrize(("body", "decode", "kind"), EVENTS)
def test_an_event_without_what_is_required_is_refused(body, decode, kind, missing):
    """Nothing is assumed for whoever sent it."""
    sent = msgspec.json.decode(body())
    del sent[missing]
    with pytest.raises(msgspec.ValidationError, match=missing):
        decode(msgspec.json.encode(sent))


def test_a_keyed_task_brings_its_whole_policy():
    """Also the default one: a worker in another language need not know what we take as given."""
    retry = msgspec.json.decode(msgspec.json.decode(task_body("k"))["retry"])
    assert set(retry) == set(RetryPolicy.__struct_fields__)
    assert retry["attempts"] == 3


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"type": "io.edow.task.v2", "specversion": "1.0", "id": "7"}, "'7' has type 'io.edow.task.v2'"),
        ({"type": wire.TASK_TYPE, "specversion": "2.0"}, "specversion '2.0'"),
        ({"type": wire.TASK_TYPE}, "specversion ''"),
        ({"type": wire.TASK_TYPE, "specversion": "1.0"}, None),
        ({"other": 1}, None),
        ([1], None),
    ],
)
def test_an_event_of_another_version_says_so_itself(event, said):
    """Whatever else it has or lacks: its type and version are the reason why it is refused."""
    reason = wire.foreign(msgspec.json.encode(event), wire.TASK_TYPE)
    assert said in reason if said else reason is None


def test_bytes_that_are_no_json_are_of_no_version():
    """That they cannot be read is reason enough."""
    assert wire.foreign(b"\xff", wire.TASK_TYPE) is None
