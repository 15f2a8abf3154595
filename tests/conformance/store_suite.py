"""What every store must do, as scenarios. A driver takes part by subclassing `StoreSuite` (test_stores.py).

Time is given by the tests, so nothing here waits for a clock but the wake-ups.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from edow.errors import Closed, InvalidInput, LeaseLost, NotAccepted, RecordChanged
from edow.model import inbox
from edow.model.execution import ENDED, Execution, Parent, Standing, Status, shard_of
from edow.model.failure import PAUSED, Failure
from edow.model.message import Message
from edow.store.contract import (
    LETTER,
    Answer,
    Append,
    CommandRequest,
    Commit,
    DeadLetter,
    DeadLetterFilter,
    ExecutionFilter,
    Heartbeat,
    LetterGroup,
    LetterState,
    NewExecution,
    Put,
    Record,
    RecordFilter,
    StartRequest,
    Store,
    Update,
)
from edow.store.paging import letter_cursor

T0 = 1_700_000_000_123_456  # a moment, in microseconds, that has all its digits
SECOND = 1_000_000
SOON = 5.0  # seconds that a wake-up may take; hung tests end here
CHILD = Path(__file__).parent / "store_child.py"

Open = Callable[[], Awaitable[Store]]


def load_factory(factory: str) -> Callable[[str], Store]:
    """`module:function`; the function makes a store, not open yet, for an address."""
    module, _, name = factory.partition(":")
    made: Callable[[str], Store] = getattr(import_module(module), name)
    return made


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def start(
    store: Store, id: str, if_exists: str = "attach", *, at: int = T0, workflow: str = "flow", **row: object
) -> StartRequest:
    """A request to start `id`; its first segment tells the input."""
    given = {"input": raw({"n": 1}), "events": 1, **row}
    execution = Execution(id=id, workflow=workflow, shard=shard_of(id, store.shards), started_at=at, **given)  # type: ignore[arg-type]
    return StartRequest(execution, segment("started", id), if_exists)  # type: ignore[arg-type]


def segment(*parts: object) -> bytes:
    return msgspec.json.encode(parts)


async def begin(store: Store, *ids: str, **row: object) -> list[Execution]:
    """Start them; their rows."""
    await store.accept([start(store, id, **row) for id in ids], T0)  # type: ignore[arg-type]
    return [row for row in await store.executions_get(ids) if row is not None]


async def own(store: Store, owner: str = "me", at: int = T0) -> dict[int, int]:
    """Take all shards; the leases to commit with."""
    leases = await store.leases_hold(owner, store.shards, at, at + 10 * SECOND)
    return {lease.shard: lease.epoch for lease in leases if lease.owner == owner}


def changed(row: Execution, **changes: object) -> Update:
    """An update of the row as it was read."""
    return Update(row.run, msgspec.structs.replace(row, **changes))


def dead_letter(execution: str, step: str, **fields: object) -> DeadLetter:
    failure = raw(Failure(type="ValueError", message="no such thing"))
    given = {
        "id": f"{execution}/1/{step}",
        "task": "charge",
        "args": raw({"a": 1}),
        "failure": failure,
        "attempts": 3,
        "at": T0,
        **fields,
    }
    return DeadLetter(execution=execution, run=1, step=step, **given)  # type: ignore[arg-type]


async def one(store: Store, id: str) -> Execution:
    (row,) = await store.executions_get([id])
    assert row is not None
    return row


async def all_inbox(store: Store) -> list[tuple[str, inbox.AnyCommand]]:
    rows = await store.inbox_read(range(store.shards), (), 10_000)
    return [(row.execution, inbox.decode(row.command)) for row in rows]


async def everything(store: Store, ids: Sequence[str]) -> object:
    """All that a failed commit must have left as it was."""
    return (
        await store.executions_get(ids),
        [await store.history_get(id, 1) for id in ids],
        await store.inbox_read(range(store.shards), (), 10_000),
        await store.outbox_read(range(store.shards), 10_000),
        await store.dead_letters_list(DeadLetterFilter(state=None)),
        [each.heartbeats for each in await store.load(ids)],
    )


class StoreSuite:
    """Subclasses give `factory` and an `address` fixture: whatever the factory needs to reach this test's database."""

    factory: str

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def open_store(self, address: str) -> AsyncIterator[Open]:
        """Opens stores on one database, as many processes would; they are closed at the end."""
        opened: list[Store] = []

        async def open_another() -> Store:
            store = load_factory(self.factory)(address)
            await store.open()
            opened.append(store)
            return store

        yield open_another
        for store in opened:
            await store.close()

    @pytest.fixture
    async def store(self, open_store: Open) -> Store:
        return await open_store()

    # accept

    async def test_a_start_stores_row_history_and_command(self, store: Store) -> None:
        """An accepted start can be read back, digit for digit, and its shard's owner finds a Start."""
        parent = Parent(execution="mother", run=2, step="child#1", on_close="abandon")
        request = start(
            store,
            "a",
            correlation="corr",
            trace="00-1-2-01",
            parent=parent,
            wake_at=T0 + 7,
            attributes=raw({"customer": "é"}),
            input=raw({"text": "\u0000é\U0001f511", "big": 2**53 + 1}),
        )
        (answer,) = await store.accept([request], T0)
        assert answer == Answer("accepted", 1, Status.RUNNING)
        assert await one(store, "a") == request.execution
        assert await store.history_get("a", 1) == [request.segment]
        (row,) = await store.inbox_read([request.execution.shard], (), 10)
        assert (row.execution, row.shard) == ("a", request.execution.shard)
        assert inbox.decode(row.command) == inbox.Start(run=1)

    async def test_attach_and_reject_store_nothing(self, store: Store) -> None:
        """A taken id answers with what is there, also in the same batch, and leaves no trace."""
        answers = await store.accept([start(store, "a"), start(store, "a"), start(store, "a", "reject")], T0)
        assert [each.outcome for each in answers] == ["accepted", "attached", "exists"]
        answers = await store.accept([start(store, "a", "reject", at=T0 + 5), start(store, "a", at=T0 + 5)], T0)
        assert answers == [Answer("exists", 1, Status.RUNNING), Answer("attached", 1, Status.RUNNING)]
        assert (await one(store, "a")).started_at == T0
        assert len(await store.history_get("a", 1)) == 1
        assert await all_inbox(store) == [("a", inbox.Start(run=1))]

    async def test_replace_begins_the_next_run(self, store: Store) -> None:
        """Whatever the state, the row becomes that of run + 1; the old run's history stays."""
        leases = await own(store)
        (row,) = await begin(store, "a", workflow="old")
        await store.commit(Commit(leases=leases, updates=[changed(row, status=Status.COMPLETED, ended_at=T0)]))
        again = start(store, "a", "replace", at=T0 + 9, workflow="new", input=raw({"n": 2}))
        assert await store.accept([again], T0 + 9) == [Answer("accepted", 2, Status.RUNNING)]
        assert await one(store, "a") == msgspec.structs.replace(again.execution, run=2)
        assert await store.history_get("a", 1) == await store.history_get("a", 2) == [again.segment]
        (loaded,) = await store.load(["a"])
        assert loaded.segments == [again.segment]
        assert await all_inbox(store) == [("a", inbox.Start(run=1)), ("a", inbox.Start(run=2))]

    async def test_requests_of_one_batch_see_each_other(self, store: Store) -> None:
        """Started, signalled, replaced and replaced again in one call: as if one after the other."""
        signal = inbox.encode(inbox.Signal(name="go", payload=raw(1)))
        requests = [
            CommandRequest("a", signal),
            start(store, "a"),
            CommandRequest("a", signal),
            start(store, "a", "replace"),
            start(store, "a", "replace", input=raw({"n": 3})),
            start(store, "b", "replace"),
        ]
        answers = await store.accept(requests, T0)
        assert [(each.outcome, each.run) for each in answers] == [
            ("missing", 0),
            ("accepted", 1),
            ("accepted", 1),
            ("accepted", 2),
            ("accepted", 3),
            ("accepted", 1),
        ]
        row = await one(store, "a")
        assert (row.run, row.input) == (3, raw({"n": 3}))
        ours = [command for id, command in await all_inbox(store) if id == "a"]
        go = inbox.Signal(name="go", payload=raw(1))
        assert ours == [inbox.Start(run=1), go, inbox.Start(run=2), inbox.Start(run=3)]
        assert [len(await store.history_get("a", run)) for run in (1, 2, 3, 4)] == [1, 1, 1, 0]

    @pytest.mark.parametrize("status", sorted(ENDED))
    async def test_commands_reach_only_what_has_not_ended(self, store: Store, status: Status) -> None:
        """Missing and ended executions say so; a parked one takes commands."""
        leases = await own(store)
        rows = await begin(store, "open", "parked", "ended")
        updates = [changed(rows[1], status=Status.PARKED), changed(rows[2], status=status, ended_at=T0)]
        await store.commit(Commit(leases=leases, updates=updates))
        cancel = inbox.encode(inbox.Cancel(reason="why"))
        ids = ["open", "missing", "parked", "ended"]
        assert await store.accept([CommandRequest(id, cancel) for id in ids], T0) == [
            Answer("accepted", 1, Status.RUNNING),
            Answer("missing"),
            Answer("accepted", 1, Status.PARKED),
            Answer("ended", 1, status),
        ]
        got = [id for id, command in await all_inbox(store) if command == inbox.Cancel(reason="why")]
        assert sorted(got) == ["open", "parked"]

    async def test_thousands_of_starts_are_one_call(self, store: Store) -> None:
        """A batch larger than any statement's limit is stored whole, and answered in order."""
        ids = [f"id-{number:05d}" for number in range(3000)]
        answers = await store.accept([start(store, id) for id in ids], T0)
        assert {each.outcome for each in answers} == {"accepted"}
        rows = await store.executions_get(ids)
        assert [row.id for row in rows if row is not None] == ids
        assert [id for id, _ in await all_inbox(store)] == ids
        assert await store.accept([], T0) == []

    async def test_callers_at_the_same_time_do_not_mix(self, store: Store) -> None:
        """Concurrent calls each get their own answers; one id is accepted exactly once."""
        calls = [store.accept([start(store, f"id-{n}"), start(store, "same")], T0) for n in range(20)]
        answers = await asyncio.gather(*calls)
        assert all(mine[0].outcome == "accepted" for mine in answers)
        assert sorted(mine[1].outcome for mine in answers) == ["accepted"] + ["attached"] * 19

    async def test_text_that_no_database_can_keep_is_refused_alone(self, store: Store) -> None:
        """A lone surrogate is InvalidInput for its caller; others in the same moment are served."""
        good = asyncio.ensure_future(store.accept([start(store, "good")], T0))
        with pytest.raises(InvalidInput):
            await store.accept([start(store, "good-2"), start(store, "bad", workflow="\ud800")], T0)
        assert (await good)[0].outcome == "accepted"
        assert [row is not None for row in await store.executions_get(["good", "good-2"])] == [True, False]

    # leases

    async def test_a_lease_is_taken_by_exactly_one(self, open_store: Open) -> None:
        """Two owners that want everything at the same time: every shard has one owner, all have one."""
        first, second = await open_store(), await open_store()
        want = [
            store.leases_hold(owner, store.shards, T0, T0 + SECOND) for store, owner in ((first, "a"), (second, "b"))
        ]
        await asyncio.gather(*want)
        leases = await first.leases_hold("nobody", 0, T0, T0)
        assert [lease.shard for lease in leases] == list(range(first.shards))
        assert {lease.owner for lease in leases} <= {"a", "b"}

    async def test_owners_share_and_take_over(self, open_store: Open) -> None:
        """Dropping what is too much, taking what is free; what has expired moves with a higher epoch."""
        a, b = await open_store(), await open_store()
        total = a.shards
        before = {lease.shard: lease for lease in await a.leases_hold("a", total, T0, T0 + SECOND)}
        assert {lease.owner for lease in await b.leases_hold("b", total, T0, T0 + SECOND)} == {"a"}
        await a.leases_hold("a", total // 2, T0, T0 + SECOND)
        shared = await b.leases_hold("b", total - total // 2, T0, T0 + SECOND)
        assert sorted(lease.owner for lease in shared) == ["a"] * (total // 2) + ["b"] * (total - total // 2)
        for lease in shared:
            raised = lease.owner == "b"
            assert lease.epoch == before[lease.shard].epoch + raised
        late = T0 + 2 * SECOND
        moved = await b.leases_hold("b", total, late, late + SECOND)
        assert {lease.owner for lease in moved} == {"b"}
        assert {lease.until for lease in moved} == {late + SECOND}

    async def test_renewing_keeps_the_epoch(self, store: Store) -> None:
        """Also of a lease that had run out, as long as nobody took it."""
        first = await store.leases_hold("a", store.shards, T0, T0 + SECOND)
        later = T0 + 5 * SECOND
        again = await store.leases_hold("a", store.shards, later, later + SECOND)
        assert [(each.shard, each.epoch) for each in first] == [(each.shard, each.epoch) for each in again]
        assert all(lease.until == later + SECOND for lease in again)

    async def test_released_leases_are_free_at_once(self, store: Store) -> None:
        """Another owner need not wait for them to expire; taking them raises the epoch."""
        before = await own(store, "a")
        await store.leases_release("a")
        after = await own(store, "b")
        assert after == {shard: epoch + 1 for shard, epoch in before.items()}

    async def test_members_are_counted_while_alive(self, open_store: Open) -> None:
        """An orchestrator counts itself and the others until they expire or let go."""
        a, b = await open_store(), await open_store()

        async def members(store: Store, owner: str, now: int, until: int) -> int:
            return (await store.leases_share(owner, now, until)).members

        assert await members(a, "a", T0, T0 + SECOND) == 1
        assert await members(b, "b", T0, T0 + 9 * SECOND) == 2
        assert await members(b, "b", T0 + 2 * SECOND, T0 + 9 * SECOND) == 1
        assert await members(a, "a", T0 + 2 * SECOND, T0 + 9 * SECOND) == 2
        await b.leases_release("b")
        assert await members(a, "a", T0 + 3 * SECOND, T0 + 9 * SECOND) == 1

    async def test_members_share_the_shards(self, open_store: Open) -> None:
        """Whoever is alone has all of them; with a second one each has half, rounded up, as far as they are free."""
        a, b = await open_store(), await open_store()
        half = -(-a.shards // 2)
        alone = await a.leases_share("a", T0, T0 + SECOND)
        assert [lease.owner for lease in alone.leases] == ["a"] * a.shards
        assert {lease.owner for lease in (await b.leases_share("b", T0, T0 + SECOND)).leases} == {"a"}
        assert len((await a.leases_share("a", T0, T0 + SECOND)).leases) == half
        shared = await b.leases_share("b", T0, T0 + SECOND)
        assert sorted(lease.owner for lease in shared.leases) == ["a"] * half + ["b"] * (a.shards - half)
        assert {lease.until for lease in shared.leases} == {T0 + SECOND}

    # commit

    async def test_a_commit_applies_everything(self, store: Store) -> None:
        """History, row, children, commands, outbox, dead letters and heartbeats, in one call."""
        leases = await own(store)
        (row,) = await begin(store, "a")
        (start_row,) = await store.inbox_read(range(store.shards), (), 10)
        child = start(store, "a.child", parent=Parent(execution="a", run=1, step="c")).execution
        update = changed(
            row, wake_at=T0 + 3, events=4, progress=raw(0.5), attributes=raw({"k": "v"}), status=Status.PARKED
        )
        signal = inbox.Signal(name="s", payload=raw("p"))
        numbers = await store.commit(
            Commit(
                leases=leases,
                appends=[Append("a", 1, 1, 2, segment("x", "y")), Append("a", 1, 3, 1, segment("z"))],
                updates=[update],
                children=[NewExecution(child, segment("child"), b"never used")],
                commands=[("b", shard_of("b", store.shards), inbox.encode(signal))],
                inbox_done=[start_row.seq],
                messages=[Message("t", b"\x00\xff", "k"), Message("u", b"2")],
                dead_letters=[dead_letter("a", "s")],
                heartbeats=[Heartbeat("a", 1, "s", b"half"), Heartbeat("a", 1, "t", b"gone")],
                records=[Put("k", "2", b"two"), Put("k", "1", b"one", expires_at=T0)],
            )
        )
        await store.commit(Commit(leases=leases, heartbeats=[Heartbeat("a", 1, "t", None)]))
        (stored,) = await store.load(["a"])
        assert stored.execution == await one(store, "a") == update.execution
        assert stored.segments == [segment("started", "a"), segment("x", "y"), segment("z")]
        assert stored.heartbeats == {"s": b"half"}
        assert await one(store, "a.child") == child
        assert await store.history_get("a.child", 1) == [segment("child")]
        assert sorted(await all_inbox(store), key=str) == sorted(
            [("b", signal), ("a.child", inbox.Start(run=1))], key=str
        )
        assert await store.dead_letters_list(DeadLetterFilter()) == [dead_letter("a", "s")]
        records = await store.records_list(RecordFilter("k"))
        assert [(each.key, each.body, each.expires_at) for each in records] == [("1", b"one", T0), ("2", b"two", None)]
        outbox = await store.outbox_read(range(store.shards), 10)
        assert [each.message for each in outbox] == [Message("t", b"\x00\xff", "k"), Message("u", b"2")]
        assert [each.seq for each in outbox] == numbers
        await store.commit(Commit(leases=leases, outbox_done=numbers[:1]))
        assert [each.seq for each in await store.outbox_read(range(store.shards), 10)] == numbers[1:]

    async def test_a_lost_lease_applies_nothing(self, store: Store) -> None:
        """One shard of several under a newer epoch: LeaseLost names it, and nothing at all is stored."""
        leases = await own(store, "slow")
        (row,) = await begin(store, "a")
        before = await everything(store, ["a", "c"])
        later = T0 + 60 * SECOND
        (lost,) = [
            lease.shard for lease in await store.leases_hold("new", 1, later, later + SECOND) if lease.owner == "new"
        ]
        commit = Commit(
            leases=leases,
            appends=[Append("a", 1, 1, 1, segment("x"))],
            updates=[changed(row, status=Status.COMPLETED, ended_at=T0)],
            children=[NewExecution(start(store, "c").execution, segment("c"), b"{}")],
            commands=[("a", 0, inbox.encode(inbox.Cancel()))],
            inbox_done=[each.seq for each in await store.inbox_read(range(store.shards), (), 10)],
            messages=[Message("t", b"x")],
            dead_letters=[dead_letter("a", "s")],
            heartbeats=[Heartbeat("a", 1, "s", b"half")],
            records=[Put("k", "1", b"v")],
        )
        with pytest.raises(LeaseLost) as caught:
            await store.commit(commit)
        assert await store.records_list(RecordFilter("k")) == []
        assert caught.value.shards == (lost,)
        assert await everything(store, ["a", "c"]) == before

    async def test_an_unknown_shard_is_not_held(self, store: Store) -> None:
        """A lease on a shard that does not exist is a lost one."""
        with pytest.raises(LeaseLost):
            await store.commit(Commit(leases={10_000: 1}))

    async def test_a_failing_commit_does_not_take_others_with_it(self, store: Store) -> None:
        """Commits that arrive together may share a transaction, but not a failure."""
        leases = await own(store)
        rows = await begin(store, *(f"id-{n}" for n in range(10)))
        commits = [
            store.commit(
                Commit(
                    leases=leases if n % 2 else {shard: epoch + 7 for shard, epoch in leases.items()},
                    updates=[changed(row, status=Status.COMPLETED, ended_at=T0 + n)],
                )
            )
            for n, row in enumerate(rows)
        ]
        outcomes = await asyncio.gather(*commits, return_exceptions=True)
        assert [isinstance(each, LeaseLost) for each in outcomes] == [n % 2 == 0 for n in range(10)]
        after = await store.executions_get([row.id for row in rows])
        assert [row is not None and row.ended_at for row in after] == [(n % 2 and T0 + n) or None for n in range(10)]

    async def test_an_update_overwrites_its_columns_and_no_others(self, store: Store) -> None:
        """Everything but what it was born with; a run of its own brings its own input."""
        leases = await own(store)
        (row,) = await begin(store, "a", wake_at=T0, attributes=raw({"x": 1}))
        other = {"workflow": "other", "shard": 99, "started_at": 1, "correlation": "c2", "trace": "t2"}
        plain = {
            "result": raw([1]),
            "failure": raw({"type": "E"}),
            "wake_at": None,
            "events": 9,
            "attributes": None,
        }
        await store.commit(Commit(leases=leases, updates=[changed(row, **plain, **other)]))
        assert await one(store, "a") == msgspec.structs.replace(row, **plain)
        again = {"run": 2, "input": raw({"n": 2}), "events": 1}
        await store.commit(
            Commit(leases=leases, updates=[changed(row, **again)], appends=[Append("a", 2, 0, 1, segment("again"))])
        )
        assert await one(store, "a") == msgspec.structs.replace(row, **again)
        (stored,) = await store.load(["a"])
        assert stored.segments == [segment("again")]

    async def test_stale_updates_leave_a_replaced_execution_alone(self, store: Store) -> None:
        """After a replace, what was decided for the old run changes neither the row nor the new run's history."""
        leases = await own(store)
        rows = await begin(store, "a", "b")
        await store.accept([start(store, "a", "replace", input=raw({"n": 2}))], T0)
        fresh = await one(store, "a")
        await store.commit(
            Commit(
                leases=leases,
                updates=[changed(rows[0], run=2, events=5, input=raw({"n": 9})), changed(rows[1], events=5)],
                appends=[Append("a", 2, 0, 5, segment("stale")), Append("b", 1, 1, 4, segment("fine"))],
            )
        )
        assert await one(store, "a") == fresh
        assert await store.history_get("a", 2) == [segment("started", "a")]
        assert (await one(store, "b")).events == 5
        assert await store.history_get("b", 1) == [segment("started", "b"), segment("fine")]

    @pytest.mark.parametrize("status", sorted(ENDED))
    async def test_an_ended_execution_stays_as_it_ended(self, store: Store, status: Status) -> None:
        """No later update of the same run moves it."""
        leases = await own(store)
        (row,) = await begin(store, "a")
        await store.commit(Commit(leases=leases, updates=[changed(row, status=status, ended_at=T0)]))
        for late in (Status.RUNNING, Status.PARKED, Status.FAILED):
            await store.commit(Commit(leases=leases, updates=[changed(row, status=late, ended_at=None)]))
        assert await one(store, "a") == msgspec.structs.replace(row, status=status, ended_at=T0)

    async def test_an_execution_can_park_and_go_on(self, store: Store) -> None:
        """Running, parked, running again, in one commit with executions that just go on."""
        leases = await own(store)
        rows = await begin(store, "a", "b")
        await store.commit(Commit(leases=leases, updates=[changed(rows[0], status=Status.PARKED, failure=raw("f"))]))
        assert (await one(store, "a")).status is Status.PARKED
        updates = [changed(rows[0], wake_at=T0 + 1), changed(rows[1], wake_at=T0 + 2)]
        await store.commit(Commit(leases=leases, updates=updates))
        assert await store.due_read(range(store.shards), T0 + 9, 9) == [("a", T0 + 1), ("b", T0 + 2)]

    async def test_a_child_whose_id_is_taken_tells_its_parent(self, store: Store) -> None:
        """Nothing is stored; the parent's inbox gets the command prepared for this, also within one batch."""
        leases = await own(store)
        await begin(store, "mother", "taken")
        parent = Parent(execution="mother", run=1, step="c")
        taken = inbox.ChildEnded(run=1, step="c", failure=Failure(type="AlreadyExists", message="taken"))
        children = [
            NewExecution(start(store, id, parent=parent).execution, segment("child"), inbox.encode(taken))
            for id in ("taken", "free", "free")
        ]
        await store.commit(Commit(leases=leases, children=children))
        assert (await one(store, "taken")).parent is None
        assert (await one(store, "free")).parent == parent
        assert await store.history_get("taken", 1) == [segment("started", "taken")]
        told = [command for id, command in await all_inbox(store) if id == "mother"]
        assert told == [inbox.Start(run=1), taken, taken]

    async def test_a_large_commit_is_applied_whole(self, store: Store) -> None:
        """More of everything than fits one statement."""
        leases = await own(store)
        ids = [f"id-{n:04d}" for n in range(2500)]
        rows = await begin(store, *ids)
        numbers = await store.commit(
            Commit(
                leases=leases,
                appends=[Append(id, 1, 1, 1, segment(id)) for id in ids],
                updates=[changed(row, wake_at=T0 + n) for n, row in enumerate(rows)],
                messages=[Message("t", id.encode()) for id in ids],
                inbox_done=[each.seq for each in await store.inbox_read(range(store.shards), (), 10_000)],
            )
        )
        outbox = await store.outbox_read(range(store.shards), 10_000)
        assert [(each.seq, each.message.body) for each in outbox] == [
            (number, id.encode()) for number, id in zip(numbers, ids, strict=True)
        ]
        assert await store.due_read(range(store.shards), T0 + 9999, 9999) == [(id, T0 + n) for n, id in enumerate(ids)]
        stored = {each.execution.id: each.segments for each in await store.load(ids)}
        assert stored == {id: [segment("started", id), segment(id)] for id in ids}
        assert await all_inbox(store) == []

    # reading for orchestrators

    async def test_inbox_is_read_in_order_without_what_is_taken(self, store: Store) -> None:
        """Oldest first, of these shards only, skipping what was read before, up to the limit."""
        ids = [f"id-{n}" for n in range(40)]
        await begin(store, *ids)
        shards = [0, 2]
        rows = await store.inbox_read(shards, (), 100)
        assert [row.execution for row in rows] == [id for id in ids if shard_of(id, store.shards) in shards]
        assert [row.seq for row in rows] == sorted(row.seq for row in rows)
        taken = {rows[0].seq, rows[3].seq}
        assert await store.inbox_read(shards, taken, 5) == [row for row in rows if row.seq not in taken][:5]
        assert await store.inbox_read([], (), 100) == []

    async def test_what_is_read_at_once_is_bounded_in_bytes(self, store: Store) -> None:
        """Commands and messages are read until they are so many bytes; one of any size is read alone."""
        leases, shards = await own(store), range(store.shards)
        commands = [("e", shard, b"%d" % shard * 100) for shard in (3, 2, 2, 0, 1)]
        messages = [Message("t", b"%d" % number * 100) for number in range(5)]
        await store.commit(Commit(leases=leases, commands=commands, messages=messages))
        inbox = [(row.execution, row.shard, row.command) for row in await store.inbox_read(shards, (), 10)]
        assert inbox == commands
        for most, rows in (1, 1), (100, 1), (101, 2), (399, 4), (400, 4), (401, 5), (10_000, 5):
            read = await store.inbox_read(shards, (), 10, most)
            assert [(row.execution, row.shard, row.command) for row in read] == commands[:rows]
            assert [row.message for row in await store.outbox_read(shards, 10, most)] == messages[:rows]
        taken = {row.seq for row in await store.inbox_read(shards, (), 10, 250)}
        assert [row.command for row in await store.inbox_read(shards, taken, 10, 150)] == [b"0" * 100, b"1" * 100]

    async def test_inbox_numbers_are_never_used_again(self, store: Store) -> None:
        """A command that arrives after all others were consumed has a higher number than any of them."""
        leases = await own(store)
        await begin(store, "a")
        (first,) = await store.inbox_read(range(store.shards), (), 10)
        await store.commit(Commit(leases=leases, inbox_done=[first.seq]))
        await begin(store, "b")
        (second,) = await store.inbox_read(range(store.shards), (), 10)
        assert second.seq > first.seq

    async def test_outbox_is_read_by_whoever_takes_the_shards(self, store: Store) -> None:
        """The messages of a commit are found once among its shards, and in the order they were committed."""
        leases = await own(store)
        for number in range(3):
            await store.commit(Commit(leases=leases, messages=[Message("t", b"%d" % number)]))
        found = [row for shard in range(store.shards) for row in await store.outbox_read([shard], 10)]
        assert [row.message.body for row in found] == [b"0", b"1", b"2"]
        assert await store.outbox_read(range(store.shards), 2) == found[:2]

    async def test_due_is_read_earliest_first(self, store: Store) -> None:
        """Running executions of these shards whose time has come, and only those."""
        leases = await own(store)
        ids = [f"id-{n}" for n in range(20)]
        rows = await begin(store, *ids)
        wakes = {row.id: T0 + (n * 7) % 20 for n, row in enumerate(rows)}
        updates = [changed(row, wake_at=wakes[row.id]) for row in rows]
        updates[0] = changed(rows[0], wake_at=T0, status=Status.PARKED)
        updates[1] = changed(rows[1], wake_at=None)
        await store.commit(Commit(leases=leases, updates=updates))
        expected = sorted(
            ((id, at) for id, at in wakes.items() if at <= T0 + 12 and id not in ids[:2]), key=lambda each: each[1]
        )
        assert await store.due_read(range(store.shards), T0 + 12, 100) == expected
        assert await store.due_read(range(store.shards), T0 + 12, 3) == expected[:3]
        here = [each for each in expected if shard_of(each[0], store.shards) == 1]
        assert await store.due_read([1], T0 + 12, 100) == here

    async def test_stalled_are_those_long_overdue(self, store: Store) -> None:
        """Running and more than ten seconds late, the longest overdue first; healing is counted."""
        leases = await own(store)
        rows = await begin(store, "late", "later", "fine", "parked")
        ages = (11, 30, 9, 60)
        updates = [changed(row, wake_at=T0 - age * SECOND) for row, age in zip(rows, ages, strict=True)]
        updates[3] = changed(rows[3], wake_at=T0 - 60 * SECOND, status=Status.PARKED)
        await store.commit(Commit(leases=leases, updates=updates))
        assert await store.stalled(range(store.shards), T0, 10) == ["later", "late"]
        assert await store.stalled(range(store.shards), T0, 1) == ["later"]
        await store.count_healed(2)
        await store.count_healed(1)
        counts = await store.counts(T0)
        assert (counts.overdue, counts.healed) == (2, 3)

    async def test_load_gives_the_current_run_of_what_exists(self, store: Store) -> None:
        """Missing executions are left out; heartbeats and segments are those of the current run."""
        leases = await own(store)
        await begin(store, "a", "b")
        await store.commit(Commit(leases=leases, heartbeats=[Heartbeat("a", 1, "s", b"old")]))
        await store.accept([start(store, "a", "replace")], T0)
        await store.commit(Commit(leases=leases, heartbeats=[Heartbeat("a", 2, "s", b"new")]))
        stored = {each.execution.id: each for each in await store.load(["b", "missing", "a"])}
        assert stored.keys() == {"a", "b"}
        assert (stored["a"].execution.run, stored["a"].heartbeats) == (2, {"s": b"new"})
        assert stored["b"].heartbeats == {}
        assert await store.load([]) == []

    async def test_long_histories_come_whole_and_in_order(self, store: Store) -> None:
        """Segments are in the order of their positions, however they were written, and large ones are intact."""
        leases = await own(store)
        await begin(store, "a")
        pieces = [segment(number, "x" * (number * 50)) for number in range(1, 200)]
        appends = [Append("a", 1, number, 1, piece) for number, piece in enumerate(pieces, 1)]
        for at in range(0, len(appends), 50):
            await store.commit(Commit(leases=leases, appends=appends[at : at + 50][::-1]))
        assert await store.history_get("a", 1) == [segment("started", "a"), *pieces]
        (stored,) = await store.load(["a"])
        assert stored.segments == [segment("started", "a"), *pieces]
        assert await store.history_get("a", 2) == await store.history_get("missing", 1) == []

    # listings

    async def test_listing_filters(self, store: Store) -> None:
        """Conditions are joined by and; newest first."""
        leases = await own(store)
        ids = [f"{'ab'[n % 2]}-{n:02d}" for n in range(12)]
        requests = [
            start(
                store,
                id,
                at=T0 + n,
                workflow=f"flow-{n % 3}",
                attributes=raw({"n": n, "even": n % 2 == 0, 'who."x': f"w{n % 4}"}),
            )
            for n, id in enumerate(ids)
        ]
        await store.accept(requests, T0)
        rows = [row for row in await store.executions_get(ids) if row is not None]
        await store.commit(
            Commit(leases=leases, updates=[changed(row, status=Status.FAILED, ended_at=T0) for row in rows[:4]])
        )

        async def found(**where: object) -> list[int]:
            page = await store.executions_list(ExecutionFilter(**where))  # type: ignore[arg-type]
            assert page.cursor is None
            return [ids.index(row.id) for row in page.executions]

        assert await found() == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
        assert await found(workflow="flow-1") == [10, 7, 4, 1]
        assert await found(status=[Status.FAILED]) == [3, 2, 1, 0]
        assert await found(status=[Status.FAILED, Status.RUNNING], workflow="flow-0") == [9, 6, 3, 0]
        assert await found(status=[]) == []
        assert await found(status=[Standing.RETRYING, Standing.PAUSED]) == []
        assert await found(id_prefix="b-0") == [9, 7, 5, 3, 1]
        assert await found(id_prefix="b-", status=[Status.FAILED]) == [3, 1]
        assert await found(started_after=T0 + 2, started_before=T0 + 6) == [5, 4, 3]
        assert await found(attributes={"even": True}) == [10, 8, 6, 4, 2, 0]
        assert await found(attributes={"n": 1}) == [1]
        assert await found(attributes={"even": 1}) == []
        assert await found(attributes={'who."x': "w1", "even": False}, workflow="flow-2") == [5]
        assert await found(workflow="nothing") == []

    async def test_what_is_tried_again_and_what_is_paused_is_found_among_what_runs_and_is_parked(
        self, store: Store
    ) -> None:
        """And what is both, retrying and running, is listed once; newest first, a page at a time, by any condition."""
        leases = await own(store)
        ids = [f"{'ab'[n % 2]}-{n:02d}" for n in range(12)]
        await store.accept([start(store, id, at=T0 + n, workflow=f"flow-{n % 2}") for n, id in enumerate(ids)], T0)
        rows = [row for row in await store.executions_get(ids) if row is not None]
        again = [changed(row, failure=raw({"type": "OSError", "message": ""}), wake_at=T0) for row in rows[:6]]
        paused, parked = ({"type": type, "message": "", "kind": "paused"} for type in (PAUSED, "ValueError"))
        held = [
            changed(row, status=Status.PARKED, failure=raw(failure))
            for row, failure in zip(rows[6:10], [paused, paused, parked, parked], strict=True)
        ]
        await store.commit(Commit(leases=leases, updates=[*again, *held]))

        async def found(*status: str, **where: object) -> list[int]:
            asked = ExecutionFilter(status=[Standing(each) for each in status], **where)  # type: ignore[arg-type]
            return [ids.index(row.id) for row in (await store.executions_list(asked)).executions]

        assert await found("retrying") == [5, 4, 3, 2, 1, 0]
        assert await found("running", "retrying") == await found("running") == [11, 10, 5, 4, 3, 2, 1, 0]
        assert await found("paused") == [7, 6]
        assert await found("paused", "parked") == [9, 8, 7, 6]
        assert await found("paused", "retrying", workflow="flow-1") == [7, 5, 3, 1]
        assert await found("retrying", id_prefix="a-") == [4, 2, 0]
        page = await store.executions_list(ExecutionFilter(status=[Standing.RETRYING], limit=4))
        assert await found("retrying", cursor=page.cursor) == [1, 0]
        over = [changed(row, wake_at=None) for row in rows[:6]]
        await store.commit(Commit(leases=leases, updates=over))
        assert await found("retrying") == []

    async def test_ids_that_begin_alike_are_listed_however_many_there_are(self, store: Store) -> None:
        """Many are read by their times, and few by their ids: nobody can tell from what is listed."""
        many = [start(store, f"many-{n:04d}", at=T0 + n, workflow=f"flow-{n % 2}") for n in range(5_100)]
        await store.accept([*many, start(store, "man", at=T0), start(store, "manz", at=T0 + 9_000)], T0)

        async def found(**where: object) -> list[str]:
            page = await store.executions_list(ExecutionFilter(limit=3, **where))  # type: ignore[arg-type]
            return [row.id for row in page.executions]

        assert await found(id_prefix="many-") == ["many-5099", "many-5098", "many-5097"]
        assert await found(id_prefix="man") == ["manz", "many-5099", "many-5098"]
        assert await found(id_prefix="many-", workflow="flow-0") == ["many-5098", "many-5096", "many-5094"]
        assert await found(id_prefix="many-00") == ["many-0099", "many-0098", "many-0097"]
        page = await store.executions_list(ExecutionFilter(id_prefix="many-", limit=5_000))
        rest = await store.executions_list(ExecutionFilter(id_prefix="many-", limit=5_000, cursor=page.cursor))
        assert [row.id for row in rest.executions] == [f"many-{n:04d}" for n in reversed(range(100))]

    async def test_pages_follow_each_other(self, store: Store) -> None:
        """Cursors give every execution once, also among equal start times and while new ones arrive."""
        ids = [f"id-{n:02d}" for n in range(25)]
        await store.accept([start(store, id, at=T0 + n // 10) for n, id in enumerate(ids)], T0)
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.executions_list(ExecutionFilter(limit=4, cursor=cursor))
            seen += [row.id for row in page.executions]
            await begin(store, f"new-{len(seen)}", at=T0 + SECOND)
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.executions) == 4
        assert sorted(seen) == ids
        assert [int(id[3:]) // 10 for id in seen] == sorted((n // 10 for n in range(25)), reverse=True)

    @pytest.mark.parametrize("cursor", ["nonsense", "", "WzEsMl0x", "ünïcode", "e30="])
    async def test_a_foreign_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """InvalidInput, and it says where cursors come from."""
        with pytest.raises(InvalidInput, match="cursor"):
            await store.executions_list(ExecutionFilter(cursor=cursor))

    async def test_get_answers_in_order_with_none_for_missing(self, store: Store) -> None:
        """One answer for each id, duplicates included."""
        await begin(store, "a", "b")
        rows = await store.executions_get(["b", "missing", "a", "b"])
        assert [row and row.id for row in rows] == ["b", None, "a", "b"]

    # dead letters

    async def test_dead_letters_are_found_by_filter(self, store: Store) -> None:
        """Oldest first, by id, execution, task, state and error text."""
        slow = raw(Failure(type="TimeoutError", message="took 5 s"))
        letters = [
            dead_letter("a", "1", at=T0 + 2),
            dead_letter("a", "2", at=T0 + 1, task="pack", failure=slow),
            dead_letter("b", "1", at=T0 + 3, state="raised"),
        ]
        await store.commit(Commit(leases={}, dead_letters=letters))

        async def found(**where: object) -> list[str]:
            return [each.id for each in await store.dead_letters_list(DeadLetterFilter(**where))]  # type: ignore[arg-type]

        assert await store.dead_letters_list(DeadLetterFilter(state=None)) == [letters[1], letters[0], letters[2]]
        assert await found() == ["a/1/2", "a/1/1"]
        assert await found(limit=1) == ["a/1/2"]
        assert await found(ids=["a/1/1", "b/1/1", "zzz"], state=None) == ["a/1/1", "b/1/1"]
        assert await found(ids=[], state=None) == []
        assert await found(execution="a", task="charge") == ["a/1/1"]
        assert await found(error="Timeout", state=None) == ["a/1/2"]
        assert await found(error="no such", state=None) == ["a/1/1", "b/1/1"]
        assert await found(state="raised") == ["b/1/1"]
        nothing = {"args": raw(None), "failure": raw(None)}
        assert await store.dead_letters_list(DeadLetterFilter(state=None, error="Timeout", whole=False)) == [
            msgspec.structs.replace(letters[1], **nothing)
        ]

    async def test_dead_letters_are_read_page_by_page(self, store: Store) -> None:
        """Each once, also those that failed at the same time, while letters are closed and others come in."""
        letters = [dead_letter("e" * 150 + str(n % 3), str(n), at=T0 + n // 4) for n in range(10)]
        await store.commit(Commit(leases={}, dead_letters=letters))
        seen: list[str] = []
        cursor: str | None = None
        while page := await store.dead_letters_list(DeadLetterFilter(limit=4, cursor=cursor)):
            seen += [each.id for each in page]
            cursor = letter_cursor(page[-1])
            await store.dead_letters_close([page[-1].id], "discarded", "seen")
            await store.commit(Commit(leases={}, dead_letters=[dead_letter("a", str(len(seen)), at=T0 - 1)]))
        assert sorted(seen) == sorted(each.id for each in letters)
        with pytest.raises(InvalidInput, match="is not one of ours"):
            await store.dead_letters_list(DeadLetterFilter(cursor="odd"))

    async def test_a_later_failure_of_a_step_replaces_its_letter(self, store: Store) -> None:
        """One row per step: the last one counts, also within one commit."""
        await store.commit(Commit(leases={}, dead_letters=[dead_letter("a", "s", attempts=n) for n in (1, 2)]))
        await store.commit(Commit(leases={}, dead_letters=[dead_letter("a", "s", attempts=3)]))
        (letter,) = await store.dead_letters_list(DeadLetterFilter())
        assert letter == dead_letter("a", "s", attempts=3)

    async def test_letters_are_closed_by_commit_or_by_hand(self, store: Store) -> None:
        """A commit closes those of executions; by hand only parked ones of no execution."""
        poison = dead_letter("", "poison", id="poison/1")
        await store.commit(Commit(leases={}, dead_letters=[dead_letter("a", "s"), dead_letter("a", "t"), poison]))
        await store.commit(Commit(leases={}, letters_closed=[LetterState("a/1/s", "discarded", "spam")]))
        assert await store.dead_letters_close(["a/1/t", "poison/1", "missing"], "discarded", "seen") == 1
        assert await store.dead_letters_close(["poison/1"], "discarded", "seen") == 0
        letters = {each.id: each for each in await store.dead_letters_list(DeadLetterFilter(state=None))}
        assert letters["a/1/s"] == dead_letter("a", "s", state="discarded", reason="spam")
        assert letters["a/1/t"] == dead_letter("a", "t")
        assert letters["poison/1"].state == "discarded"

    async def test_letters_are_grouped_by_fingerprint(self, store: Store) -> None:
        """The largest group first, each with its newest letter; what is set aside is a heap of its own."""
        letters = [
            *(dead_letter("a", str(n), at=T0 + n, fingerprint="many") for n in range(3)),
            dead_letter("b", "1", fingerprint="few", args=raw("x" * 1000)),
            dead_letter("b", "2", fingerprint="few", state="raised"),
        ]
        await store.commit(Commit(leases={}, dead_letters=letters))
        newest = msgspec.structs.replace(letters[2], args=raw(None))
        few = msgspec.structs.replace(letters[3], args=raw(None))
        many = LetterGroup("many", 3, T0, T0 + 2, newest)
        assert await store.dead_letters_groups(False, 10) == [many, LetterGroup("few", 1, T0, T0, few)]
        assert await store.dead_letters_groups(False, 1) == [many]
        assert await store.dead_letters_groups(True, 10) == []

    async def test_letters_are_set_aside_and_brought_back(self, store: Store) -> None:
        """Out of the way of lists, groups and counts, until somebody or a later failure brings them back."""
        letters = [dead_letter("a", str(n), at=T0 + n, fingerprint="f") for n in range(3)]
        await store.commit(Commit(leases={}, dead_letters=[*letters, dead_letter("b", "1", state="raised")]))
        assert await store.dead_letters_set_aside(["a/1/0", "a/1/1", "b/1/1", "missing"], "later") == 2

        async def found(**where: object) -> list[str]:
            return [each.id for each in await store.dead_letters_list(DeadLetterFilter(**where))]  # type: ignore[arg-type]

        assert await found() == ["a/1/2"]
        assert await found(aside=True) == ["a/1/0", "a/1/1"]
        assert await found(aside=None) == ["a/1/0", "a/1/1", "a/1/2"]
        assert await found(ids=["a/1/0"]) == ["a/1/0"]
        assert await found(fingerprint="f", before=T0 + 1, aside=None) == ["a/1/0"]
        assert await found(fingerprint="g", aside=None) == []
        assert [(each.count, each.newest.lot) for each in await store.dead_letters_groups(True, 10)] == [(2, "later")]
        assert (await store.counts(T0)).dead_letters == 1
        await store.commit(Commit(leases={}, dead_letters=letters[:1]))
        assert await store.dead_letters_set_aside(["a/1/1"], "") == 1
        assert await found() == ["a/1/0", "a/1/1", "a/1/2"]

    async def test_letters_are_acted_on_with_records_or_not_at_all(self, store: Store) -> None:
        """The records are there as soon as it is done, also where no letter was left; with one that was changed in the
        meantime, neither is anything closed nor set aside.
        """
        letters = [dead_letter("a", "s"), dead_letter("", "poison", id="poison/1")]
        await store.commit(Commit(leases={}, dead_letters=letters))
        stale = [Put("k", "a", b"1", if_version=7), Put("k", "b", b"1")]
        with pytest.raises(RecordChanged, match="record k/a"):
            await store.dead_letters_set_aside(["a/1/s"], "later", stale, T0)
        with pytest.raises(RecordChanged, match="record k/a"):
            await store.dead_letters_close(["poison/1"], "discarded", "seen", stale, T0)
        assert len(await store.dead_letters_list(DeadLetterFilter())) == 2
        assert await store.records_list(RecordFilter("k")) == []
        assert await store.dead_letters_set_aside(["a/1/s"], "later", [Put("k", "b", b"1")], T0) == 1
        assert await store.dead_letters_close(["poison/1"], "discarded", "seen", [Put("k", "a", b"2")], T0) == 1
        assert await store.dead_letters_close(["poison/1"], "discarded", "seen", [Put("k", "c", b"3")], T0 + 1) == 0
        found = await store.records_list(RecordFilter("k"))
        assert [(each.key, each.body, each.at) for each in found] == [
            ("a", b"2", T0),
            ("b", b"1", T0),
            ("c", b"3", T0 + 1),
        ]
        assert await store.dead_letters_list(DeadLetterFilter()) == []

    async def test_a_letter_is_closed_with_what_is_done_about_it_or_neither(self, store: Store) -> None:
        """Records and requests are written only if it still waits: of all who look at it one acts on it."""
        letters = [dead_letter("", "x" * 200 + str(n), id="poison/" + "x" * 200 + str(n)) for n in range(3)]
        await store.commit(Commit(leases={}, dead_letters=letters))
        await store.dead_letters_set_aside([letters[0].id], "later")
        closed = [LetterState(each.id, "redriven", "sent") for each in letters]

        async def act(key: str, *closed: LetterState) -> None:
            await store.records_put([Put("k", key, b"1", 0)], T0, [start(store, key)], closed, all_or_nothing=True)

        await act("a", *closed[:2])
        for late in (closed[1:], [closed[2], LetterState("missing", "redriven")]):
            with pytest.raises(RecordChanged) as raised:
                await act("b", *late)
            assert (raised.value.kind, raised.value.key in (closed[1].id, "missing")) == (LETTER, True)
        with pytest.raises(RecordChanged, match="record k/a"):
            await store.records_put([Put("k", "a", b"1", 0)], T0, letters=closed[2:])
        with pytest.raises(NotAccepted):
            await store.records_put([], T0, [start(store, "a", "reject")], closed[2:], all_or_nothing=True)
        found = {each.id: each for each in await store.dead_letters_list(DeadLetterFilter(state=None, aside=None))}
        assert [(found[each.id].state, found[each.id].reason) for each in letters] == [
            *[("redriven", "sent")] * 2,
            ("parked", ""),
        ]
        assert [each.key for each in await store.records_list(RecordFilter("k"))] == ["a"]
        assert [row is not None for row in await store.executions_get(["a", "b"])] == [True, False]
        await store.records_put([], T0, letters=closed[2:])
        assert await store.dead_letters_list(DeadLetterFilter()) == []

    async def test_of_several_who_act_on_a_letter_one_does(self, open_store: Open) -> None:
        """At the same moment, in several processes."""
        stores = [await open_store() for _ in range(3)]
        ids = [f"poison/{n}" for n in range(5)]
        letters = [dead_letter("", id, id=id) for id in ids]
        await stores[0].commit(Commit(leases={}, dead_letters=letters))

        async def act(number: int, store: Store) -> int:
            try:
                closed = [LetterState(id, "redriven", str(number)) for id in (ids if number % 2 else ids[::-1])]
                await store.records_put([Put("k", str(number), b"1")], T0, letters=closed)
            except RecordChanged:
                return 0
            return 1

        assert sum(await asyncio.gather(*(act(number, stores[number % 3]) for number in range(9)))) == 1
        assert len(await stores[0].records_list(RecordFilter("k"))) == 1

    async def test_letters_of_no_execution_are_found_by_where_they_came_from(self, store: Store) -> None:
        """By the whole name; those of executions are not meant."""
        steps = ["endpoint/a@1", "endpoint/a@2", "endpoint/ab@1", "trigger/a@1"]
        letters = [dead_letter("", step, id=f"poison/{step}", task="") for step in steps]
        await store.commit(Commit(leases={}, dead_letters=[*letters, dead_letter("e", "endpoint/a@9")]))
        found = await store.dead_letters_list(DeadLetterFilter(source="endpoint/a"))
        assert [each.step for each in found] == steps[:2]
        assert {each.source for each in found} == {"endpoint/a"}
        assert await store.dead_letters_list(DeadLetterFilter(source="endpoint")) == []

    async def test_letters_of_no_execution_leave_when_they_are_old(self, store: Store) -> None:
        """The oldest first, as many as asked, acted on or not; but not those of executions, nor those set aside."""
        letters = [dead_letter("", str(n), id=f"poison/{n}", at=T0 + n) for n in range(6)]
        await store.commit(Commit(leases={}, dead_letters=[*letters, dead_letter("a", "s", at=T0)]))
        await store.dead_letters_set_aside(["poison/0", "poison/1"], "later")
        await store.dead_letters_close(["poison/1", "poison/2"], "discarded", "seen")
        assert await store.dead_letters_purge(T0 + 5, 2) == 2
        assert await store.dead_letters_purge(T0 + 5, 9) == 2
        assert await store.dead_letters_purge(T0 + 5, 9) == 0
        left = await store.dead_letters_list(DeadLetterFilter(state=None, aside=None))
        assert {each.id for each in left} == {"poison/0", "poison/5", "a/1/s"}

    async def test_a_commit_whose_record_was_changed_applies_nothing(self, store: Store) -> None:
        """It says which."""
        await store.records_put([Put("k", "a", b"1")], T0)
        letter = dead_letter("", "x", id="poison/x")
        with pytest.raises(RecordChanged, match="record k/a"):
            await store.commit(Commit(leases={}, dead_letters=[letter], records=[Put("k", "a", None, 7)]))
        assert await store.dead_letters_list(DeadLetterFilter()) == []
        [record] = await store.records_list(RecordFilter("k"))
        await store.commit(Commit(leases={}, dead_letters=[letter], records=[Put("k", "a", None, record.version)]))
        assert (await store.dead_letters_list(DeadLetterFilter()), await store.records_list(RecordFilter("k"))) == (
            [letter],
            [],
        )

    # the whole

    async def test_counts_tell_what_is_there(self, store: Store) -> None:
        """Executions by status, parked letters, inbox with its oldest, outbox, bytes."""
        leases = await own(store)
        await store.accept([start(store, "a")], T0 + 5)
        rows = await begin(store, "b", "c")
        await store.commit(
            Commit(
                leases=leases,
                updates=[changed(rows[0], status=Status.COMPLETED, ended_at=T0)],
                messages=[Message("t", b"1")],
                dead_letters=[dead_letter("a", "1"), dead_letter("a", "2", state="raised")],
            )
        )
        counts = await store.counts(T0)
        assert counts.by_status == {"running": 2, "completed": 1}
        assert (counts.dead_letters, counts.inbox, counts.outbox, counts.overdue) == (1, 3, 1, 0)
        assert counts.inbox_oldest_at == T0
        assert counts.bytes > 0

    async def test_records_are_written_read_and_deleted(self, store: Store) -> None:
        """With a version that is another after every write, also after deleting."""
        await store.records_put([Put("a", "1", b"x\0", expires_at=T0 + 5), Put("b", "1", b"other")], T0)
        [first, none] = await store.records_get("a", ["1", "2"])
        assert first == Record("a", "1", b"x\0", first.version if first else 0, T0, T0 + 5)
        assert none is None
        await store.records_put([Put("a", "1", b"y")], T0)
        [second] = await store.records_get("a", ["1"])
        await store.records_put([Put("a", "1", None), Put("a", "never", None)], T0)
        assert await store.records_get("a", ["1"]) == [None]
        await store.records_put([Put("a", "1", b"z")], T0 + 9)
        [third] = await store.records_get("a", ["1"])
        assert first
        assert second
        assert third
        assert len({first.version, second.version, third.version}) == 3
        assert (second.body, second.expires_at, third.at) == (b"y", None, T0 + 9)
        assert await store.records_get("a", []) == []

    async def test_a_record_in_another_version_stops_everything(self, store: Store) -> None:
        """The other records and the requests beside it, too."""
        await store.records_put([Put("k", "there", b"1", if_version=0)], T0)
        [there] = await store.records_get("k", ["there"])
        assert there
        for wrong in (
            Put("k", "there", b"2", if_version=0),
            Put("k", "there", b"2", if_version=there.version + 1),
            Put("k", "there", None, if_version=there.version + 1),
            Put("k", "missing", b"2", if_version=there.version),
            Put("k", "missing", None, if_version=7),
        ):
            with pytest.raises(RecordChanged, match=f"k/{wrong.key}") as caught:
                await store.records_put([Put("k", "a", b"no"), wrong, Put("k", "z", b"no")], T0, [start(store, "no")])
            assert (caught.value.kind, caught.value.key) == ("k", wrong.key)
        assert await store.records_get("k", ["a", "z", "missing"]) == [None, None, None]
        assert await store.executions_get(["no"]) == [None]
        await store.records_put([Put("k", "there", None, if_version=there.version)], T0)
        assert await store.records_list(RecordFilter("k")) == []

    async def test_records_and_requests_are_one_transaction(self, store: Store) -> None:
        """Requests are answered as by `accept`, and their shards' owners woken."""
        watch = store.watch("inbox")
        requests = [start(store, "x"), start(store, "x", "reject"), CommandRequest("nobody", b"{}")]
        answers = await store.records_put([Put("k", "1", b"v", if_version=0)], T0, requests)
        assert [each.outcome for each in answers] == ["accepted", "exists", "missing"]
        assert await watch.wait(SOON)
        watch.close()
        assert await store.executions_get(["x"]) != [None]

    async def test_records_and_requests_go_together_where_asked(self, store: Store) -> None:
        """If one request is not acceptable, no record and no other request is there."""
        await store.accept([start(store, "x")], T0)
        requests = [start(store, "new"), start(store, "x", "attach"), CommandRequest("nobody", b"{}")]
        with pytest.raises(NotAccepted) as caught:
            await store.records_put([Put("k", "1", b"v", if_version=0)], T0, requests, all_or_nothing=True)
        assert caught.value.outcomes == ("accepted", "attached", "missing")
        assert await store.records_get("k", ["1"]) == [None]
        assert await store.executions_get(["new"]) == [None]
        inbox = await store.inbox_read(range(store.shards), (), 10)
        requests = [start(store, "new"), CommandRequest("x", b"{}")]
        answers = await store.records_put([Put("k", "1", b"v", if_version=0)], T0, requests, all_or_nothing=True)
        assert [each.outcome for each in answers] == ["accepted", "accepted"]
        assert await store.records_get("k", ["1"]) != [None]
        assert len(await store.inbox_read(range(store.shards), (), 10)) == len(inbox) + 2

    async def test_of_many_who_write_a_version_one_does(self, open_store: Open) -> None:
        """So a tick, a delivery or a job is taken by exactly one process."""
        stores = [await open_store() for _ in range(3)]

        async def tick(store: Store, number: int) -> bool:
            try:
                await store.records_put(
                    [Put("tick", "b", b"x"), Put("tick", "a", b"x", if_version=0)], T0, [start(store, f"e{number}")]
                )
            except RecordChanged:
                return False
            return True

        done = await asyncio.gather(*(tick(stores[number % 3], number) for number in range(12)))
        assert sum(done) == 1
        rows = await stores[0].executions_get([f"e{number}" for number in range(12)])
        assert [row is not None for row in rows] == done

    async def test_records_are_listed_by_key(self, store: Store) -> None:
        """Of one kind, with a prefix, from a key on, in both directions."""
        keys = ["a/1", "a/2", "a/3", "b", "a/é", "a/\U0001f600"]
        await store.records_put([Put("k", key, b"") for key in keys] + [Put("l", "a/0", b"")], T0)

        async def listed(**where: object) -> list[str]:
            return [each.key for each in await store.records_list(RecordFilter("k", **where))]  # type: ignore[arg-type]

        ordered = ["a/1", "a/2", "a/3", "a/é", "a/\U0001f600", "b"]
        assert await listed() == ordered
        assert await listed(descending=True) == ordered[::-1]
        assert await listed(prefix="a/", limit=2) == ["a/1", "a/2"]
        assert await listed(prefix="a/", after="a/2") == ["a/3", "a/é", "a/\U0001f600"]
        assert await listed(prefix="a/", after="a/3", descending=True) == ["a/2", "a/1"]
        assert await listed(prefix="a/", descending=True, limit=1) == ["a/\U0001f600"]

    async def test_expired_records_are_purged(self, store: Store) -> None:
        """The longest expired first, as many as asked; the others stay."""
        await store.records_put([Put("k", str(n), b"", expires_at=T0 + n) for n in range(5)] + [Put("k", "x", b"")], T0)
        assert await store.records_purge(T0 + 3, 2) == 2
        assert await store.records_purge(T0 + 3, 10) == 2
        assert await store.records_purge(T0 + 3, 10) == 0
        assert [each.key for each in await store.records_list(RecordFilter("k"))] == ["4", "x"]

    async def test_purge_takes_ended_executions_with_all_that_is_theirs(self, store: Store) -> None:
        """Up to the limit, those that ended before; open and younger ones stay."""
        leases = await own(store)
        ids = [f"id-{n}" for n in range(6)]
        rows = await begin(store, *ids)
        ended = [changed(row, status=Status.COMPLETED, ended_at=T0 + n) for n, row in enumerate(rows[:5])]
        await store.commit(
            Commit(
                leases=leases,
                updates=ended,
                dead_letters=[dead_letter("id-0", "s"), dead_letter("id-5", "s")],
                heartbeats=[Heartbeat("id-0", 1, "s", b"x"), Heartbeat("id-5", 1, "s", b"x")],
            )
        )
        assert await store.purge(T0 + 3, 2) == 2
        assert await store.purge(T0 + 3, 2) == 1
        assert await store.purge(T0 + 3, 2) == 0
        assert [row is not None for row in await store.executions_get(ids)] == [False] * 3 + [True] * 3
        assert [bool(await store.history_get(id, 1)) for id in ids] == [False] * 3 + [True] * 3
        assert [each.execution for each in await store.dead_letters_list(DeadLetterFilter())] == ["id-5"]
        (loaded,) = await store.load(["id-0", "id-5"])
        assert loaded.heartbeats == {"s": b"x"}
        (answer,) = await store.accept([start(store, "id-0", "reject")], T0)
        assert answer.outcome == "accepted"
        (loaded,) = await store.load(["id-0"])
        assert loaded.heartbeats == {}

    async def test_purge_takes_fewer_of_those_with_long_histories(self, store: Store) -> None:
        """So that a transaction stays short; an execution of any length goes by itself."""
        leases = await own(store)
        ids = [f"id-{n}" for n in range(6)]
        lengths = [10, 40, 50, 1, 101, 1]
        rows = await begin(store, *ids)
        ended = [
            changed(row, status=Status.COMPLETED, ended_at=T0 + n, events=events)
            for n, (row, events) in enumerate(zip(rows, lengths, strict=True))
        ]
        await store.commit(Commit(leases=leases, updates=ended))
        assert [await store.purge(T0 + 9, 10, 100) for _ in range(5)] == [3, 1, 1, 1, 0]
        assert await store.executions_get(ids) == [None] * 6

    # wake-ups

    async def test_a_watch_is_woken_by_any_process(self, open_store: Open) -> None:
        """What another store commits ends the wait; ends and inbox are different channels."""
        here, there = await open_store(), await open_store()
        leases = await own(there)
        inbox_watch, ended_watch = here.watch("inbox"), here.watch("ended")
        waiting = asyncio.create_task(inbox_watch.wait(3600))
        await asyncio.sleep(0.05)
        (row,) = await begin(there, "a")
        async with asyncio.timeout(SOON):
            assert await waiting
        assert not await ended_watch.wait(0.05)
        waiting = asyncio.create_task(ended_watch.wait(3600))
        await there.commit(Commit(leases=leases, updates=[changed(row, status=Status.COMPLETED, ended_at=T0)]))
        async with asyncio.timeout(SOON):
            assert await waiting
        inbox_watch.close()
        ended_watch.close()

    async def test_a_watch_forgets_nothing_between_waits(self, open_store: Open) -> None:
        """A commit while nobody waits makes the next wait return at once, and only the next."""
        here, there = await open_store(), await open_store()
        watch = here.watch("inbox")
        for store in (here, there):
            await begin(store, f"by-{id(store)}")
            async with asyncio.timeout(SOON):
                assert await watch.wait(3600)
            assert not await watch.wait(0.02)
        watch.close()

    async def test_children_commands_and_replacements_wake_too(self, store: Store) -> None:
        """Whatever puts a command into an inbox, or ends a run, notifies."""
        leases = await own(store)
        await begin(store, "a")
        inbox_watch, ended_watch = store.watch("inbox"), store.watch("ended")
        async with asyncio.timeout(SOON):
            await store.commit(Commit(leases=leases, commands=[("a", 0, inbox.encode(inbox.Cancel()))]))
            assert await inbox_watch.wait(3600)
            child = NewExecution(start(store, "c").execution, segment("c"), b"{}")
            await store.commit(Commit(leases=leases, children=[child]))
            assert await inbox_watch.wait(3600)
            await store.accept([start(store, "a", "replace")], T0)
            assert await inbox_watch.wait(3600)
            assert await ended_watch.wait(3600)

    async def test_records_wake_whoever_waits_for_them(self, open_store: Open) -> None:
        """However they were written: alone, by a commit, or beside letters; those that are quiet wake nobody."""
        here, there = await open_store(), await open_store()
        leases = await own(there)
        watch = here.watch("records")
        loud, quiet = Put("k", "1", b"v"), Put("k", "2", b"v", quiet=True)
        await there.records_put([quiet], T0)
        await there.commit(Commit(leases=leases, records=[quiet]))
        await there.dead_letters_close(["none"], "discarded", "", [quiet], T0)
        await there.accept([start(there, "a")], T0)
        assert not await watch.wait(0.05)
        for write in (
            lambda: there.records_put([quiet, loud], T0),
            lambda: there.commit(Commit(leases=leases, records=[loud])),
            lambda: there.dead_letters_close(["none"], "discarded", "", [loud], T0),
            lambda: there.dead_letters_set_aside(["none"], "", [loud], T0),
            lambda: there.records_put([Put("k", "1", None)], T0),
        ):
            await write()
            async with asyncio.timeout(SOON):
                assert await watch.wait(3600)
        watch.close()

    async def test_never_a_wake_up_lost_under_load(self, open_store: Open) -> None:
        """A reader that only reads after a wake-up sees everything that three writers commit."""
        reader = await open_store()
        writers = [await open_store() for _ in range(3)]
        watch = reader.watch("inbox")
        seen: set[int] = set()

        async def read() -> None:
            while len(seen) < 150:
                assert await watch.wait(SOON)
                seen.update(row.seq for row in await reader.inbox_read(range(reader.shards), seen, 1000))

        async def write(number: int) -> None:
            for n in range(50):
                await begin(writers[number], f"{number}-{n}")

        async with asyncio.timeout(4 * SOON):
            await asyncio.gather(read(), *(write(number) for number in range(3)))
        watch.close()

    async def test_closing_a_watch_ends_its_wait(self, store: Store) -> None:
        """A wait under way ends without a notification, and so does any later one."""
        watch = store.watch("inbox")
        waiting = asyncio.create_task(watch.wait(3600))
        await asyncio.sleep(0.01)
        watch.close()
        async with asyncio.timeout(SOON):
            assert not await waiting
            assert not await watch.wait(3600)

    # opening and closing

    async def test_shards_are_fixed_when_the_database_is_made(self, open_store: Open) -> None:
        """A second store on the same database has the same number of shards."""
        first = await open_store()
        assert (await open_store()).shards == first.shards
        leases = await first.leases_hold("a", 10_000, T0, T0 + 1)
        assert [lease.shard for lease in leases] == list(range(first.shards))

    async def test_many_may_open_a_new_database_at_once(self, address: str) -> None:
        """Whoever comes first makes the schema; nobody fails."""
        stores = [load_factory(self.factory)(address) for _ in range(5)]
        await asyncio.gather(*(store.open() for store in stores))
        await begin(stores[0], "a")
        assert (await one(stores[4], "a")).id == "a"
        await asyncio.gather(*(store.close() for store in stores))

    async def test_everything_is_there_after_closing(self, open_store: Open) -> None:
        """What a call returned from is found by a store opened later."""
        first = await open_store()
        await begin(first, "a")
        await first.close()
        assert (await one(await open_store(), "a")).id == "a"

    async def test_closing_is_idempotent_and_final(self, store: Store) -> None:
        """Twice is fine; afterwards every call says Closed."""
        await store.close()
        await store.close()
        with pytest.raises(Closed):
            await store.accept([start(store, "a")], T0)
        with pytest.raises(Closed):
            await store.executions_get(["a"])
        with pytest.raises(Closed):
            await store.commit(Commit(leases={}))
        with pytest.raises(Closed):
            store.watch("inbox")

    # several processes

    async def test_two_processes_write_at_once(self, store: Store, address: str) -> None:
        """Both are accepted in full, and ids they both want are accepted once."""
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, str(CHILD), self.factory, address, name, "200", stdout=subprocess.PIPE
            )
            for name in ("x", "y")
        ]
        outputs = [await process.communicate() for process in processes]
        answers = [json.loads(stdout) for stdout, _ in outputs]
        assert [each["own"] for each in answers] == [200, 200]
        assert answers[0]["shared"] + answers[1]["shared"] == 200
        assert (await store.counts(T0)).by_status == {"running": 600}
        assert len(await all_inbox(store)) == 600

    async def test_what_a_killed_process_was_told_is_there(self, open_store: Open, address: str) -> None:
        """Every id that was reported as accepted before `kill -9` is in the database, which opens as ever."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), self.factory, address, "z", "1000000", "--tell", stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        told = [(await process.stdout.readline()).decode().strip() for _ in range(20)]
        process.kill()
        told += (await process.stdout.read()).decode().split("\n")[:-1]
        await process.wait()
        store = await open_store()
        assert [row and row.id for row in await store.executions_get(told)] == told
        assert (await store.accept([start(store, "after")], T0))[0].outcome == "accepted"
