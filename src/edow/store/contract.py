"""What a store promises, whichever database is behind it.

A store keeps executions, their histories, the inbox of commands, leases, dead letters and (for transports that are
not in the same database) the outbox. It applies each call whole or not at all, has it on disk when the call returns,
and knows nothing of what the bytes mean. All times are given by the caller, in microseconds.

Errors: `StoreUnavailable` (try again; nothing was applied), `StoreUnusable` (at open), `LeaseLost` (commit),
`RecordChanged` (where records are written) and `NotAccepted` (records_put), `Closed`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from edow.model.execution import Execution, Standing, Status
from edow.model.message import Message

READ_BYTES = 32 * 1024 * 1024  # of what is read at once, or one row that has more
PURGE_EVENTS = 100_000  # of executions deleted in one transaction: others wait for it, or the server ends it

IfExists = Literal["attach", "reject", "replace"]
LETTER = "dead_letter"  # what RecordChanged says of a letter that somebody else has acted on


class StartRequest(msgspec.Struct, frozen=True):
    """Store a new execution: its row, `segment` (the JSON array holding its Started event) and a Start command.

    If the id is taken: *attach* stores nothing; *reject* answers "exists"; *replace* ends the current run as terminated
    (whatever its state) and begins run + 1.
    """

    execution: Execution
    segment: bytes
    if_exists: IfExists = "attach"


class CommandRequest(msgspec.Struct, frozen=True):
    """Append `command` (an encoded inbox command) to the inbox of an execution that has not ended."""

    execution: str
    command: bytes


Request = StartRequest | CommandRequest


class Answer(msgspec.Struct, frozen=True):
    """What became of one request. `run` and `status` are those of the execution afterwards.

    accepted: stored. attached: a start found the id taken, nothing stored. exists: rejected start.
    missing: no such execution. ended: a command for an execution that has ended.
    """

    outcome: Literal["accepted", "attached", "exists", "missing", "ended"]
    run: int = 0
    status: Status = Status.RUNNING


class InboxRow(msgspec.Struct, frozen=True):
    seq: int
    execution: str
    shard: int
    command: bytes


class OutboxRow(msgspec.Struct, frozen=True):
    seq: int
    message: Message


class Append(msgspec.Struct, frozen=True):
    """One decision's events of one execution: `segment` is their JSON array, `seq` the position of the first
    (0-based).
    """

    execution: str
    run: int
    seq: int
    count: int
    segment: bytes


class Update(msgspec.Struct, frozen=True):
    """Overwrite an execution's row (all but what it was born with: id, workflow, shard, correlation, trace, parent,
    started_at), only if it is still in `run` and open.
    """

    run: int
    execution: Execution


class DeadLetter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A failure that somebody should look at, with everything needed to act on it. One row per (execution, run, step);
    a later failure of the same step replaces it. Poison that belongs to no execution has `execution` "" and a unique
    step.
    """

    id: str  # execution/run/step
    execution: str
    run: int
    step: str
    task: str
    shard: int = 0
    state: Literal["parked", "raised", "redriven", "discarded"] = "parked"
    args: msgspec.Raw = msgspec.Raw(b"null")  # parameters by name; for poison: {"base64": ..., "bytes": ...}
    failure: msgspec.Raw = msgspec.Raw(b"null")  # a Failure
    attempts: int = 0
    workflow: str = ""
    correlation: str = ""
    trace: str = ""
    at: int = 0
    reason: str = ""  # why it was discarded
    fingerprint: str = ""  # of failures of the same kind: see edow.model.failure
    lot: str = ""  # why it was set aside (the parking lot); a later failure of the step brings it back

    @property
    def source(self) -> str:
        """The task; of poison, where it came from: a topic, or `trigger/NAME` or `endpoint/NAME`."""
        return self.task or self.step.rpartition("@")[0]


class Heartbeat(msgspec.Struct, frozen=True):
    """What a running attempt last reported; `details` None deletes."""

    execution: str
    run: int
    step: str
    details: bytes | None


class NewExecution(msgspec.Struct, frozen=True):
    """A child execution, stored with its parent's decision; it also gets a Start command in its shard's inbox.

    If the id is taken nothing is stored; instead `if_taken` (an encoded command) goes to the inbox of
    `execution.parent`.
    """

    execution: Execution
    segment: bytes
    if_taken: bytes


class LetterState(msgspec.Struct, frozen=True):
    """A dead letter has been acted on: only its state and reason change. With a commit: whatever its state was; beside
    records: only of one that waited.
    """

    id: str
    state: Literal["redriven", "discarded"]
    reason: str = ""


class Put(msgspec.Struct, frozen=True):
    """Write a record, or delete it (`body` None), if it has the version told: None: whichever; 0: there must be
    none. `quiet`: nobody waits for it, so nobody is woken.
    """

    kind: str
    key: str
    body: bytes | None
    if_version: int | None = None
    expires_at: int | None = None
    quiet: bool = False


