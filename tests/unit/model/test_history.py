"""Stored histories: what an older release has written is read, and what nobody told is not written."""

from edow.model import history
from edow.model.failure import Failure

OLD = b"""[
{"type":"attempt_failed","at":1,"step":"a","attempt":1,"failure":{"type":"E","message":"m"},"retry_at":5,"worker":"w"},
{"type":"task_failed","at":9,"step":"a","attempt":2,"failure":{"type":"E","message":"m"}}
]"""


def test_failures_of_an_older_release_are_read_without_times():
    """It did not record when they began."""
    failed, last = history.decoder.decode(OLD)
    assert isinstance(failed, history.AttemptFailed)
    assert (failed.worker, failed.retry_at, failed.started_at, failed.duration) == ("w", 5, 0, 0)
    assert last == history.TaskFailed(at=9, step="a", attempt=2, failure=Failure(type="E", message="m"))


def test_a_failure_that_no_worker_told_of_says_no_times():
    """A timeout in the queue, say: nothing is stored for it."""
    failed = history.TaskFailed(at=9, step="a", attempt=2, failure=Failure(type="E", message="m"))
    assert b"started_at" not in history.encoder.encode([failed])
    told = history.TaskFailed(
        at=9, step="a", attempt=2, failure=Failure(type="E", message="m"), started_at=3, duration=2
    )
    assert history.decoder.decode(history.encoder.encode([told])) == [told]
