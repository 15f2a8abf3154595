"""Every error of EDOW, by who must act.

EdowError
├── CallerError            the caller is wrong: change the call, the configuration or the code
│   ├── InvalidInput
│   │   ├── NotEncodable           a value that cannot be JSON
│   │   ├── PayloadTooLarge
│   │   └── SignatureMismatch      also a TypeError: arguments that do not fit a task or workflow
│   ├── NotFound                   unknown execution, workflow, task or dead letter
│   ├── AlreadyExists              an execution id that is taken, when asked to reject
│   ├── WrongState                 legal in another state of the execution (signal after its end)
│   │   └── NotAccepted            of records and requests that go together, a request cannot be had
│   ├── ForbiddenInWorkflow        a workflow touched the outside world
│   ├── Disagreement               today's workflow code does not fit the recorded history
│   ├── StoreUnusable              not a database, corrupted, or of a newer schema
│   └── Unsupported                the transport cannot do what was asked
├── Unavailable            try again later: nothing was lost
│   ├── StoreUnavailable           locked, disk full, connection gone
│   ├── TransportUnavailable
│   ├── PublishFailed              names the messages the broker does not have
│   ├── Closed                     used after close
│   ├── RecordChanged              somebody else wrote the record meanwhile: read it again
│   └── LeaseLost                  another orchestrator owns the shard now
├── Failed                 the outcome of somebody's work, delivered to whoever awaits it
│   ├── TaskFailed                 ─ TaskTimedOut, TaskDiscarded
│   ├── WorkflowFailed             ─ WorkflowCancelled, WorkflowTerminated
│   └── Cancelled                  (inside tasks and workflows it is asyncio.CancelledError)
└── Bug                    we are wrong: please report it
"""

from __future__ import annotations


class EdowError(Exception):
    """Root of all errors that EDOW raises on purpose."""


class CallerError(EdowError):
    """The caller is wrong. The message names the thing, the value and the remedy."""


class InvalidInput(CallerError):
    """A value that the entry point cannot accept."""


class NotEncodable(InvalidInput):
    """A value that has no JSON form."""


class PayloadTooLarge(InvalidInput):
    """An encoded payload over the stated limit."""


class SignatureMismatch(InvalidInput, TypeError):
    """Arguments that do not fit the signature of a task or workflow."""


class NotFound(CallerError):
    """No execution, workflow, task or dead letter of that name."""


class AlreadyExists(CallerError):
    """The execution id is taken and the caller asked to reject a second start."""


class WrongState(CallerError):
    """The request is legal, but not in the state that the execution is in."""


class NotAccepted(WrongState):
    """A request beside records was not acceptable and nothing was applied: `outcomes` are those of all requests."""

    def __init__(self, outcomes: tuple[str, ...]) -> None:
        super().__init__(f"not accepted, with the records beside it: {', '.join(outcomes)}; look again and decide anew")
        self.outcomes = outcomes


class ForbiddenInWorkflow(CallerError):
    """Workflow code touched the outside world; the message says what to do instead."""


class Disagreement(CallerError):
    """Today's workflow code does not fit the recorded history of an execution."""


class StoreUnusable(CallerError):
    """The store cannot be used as it is: no database, corrupted, or of a newer schema."""


class Unsupported(CallerError):
    """The transport or store has declared that it cannot do what was asked."""


class Unavailable(EdowError):
    """Try again later; what was accepted before is safe."""


class StoreUnavailable(Unavailable):
    """The store did not answer: locked, disk full, or unreachable. Nothing of the call was applied."""


class TransportUnavailable(Unavailable):
    """The broker did not answer."""


class PublishFailed(TransportUnavailable):
    """The broker does not have these messages: `indexes` are their positions in the batch."""

    def __init__(self, message: str, indexes: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.indexes = indexes


class Closed(Unavailable):
    """The store, transport or client was closed."""


class RecordChanged(Unavailable):
    """A record of the store is not in the version told; nothing was applied: read it again."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"record {kind}/{key} was written by somebody else meanwhile; read it again")
        self.kind = kind
        self.key = key


class LeaseLost(Unavailable):
    """Another orchestrator owns one of the shards now; nothing of the commit was applied."""

    def __init__(self, shards: tuple[int, ...]) -> None:
        super().__init__(f"shards {list(shards)} are owned by another orchestrator now")
        self.shards = shards


class Failed(EdowError):
    """Somebody's work ended in failure. `type` is the original exception's name, `stack` its traceback as text."""

    def __init__(self, message: str, *, type: str = "", stack: str = "", step: str = "") -> None:
        super().__init__(message)
        self.type = type
        self.stack = stack
        self.step = step


class TaskFailed(Failed):
    """A task's attempts have ended without a result."""


class TaskTimedOut(TaskFailed, TimeoutError):
    """A task ran into one of its four timeouts."""


class TaskDiscarded(TaskFailed):
    """An operator discarded the dead letter of this step."""


class WorkflowFailed(Failed):
    """An execution (also a child) ended in failure."""


class WorkflowCancelled(WorkflowFailed):
    """An execution was cancelled."""


class WorkflowTerminated(WorkflowFailed):
    """An execution was terminated or replaced."""


class Bug(EdowError):
    """An internal promise was broken. Please report it."""