Channel = Literal["inbox", "ended", "records"]


def told(puts: Iterable[Put]) -> set[str]:
    """Who is to be woken by these."""
    return set() if all(put.quiet for put in puts) else {"records"}


class Commit(msgspec.Struct, kw_only=True):
    """Everything one cycle of an orchestrator decided: applied in one transaction or not at all.

    `leases` maps every shard touched to the epoch under which it is owned; if any of them is no longer so, nothing is
    applied and `LeaseLost` is raised.
    """

    leases: Mapping[int, int]
    appends: Sequence[Append] = ()
    updates: Sequence[Update] = ()
    children: Sequence[NewExecution] = ()
    commands: Sequence[tuple[str, int, bytes]] = ()  # (execution, shard, encoded command) for other executions' inboxes
    inbox_done: Sequence[int] = ()
    messages: Sequence[Message] = ()
    outbox_done: Sequence[int] = ()
    acks: Sequence[object] = ()  # deliveries consumed; only with an enlisted transport
    dead_letters: Sequence[DeadLetter] = ()
    letters_closed: Sequence[LetterState] = ()
    heartbeats: Sequence[Heartbeat] = ()
    records: Sequence[Put] = ()  # what is to be done about it, by whoever reads them


class Stored(msgspec.Struct):
    """All that is needed to rebuild an execution: its row, its history's segments in order, and last heartbeats by
    step.
    """

    execution: Execution
    segments: list[bytes]
    heartbeats: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of the history."""
        return sum(map(len, self.segments))


class ExecutionFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Conditions are joined by *and*; `status` is any of these. `attributes` compares equal by top-level key. Newest
    first.
    """

    workflow: str | None = None
    status: Collection[Status | Standing] | None = None
    id_prefix: str | None = None
    started_after: int | None = None
    started_before: int | None = None
    attributes: Mapping[str, str | int | float | bool] | None = None
    cursor: str | None = None  # opaque: from the previous page
    limit: int = 100


class Page(msgspec.Struct, frozen=True):
    executions: list[Execution]
    cursor: str | None  # None: this was the last page


class DeadLetterFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    ids: Collection[str] | None = None
    execution: str | None = None
    task: str | None = None
    source: str | None = None  # of poison: see `DeadLetter.source`
    state: str | None = "parked"  # None: any
    error: str | None = None  # substring of the failure's type or message
    fingerprint: str | None = None
    before: int | None = None  # that failed earlier than then
    aside: bool | None = False  # in the parking lot; None, and when `ids` are given: there or not
    cursor: str | None = None  # `letter_cursor` of the last one seen
    limit: int = 1000
    whole: bool = True  # or without arguments and failures, which may be large


class LetterGroup(msgspec.Struct, frozen=True):
    """Parked dead letters of one fingerprint; `newest` is one of them, without its arguments."""

    fingerprint: str
    count: int
    first_at: int
    last_at: int
    newest: DeadLetter


class Counts(msgspec.Struct, frozen=True):
    """What `edow doctor` and the reconciler look at."""

    by_status: dict[str, int]
    dead_letters: int  # parked, and not in the parking lot
    inbox: int
    inbox_oldest_at: int | None
    outbox: int
    overdue: int  # running executions whose wake_at passed more than 10 s ago
    healed: int  # total counted by `count_healed`
    bytes: int  # on disk


class Lease(msgspec.Struct, frozen=True):
    shard: int
    owner: str
    epoch: int
    until: int


class Share(NamedTuple):
    """How many orchestrators are alive, and the leases of all of them."""

    members: int
    leases: list[Lease]


class Record(msgspec.Struct, frozen=True):
    """A small document of any component above the store: a schedule, a token, an entry of the audit log. `version` is
    another after every write, also when the record was deleted and made again.
    """

    kind: str
    key: str
    body: bytes
    version: int
    at: int  # when it was last written
    expires_at: int | None = None  # from then on `records_purge` may delete it; until then it is there


class RecordFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records of a kind whose keys begin with `prefix`, in the order of their keys (as UTF-8)."""

    kind: str
    prefix: str = ""
    after: str | None = None  # begin behind this key, in the direction of reading
    descending: bool = False
    limit: int = 1000


class Watch(Protocol):
    """A wake-up that is never lost: a notification between two waits makes the next wait return at once."""

    async def wait(self, seconds: float) -> bool:
        """True when notified, False when `seconds` have passed."""

    def close(self) -> None: ...


class Store(Protocol):
    """See the module's text. Safe to use from one event loop; several processes may share one database."""

    @property
    def name(self) -> str:
        """For people: sqlite, postgresql."""

    @property
    def shards(self) -> int:
        """How many shards the executions are spread over; fixed when the database is created. Known after open()."""

    async def open(self) -> None:
        """Create or migrate the schema. Raises StoreUnusable, StoreUnavailable."""

    async def close(self) -> None:
        """Finish what was begun, then let go. Idempotent."""

    def enlist(self, transport: Any) -> None:
        """From now on `commit` hands messages and acks to this transport instead of the outbox, in its own transaction.
        The transport lives in this store's database, and how they do it is between the two drivers.
        """

    # clients

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        """Store all acceptable requests in one transaction (shared with other callers); an answer for each, in
        order.
        """

    async def executions_get(self, ids: Sequence[str]) -> list[Execution | None]: ...

    async def executions_list(self, where: ExecutionFilter) -> Page: ...

    async def history_get(self, execution: str, run: int) -> list[bytes]:
        """The run's segments in order; empty if there is none."""

    async def dead_letters_list(self, where: DeadLetterFilter) -> list[DeadLetter]:
        """Oldest first."""

    async def dead_letters_close(
        self, ids: Sequence[str], state: str, reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        """Set the state of parked letters that belong to no execution; how many there were. With the records, in one
        transaction; raises RecordChanged, with nothing applied, as `records_put`.
        """

    async def dead_letters_purge(self, failed_before: int, limit: int) -> int:
        """Delete up to `limit` letters that belong to no execution and failed earlier than then, but for those in the
        parking lot; how many.
        """

    async def dead_letters_groups(self, aside: bool, limit: int) -> list[LetterGroup]:
        """Those that are parked, in the parking lot or not, by fingerprint; the largest groups first."""

    async def dead_letters_set_aside(
        self, ids: Sequence[str], reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        """Put parked letters into the parking lot; back, with the reason ""; how many there were. Records as above."""

    async def counts(self, now: int) -> Counts:
        """Where counting the executions takes long, `by_status` may be as old as 50 times that: see `Tally`."""

    async def records_put(
        self,
        puts: Sequence[Put],
        now: int,
        requests: Sequence[Request] = (),
        letters: Sequence[LetterState] = (),
        *,
        all_or_nothing: bool = False,
    ) -> list[Answer]:
        """All of `puts`, and what is acceptable of `requests`, in one transaction: what a record says was done, was
        done exactly once. `letters` are closed with it, however many look at them. Raises RecordChanged, with nothing
        applied, if a record has another version than told, or a letter is not parked any more (its kind is LETTER), and
        with `all_or_nothing` NotAccepted, likewise, unless every request is accepted.
        """

    async def records_get(self, kind: str, keys: Sequence[str]) -> list[Record | None]: ...

    async def records_list(self, where: RecordFilter) -> list[Record]: ...

    async def records_purge(self, now: int, limit: int) -> int:
        """Delete up to `limit` records that have expired; how many."""

    # orchestrators

    async def leases_hold(self, owner: str, wanted: int, now: int, until: int) -> list[Lease]:
        """Renew this owner's leases and take free or expired ones until it has `wanted`; drop those above it.
        Returns the leases of *all* owners as they stand now. Taking a lease raises its epoch; renewing does not."""

    async def leases_share(self, owner: str, now: int, until: int) -> Share:
        """Say that this orchestrator is alive until then, and hold an even share of the shards, rounded up, in one
        transaction: what an orchestrator does all its life, so it costs one.
        """

    async def leases_release(self, owner: str) -> None: ...

    async def commit(self, commit: Commit) -> list[int]:
        """Apply all of it, durably, or raise (LeaseLost, RecordChanged, StoreUnavailable) with nothing applied.
        Returns the outbox numbers given to `messages`, in order; empty when a transport is enlisted."""

    async def inbox_read(
        self, shards: Collection[int], taken: Collection[int], limit: int, most_bytes: int = READ_BYTES
    ) -> list[InboxRow]:
        """The oldest commands of these shards whose seq is not in `taken` (read before, not committed yet). Fewer than
        the limit when these are all, or when together they have `most_bytes` or more: the last one may go beyond.
        """

    async def outbox_read(self, shards: Collection[int], limit: int, most_bytes: int = READ_BYTES) -> list[OutboxRow]:
        """Messages committed but never marked done: read once, when a shard is taken over. As many as above."""

    async def due_read(self, shards: Collection[int], until: int, limit: int) -> list[tuple[str, int]]:
        """(execution, wake_at) of running executions with wake_at <= until, earliest first."""

    async def load(self, ids: Sequence[str]) -> list[Stored]:
        """The current run of each execution that exists, in any order."""

    async def stalled(self, shards: Collection[int], now: int, limit: int) -> list[str]:
        """Running executions whose wake_at passed more than 10 s ago, longest overdue first."""

    async def count_healed(self, count: int) -> None: ...

    async def purge(self, ended_before: int, limit: int, most_events: int = PURGE_EVENTS) -> int:
        """Delete ended executions with history, heartbeats and dead letters, those that ended first before others; how
        many. Up to `limit`, and fewer where their last runs have more events together, but one in any case.
        """

    def watch(self, channel: Channel) -> Watch:
        """Notified after a commit (of any process on this database) that put something there. `records`: any of them,
        unless all were quiet.
        """
