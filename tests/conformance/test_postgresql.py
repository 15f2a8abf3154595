"""What is particular to PostgreSQL: state and messages in one transaction, and all the trouble one can have with it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from edow.address import Address
from edow.app import connect_store, connect_transport, now
from edow.errors import (
    Closed,
    InvalidInput,
    LeaseLost,
    PublishFailed,
    StoreUnavailable,
    StoreUnusable,
    TransportUnavailable,
)
from edow.model import inbox
from edow.model.execution import Parent, Status
from edow.model.message import Message
from edow.orchestrator.cycle import poison_letter
from edow.postgresql import connect
from edow.postgresql.problems import translate
from edow.postgresql.settings import Settings
from edow.store.contract import Append, Commit, DeadLetterFilter, ExecutionFilter, Heartbeat, NewExecution
from edow.store.postgresql import PostgresStore
from edow.transport.contract import Mode, Subscription, TopicSpec
from edow.transport.numbered import Topics
from edow.transport.postgresql import PostgresTransport
from edow.transport.postgresql import transport as module
from scripts.servers import Box
from scripts.servers.services import SERVERS
from tests.conformance import matrix
from tests.conformance.postgresql import Joined, Wire, connection_to, own_schema, schema_of
from tests.conformance.store_suite import T0, all_inbox, begin, changed, dead_letter, one, own, raw, segment, start
from tests.conformance.transport_suite import PATIENCE, SOON, drain, take
from tests.servers import private_server

QUIET = 0.15


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Joined]:
    joined = Joined(url)
    await joined.open()
    try:
        yield joined
    finally:
        await joined.close()


@pytest.fixture
async def joined(url: str) -> AsyncIterator[Joined]:
    async with opened(url) as joined:
        yield joined


@pytest.fixture
async def wire(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    await wire.open()
    yield wire
    await wire.close()


@pytest.fixture
def server() -> Iterator[Box]:
    """A server of the test's own."""
    with private_server(SERVERS["postgres"]) as box:
        yield box


def shared(topic: str = "tasks", group: str = "workers") -> Subscription:
    return Subscription(topics=(topic,), group=group)


def exclusive(topic: str = "results", group: str = "us") -> Subscription:
    return Subscription(topics=(topic,), group=group, mode="exclusive")


# one transaction


async def test_a_commit_reaches_a_group_made_meanwhile_elsewhere(joined: Joined, url: str) -> None:
    """What another process has ensured since is noticed inside the transaction; unknown topics are refused whole."""
    leases = await own(joined.store)
    (row,) = await begin(joined.store, "a")
    other = connect_transport(url)
    await other.open()
    await other.ensure([TopicSpec("tasks", ("workers", "late"))])
    await joined.store.commit(Commit(leases=leases, messages=[Message("tasks", b"x")]))
    assert await drain(await other.subscribe(shared(group="late")), 1) == [b"x"]
    with pytest.raises(InvalidInput, match="nowhere"):
        await joined.store.commit(
            Commit(leases=leases, updates=[changed(row, events=9)], messages=[Message("nowhere", b"x")])
        )
    assert (await one(joined.store, "a")).events == row.events
    await other.close()


# what leaves


async def test_a_history_that_is_too_long_for_one_statement_leaves_in_pieces(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for one execution, because more took too long, it is deleted however long it takes. Others stay whole."""
    store, leases, deleted = joined.store, await own(joined.store), list[int]()
    long, other = await begin(store, "a", "b")
    for seq in range(1, 6):
        await store.commit(Commit(leases=leases, appends=[Append("a", 1, seq, 1, segment("a"))]))
    ended = [changed(row, status=Status.COMPLETED, ended_at=T0 + n) for n, row in enumerate((long, other))]
    await store.commit(Commit(leases=leases, updates=ended))
    write = store.database.write

    async def counted(sql: str, *arguments: object) -> list[asyncpg.Record]:
        rows = await write(sql, *arguments)
        if "DELETE" in sql:
            deleted.append(len(rows))
        return rows

    monkeypatch.setattr(store.database, "write", counted)
    monkeypatch.setattr("edow.store.postgresql.store.PURGE_SEGMENTS", 3)
    assert await store.purge(T0 + 9, 1) == 1
    assert deleted == [3, 3, 1, 0]  # with the input
    assert await store.executions_get(["a"]) == [None]
    assert len(await store.history_get("b", 1)) == 1
    assert (await store.purge(T0 + 9, 1), await store.purge(T0 + 9, 1)) == (1, 0)


# reading


async def test_counting_what_is_overdue_passes_over_what_sleeps(joined: Joined, url: str) -> None:
    """However many do: in each shard the index is entered at its earliest, and left at this moment."""
    await own(joined.store)
    async with connection_to(url) as behind:
        await behind.execute(
            "INSERT INTO executions (started_at, wake_at, shard, run, events, id, workflow, status, correlation, trace)"
            f" SELECT 0, {T0} + n, n % 4, 1, 1, 'id-' || n, 'w', 'running', '', '' FROM generate_series(1, 20000) AS n"
        )
        await behind.execute("ANALYZE executions, leases")
    sql = "EXPLAIN (ANALYZE, FORMAT JSON) " + joined.store._sql["count_rest"]
    ((told,),) = await joined.database.fetch(sql, T0 + 100, schema_of(url))
    nodes = nodes_of(msgspec.json.decode(told)[0]["Plan"])
    (look,) = [node for node in nodes if node.get("Index Name") == "executions_due"]
    assert "shard = " in look["Index Cond"]
    assert "wake_at < " in look["Index Cond"]
    assert (look["Actual Loops"], look["Actual Rows"]) == (4, pytest.approx(25, abs=1))


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a query's plan, and of those below it."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes_of(each)


# publishing


async def test_what_is_published_is_not_called_unpublished_for_the_trouble_of_sweeping(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever broadcasts takes away old broadcasts now and then, and the server may go away in between."""
    transport = joined.transport
    subscriber = await transport.subscribe(exclusive())
    await transport.subscribe(Subscription(topics=("results",), group="", mode="broadcast"))
    write, swept = joined.database.write, list[str]()

    async def sweeps_nothing(sql: str, *arguments: object) -> list[asyncpg.Record]:
        if sql == transport._sql["expire"]:
            swept.append(sql)
            raise StoreUnavailable("gone for a test")
        return await write(sql, *arguments)

    monkeypatch.setattr(joined.database, "write", sweeps_nothing)
    await transport.publish([Message("results", b"x")])
    assert len(swept) == 1
    assert await drain(subscriber, 1) == [b"x"]


# who may commit


async def test_a_lease_cannot_be_taken_while_a_commit_is_under_way(joined: Joined, url: str) -> None:
    """Who wants the shard gets it once the owner's transaction has ended; what comes after is refused."""
    leases = await own(joined.store, "slow")
    (row,) = await begin(joined.store, "a")
    late = T0 + 60_000_000
    async with connection_to(url) as behind, connection_to(url) as blocker, blocker.transaction():
        await blocker.execute("SELECT 1 FROM executions WHERE id = 'a' FOR UPDATE")
        committing = asyncio.create_task(joined.store.commit(Commit(leases=leases, updates=[changed(row, events=7)])))
        await until_somebody_waits(behind)
        held = await joined.store.leases_hold("new", joined.store.shards, late, late + 1)
        assert {lease.owner for lease in held} == {"slow"}
    await committing
    held = await joined.store.leases_hold("new", joined.store.shards, late, late + 1)
    assert {lease.owner for lease in held} == {"new"}
    assert (await one(joined.store, "a")).events == 7
    with pytest.raises(LeaseLost):
        await joined.store.commit(Commit(leases=leases, updates=[changed(row, events=8)]))
    assert (await one(joined.store, "a")).events == 7


@pytest.mark.parametrize("connections", [1, 4])
async def test_renewing_leases_waits_for_no_commit(url: str, connections: int) -> None:
    """Not on the server, and not for a connection: else a slow database would make all orchestrators lose theirs."""
    async with opened(f"{url}&connections={connections}") as joined, asyncio.timeout(PATIENCE):
        store = joined.store
        leases = await own(store, "slow")
        (row,) = await begin(store, "a")
        until = T0 + 60_000_000
        async with connection_to(url) as behind, connection_to(url) as blocker, blocker.transaction():
            await blocker.execute("SELECT 1 FROM executions WHERE id = 'a' FOR UPDATE")
            committing = asyncio.create_task(store.commit(Commit(leases=leases, updates=[changed(row, events=7)])))
            await until_somebody_waits(behind)
            members, held = await store.leases_share("slow", T0, until)
            assert members == 1
            assert {(lease.owner, lease.until) for lease in held} == {("slow", until)}
            held = await store.leases_hold("slow", store.shards - 1, T0, until)
            assert len(held) == store.shards - 1
            assert not committing.done()
        await committing
        assert (await one(store, "a")).events == 7


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout", "transaction_timeout"])
async def test_what_a_limit_of_the_role_has_ended_is_tried_again(url: str, limit: str) -> None:
    """Administrators set such limits. Nothing of the call was applied, and it is nobody's bug."""
    async with opened(f"{url}&connections=1") as joined, connection_to(url) as blocker:
        if not await blocker.fetchval("SELECT count(*) FROM pg_settings WHERE name = $1", limit):
            pytest.skip(f"this server has no {limit}")
        store, leases = joined.store, await own(joined.store)
        (row,) = await begin(store, "a")
        commit = Commit(leases=leases, updates=[changed(row, events=7)])
        async with blocker.transaction():
            await blocker.execute("SELECT 1 FROM executions WHERE id = 'a' FOR UPDATE")
            await store.database.fetch(f"SET {limit} = '20ms'")
            with pytest.raises(StoreUnavailable, match="timeout"):
                await store.commit(commit)
        await joined.close()
        await joined.open()
        assert (await one(store, "a")).events == row.events
        await store.commit(commit)
        assert (await one(store, "a")).events == 7


@pytest.mark.parametrize("code", ["55P03", "25P03", "25P04", "58030", "57014"])
def test_what_a_server_has_ended_by_a_limit_or_for_its_disk_may_be_tried_again(code: str) -> None:
    """Also by limits that only newer servers have."""
    said = asyncpg.PostgresError.new({"C": code, "M": "ended for a test"})  # type: ignore[no-untyped-call]
    assert isinstance(translate(said, "here"), StoreUnavailable)


async def until_somebody_waits(connection: asyncpg.Connection) -> None:
    """For a lock, in a statement of ours."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'edow'"
        " AND query LIKE '%' || current_schema || '%'"
    )
    await until(lambda: connection.fetchval(waiting), bool)


async def until(ask: Callable[[], Awaitable[int]], enough: Callable[[int], bool]) -> None:
    """Something that only asking tells."""
    async with asyncio.timeout(PATIENCE):
        while not enough(await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_commit_whose_answer_was_lost_is_applied_once(wire: Wire, url: str) -> None:
    """Tried again by whoever has heard nothing of it, it is found to be applied; its outbox numbers are the same."""
    store = connect_store(wire.url)
    await store.open()
    leases = await own(store)
    await begin(store, "mother", "a")
    row = await one(store, "a")
    child = start(store, "child", parent=Parent(execution="mother", run=1, step="c")).execution
    commit = Commit(
        leases=leases,
        appends=[Append("a", 1, 1, 1, segment("x"))],
        updates=[changed(row, events=2)],
        children=[NewExecution(child, segment("child"), b'"taken"')],
        commands=[("mother", 0, inbox.encode(inbox.Cancel()))],
        messages=[Message("t", b"1"), Message("t", b"2")],
    )
    warm = start(store, "warm").execution  # so that the statement has been prepared
    await store.commit(
        Commit(
            leases=leases,
            appends=[Append("mother", 1, 1, 1, segment("x"))],
            children=[NewExecution(warm, segment("warm"), b"{}")],
            commands=[("mother", 0, inbox.encode(inbox.Cancel()))],
            messages=[Message("t", b"0")],
        )
    )
    wire.deaf = True
    committing = asyncio.create_task(store.commit(commit))
    async with connection_to(url) as behind:
        await until(lambda: behind.fetchval("SELECT count(*) FROM outbox"), lambda found: found == 3)
    wire.cut()
    with pytest.raises(StoreUnavailable, match="not known"):
        await committing
    wire.deaf = False
    numbers = await store.commit(commit)
    outbox = await store.outbox_read(range(store.shards), 10)
    assert [(each.seq, each.message.body) for each in outbox] == [
        (numbers[0] - 1, b"0"),
        *zip(numbers, (b"1", b"2"), strict=True),
    ]
    assert await store.history_get("a", 1) == [segment("started", "a"), segment("x")]
    assert sorted(id for id, _ in await all_inbox(store)) == ["a", "child", "mother", "mother", "mother", "warm"]
    assert len(await store.commit(Commit(leases=leases, messages=[Message("t", b"3")]))) == 1
    await store.close()


# the server goes away


@pytest.mark.proves(matrix.AWAY, "PostgreSQL")
async def test_everything_goes_on_after_a_restart(server: Box) -> None:
    """Calls fail clearly while it is away; afterwards the same objects work, and waiters are woken again."""
    async with opened(server.url) as joined:
        leases = await own(joined.store)
        await begin(joined.store, "a")
        workers = await joined.transport.subscribe(shared())
        results = await joined.transport.subscribe(exclusive())
        watch = joined.store.watch("inbox")
        await joined.transport.publish([Message("tasks", b"1"), Message("results", b"1")])
        held = await take(workers, 1)
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await joined.store.accept([start(joined.store, "b")], T0)
        with pytest.raises(PublishFailed) as caught:
            await joined.transport.publish([Message("tasks", b"x"), Message("tasks", b"y")])
        assert caught.value.indexes == (0, 1)
        with pytest.raises(TransportUnavailable):
            await workers.ack(held)
        await asyncio.to_thread(server.start)
        assert [row.id for row in await begin(joined.store, "b")] == ["b"]
        async with asyncio.timeout(SOON):
            while not await watch.wait(SOON):
                pass
        await joined.store.commit(Commit(leases=leases, messages=[Message("tasks", b"2")]))
        assert await drain(workers, 1) == [b"2"]
        assert await drain(results, 1) == [b"1"]
        watch.close()


async def test_a_killed_server_loses_no_accepted_start_and_skips_no_message(server: Box) -> None:
    """Messages published without waiting for the disk may be gone and their numbers used again: a reader that goes on
    must not pass over new ones, nor may late acknowledgements of old ones delete them.
    """
    async with opened(server.url + "?poll=0.05") as joined:
        results = await joined.transport.subscribe(exclusive())
        await begin(joined.store, "a")
        await joined.transport.publish([Message("results", b"old-%d" % n) for n in range(5)], durable=False)
        old = await take(results, 5)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert (await one(joined.store, "a")).id == "a"
        await joined.transport.publish([Message("results", b"new-%d" % n) for n in range(5)])
        await results.ack(old)
        seen: set[bytes] = set()
        async with asyncio.timeout(SOON):
            while not seen >= {b"new-%d" % n for n in range(5)}:
                seen |= {each.body for each in await results.receive(10, SOON)}


async def test_every_crash_of_the_server_is_noticed(joined: Joined, url: str) -> None:
    """Also the second in a row, when nobody has subscribed since the first."""
    results = await joined.transport.subscribe(exclusive())
    async with connection_to(url) as server:
        for crash in range(3):
            await joined.transport.publish([Message("results", b"lost-%d" % crash)])
            assert b"lost-%d" % crash in {each.body for each in await results.receive(10, SOON)}
            async with server.transaction():  # what it leaves: the newest message is gone, its position free again
                await server.execute("DELETE FROM incarnation")
                await server.execute("DELETE FROM messages WHERE seq = (SELECT max(seq) FROM messages)")
                await server.execute("UPDATE tails SET tail = tail - 1 WHERE tail > 0")
            await joined.transport.publish([Message("results", b"new-%d" % crash)])
            seen: set[bytes] = set()
            async with asyncio.timeout(PATIENCE):
                while b"new-%d" % crash not in seen:
                    seen |= {each.body for each in await results.receive(10, SOON)}


async def test_closing_while_the_server_is_away_lets_go_of_everything(wire: Wire) -> None:
    """What a member holds cannot be given back; nothing stays open for it, and closing is no error."""
    joined = Joined(wire.url)
    await joined.open()
    member = await joined.transport.subscribe(shared())
    await joined.transport.publish([Message("tasks", b"x")])
    await take(member, 1)
    await wire.close()
    await joined.close()
    with pytest.raises(Closed):
        joined.database.watch("inbox")


@pytest.mark.proves(matrix.FROZEN, "PostgreSQL")
async def test_a_server_that_hangs_is_given_up(server: Box) -> None:
    """A statement that is not answered in time is StoreUnavailable; afterwards it works again."""
    store = connect_store(server.url + "?timeout=0.3&connect_timeout=0.5")
    await store.open()
    server.pause()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.counts(T0)
    server.resume()
    async with asyncio.timeout(4 * SOON):
        while True:
            try:
                await begin(store, "a")
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
    await store.close()


async def test_a_lost_listening_connection_is_made_again(url: str) -> None:
    """Meanwhile waiters look for themselves; afterwards they are told again."""
    store = connect_store(f"{url}&application_name=listener")
    await store.open()
    watch = store.watch("inbox")
    async with connection_to(url) as behind:
        await behind.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_notify%' AND state = 'idle' AND application_name = 'listener'"
        )
    async with opened(url) as other:
        for number in range(5):
            await begin(other.store, f"id-{number}")
            async with asyncio.timeout(SOON):
                assert await watch.wait(SOON)
    watch.close()
    await store.close()


async def test_without_listening_waiters_look_now_and_then(url: str) -> None:
    """`listen=off` needs nothing that a pooler could not do."""
    async with opened(url + "&listen=off&prepare=false&poll=0.01") as here, opened(url) as there:
        workers = await here.transport.subscribe(shared())
        receiving = asyncio.create_task(workers.receive(10, 3600))
        await there.transport.publish([Message("tasks", b"x")])
        async with asyncio.timeout(SOON):
            (delivery,) = await receiving
        assert delivery.body == b"x"
        await workers.ack([delivery])


# databases that cannot be used


async def refused(url: str) -> str:
    """What store and transport say."""
    with pytest.raises(StoreUnusable) as store:
        await connect_store(url).open()
    with pytest.raises((InvalidInput, StoreUnusable)):
        await connect_transport(url).open()
    return str(store.value)


@pytest.mark.proves(matrix.STRANGER, "PostgreSQL")
async def test_a_wrong_password_is_told_without_showing_it(url: str) -> None:
    """The error says what to correct, and no secret."""
    password = Address(url).password
    assert password is not None
    said = await refused(url.replace(f":{password}@", ":not-the-password@"))
    assert "password authentication failed" in said
    assert "correct user and password" in said
    assert "not-the-password" not in said


async def test_a_missing_database_is_told(url: str) -> None:
    """The error says to create it."""
    said = await refused(url.replace(f"/{Address(url).path}?", "/no_such_database?"))
    assert "create the database, or name another" in said


@pytest.mark.proves(matrix.DENIED, "PostgreSQL")
async def test_a_role_without_rights_is_told(url: str) -> None:
    """The error names the schema and the grant that is missing; once granted the use of what is there, it may go on."""
    role = f"weak_{schema_of(url)}"
    address = Address(url)
    weak = url.replace(f"{address.user}:{address.password}@", f"{role}:weak@")
    async with connection_to(url) as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'weak'")
        try:
            said = await refused(weak)
            assert f"may not make or change schema '{schema_of(url)}'" in said
            assert "GRANT CREATE ON DATABASE" in said
            async with opened(url):
                pass
            await admin.execute(
                f"GRANT USAGE ON SCHEMA {schema_of(url)} TO {role};"
                f"GRANT ALL ON ALL TABLES IN SCHEMA {schema_of(url)} TO {role}"
            )
            async with opened(weak) as joined:
                await begin(joined.store, "a")
                await joined.transport.publish([Message("tasks", b"x")])
        finally:
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_another_applications_schema_is_refused(url: str) -> None:
    """Tables that happen to have our names are left alone."""
    schema = schema_of(url)
    async with connection_to(url) as theirs:
        await theirs.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.executions (x int)")
        with pytest.raises(StoreUnusable, match=r"things of another application.*schema="):
            await connect_store(url).open()
        assert await theirs.fetch(f"SELECT * FROM {schema}.executions") == []


async def test_nobody_there_is_told_at_once() -> None:
    """A wrong port is StoreUnavailable, or TransportUnavailable, and nothing stays open."""
    nowhere = "postgresql://edow:secret@127.0.0.1:1/edow"
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await connect_store(nowhere).open()
    with pytest.raises(TransportUnavailable, match="does not answer"):
        await connect_transport(nowhere).open()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("schema=", "schema '' is no name"),
        ("shards=0", "shards 0 is not between 1 and 1,024"),
        ("shards=many", "Expected `int`"),
        ("listen=maybe", "neither on, off, nor HOST:PORT"),
        ("max_message_bytes=1000000000000", "max_message_bytes"),
        ("sharks=4", "there is no option 'sharks'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_tried(options: str, said: str) -> None:
    """The error names the option, its value and what would do."""
    for make in (connect_store, connect_transport):
        with pytest.raises(InvalidInput, match=said):
            make(f"postgresql://edow:secret@127.0.0.1:1/edow?{options}")


def test_a_url_without_a_database_is_refused() -> None:
    """libpq would take the user's name for it, which nobody means."""
    with pytest.raises(InvalidInput, match="names no database"):
        connect_store("postgresql://edow@127.0.0.1")


async def test_options_of_the_client_library_reach_it(url: str) -> None:
    """TLS and its like are asyncpg's own options of a URL."""
    with pytest.raises(StoreUnavailable, match="SSL"):
        await connect_store(url + "&sslmode=require").open()
    async with opened(url + "&sslmode=disable&application_name=my-worker"), connection_to(url) as behind:
        names = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my-worker'"
        assert await behind.fetchval(names) > 0


async def test_a_careless_server_is_warned_of(server: Box, caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not wait for its disk cannot keep what we promise."""
    async with connection_to(f"{server.url}?schema=public") as admin:
        await admin.execute("ALTER ROLE edow SET synchronous_commit = off")
    with caplog.at_level(logging.WARNING):
        store = connect_store(server.url)
        await store.open()
        await store.close()
    assert "does not wait for its disk" in caplog.text


def shown(value: object) -> str:
    """As one would write it into a URL."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def test_the_guide_names_every_option_with_its_default() -> None:
    """The table of options in the documentation is that of the code."""
    page = (Path(__file__).parents[2] / "docs/brokers/postgresql.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, re.MULTILINE))
    fields = msgspec.structs.fields(Settings)
    assert told == {field.name: shown(field.default) for field in fields}


# values


async def test_ids_longer_than_an_index_can_hold(joined: Joined) -> None:
    """A made-up id of a deep child is kept whole, and so is a deep step's key, wherever it is read again."""
    id, step = "m" + "\U0001f511" * 9_000, "s" * 9_000
    leases = await own(joined.store)
    (row,) = await begin(joined.store, id)
    assert row.id == id
    beats = [Heartbeat(id, 1, step, b"half")]
    letter = dead_letter(id, step)
    await joined.store.commit(
        Commit(
            leases=leases,
            appends=[Append(id, 1, 1, 1, segment("x"))],
            updates=[changed(row, events=2, wake_at=T0)],
            heartbeats=beats,
            dead_letters=[letter],
        )
    )
    (stored,) = await joined.store.load([id])
    assert (stored.execution.id, stored.segments[1:], stored.heartbeats) == (id, [segment("x")], {step: b"half"})
    assert [each for each, _ in await all_inbox(joined.store)] == [id]
    assert await joined.store.due_read(range(joined.store.shards), T0, 10) == [(id, T0)]
    assert await joined.store.dead_letters_list(DeadLetterFilter(execution=id)) == [letter]
    assert [each.id for each in (await joined.store.executions_list(ExecutionFilter(id_prefix=id[:5000]))).executions]
    assert await joined.store.executions_get([id[:-1]]) == [None]
    again = await joined.store.accept([start(joined.store, id, "replace")], T0)
    assert again[0].run == 2


async def test_zero_characters_do_no_harm(joined: Joined) -> None:
    """PostgreSQL's text has none: where they are somebody's data they are kept, where they name a thing refused, and a
    listing finds its way around them.
    """
    store = joined.store
    (row,) = await begin(store, "a", attributes=raw({"x": "1\0", "y": "\\\0", "z": "\\u0000"}))
    assert row.attributes == raw({"x": "1\0", "y": "\\\0", "z": "\\u0000"})
    for attributes in ({"x": "1\0"}, {"y": "\\\0"}, {"z": "\\u0000"}):
        page = await store.executions_list(ExecutionFilter(attributes=attributes))
        assert [each.id for each in page.executions] == ["a"]
    assert (await store.executions_list(ExecutionFilter(attributes={"z": "\0"}))).executions == []
    with pytest.raises(InvalidInput):
        await store.accept([start(store, "b", workflow="a\0b")], T0)
    letter = dead_letter("a", "s", failure=raw({"type": "E", "message": "a\0b"}), reason="a\0b")
    await store.commit(Commit(leases={}, dead_letters=[letter]))
    (found,) = await store.dead_letters_list(DeadLetterFilter(error="a\0b"))
    assert found.failure == letter.failure
    await store.commit(Commit(leases={}, dead_letters=[poison_letter(b"x", "a\0b", "no\0thing", T0)]))
    (poison,) = await store.dead_letters_list(DeadLetterFilter(execution=""))
    assert poison.source == "a�b"
    workers = await joined.transport.subscribe(shared())
    await joined.transport.publish([Message("tasks", b"\0", "\0")])
    (delivery,) = await take(workers, 1)
    assert (delivery.body, delivery.key) == (b"\0", "\0")


async def test_numbers_that_do_not_fit_are_refused_alone(joined: Joined) -> None:
    """A number beyond 64 bits is InvalidInput for its caller, others in the same moment are served."""
    good, bad = await asyncio.gather(
        joined.store.accept([start(joined.store, "good")], T0),
        joined.store.accept([start(joined.store, "bad", wake_at=1 << 70)], T0),
        return_exceptions=True,
    )
    assert isinstance(bad, InvalidInput)
    assert not isinstance(good, BaseException)
    assert [row is not None for row in await joined.store.executions_get(["good", "bad"])] == [True, False]


async def test_one_callers_message_is_not_anothers(joined: Joined) -> None:
    """Of publishers that share a transaction, the one whose key cannot be encoded fails alone."""
    outcomes = await asyncio.gather(
        *(joined.transport.publish([Message("tasks", b"%d" % n, "\ud800" if n == 2 else None)]) for n in range(5)),
        return_exceptions=True,
    )
    assert [isinstance(each, InvalidInput) for each in outcomes] == [n == 2 for n in range(5)]
    assert sorted(await drain(await joined.transport.subscribe(shared()), 4)) == [b"0", b"1", b"3", b"4"]


# messages


async def test_more_bytes_than_one_statement_holds_are_several(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch is published piece by piece, in order; what did not get through is named, an unknown topic is told
    before anything is published.
    """
    monkeypatch.setattr(module, "CALL_BYTES", 10)
    batch = [Message("tasks", b"%06d" % number) for number in range(3)]
    with pytest.raises(InvalidInput, match="nowhere"):
        await joined.transport.publish([*batch, Message("nowhere", b"x")])
    publish, calls = joined.transport._queues.publish, []

    async def once(messages: Sequence[Message], *, lax: bool) -> Topics:
        calls.append(len(messages))
        if len(calls) == 2:
            raise StoreUnavailable("away for a test")
        return await publish(messages, lax=lax)

    monkeypatch.setattr(joined.transport._queues, "publish", once)
    with pytest.raises(PublishFailed) as failed:
        await joined.transport.publish(batch)
    assert failed.value.indexes == (1, 2)
    await joined.transport.publish([batch[index] for index in failed.value.indexes])
    assert calls == [1, 1, 1, 1]
    assert await drain(await joined.transport.subscribe(shared()), 3) == [each.body for each in batch]


async def test_more_bytes_than_one_answer_holds_come_in_several(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog of large messages is delivered whole, in both modes, a bounded number of bytes at a time."""
    monkeypatch.setattr("edow.transport.postgresql.shared.CLAIM_BYTES", 1_000_000)
    monkeypatch.setattr("edow.transport.postgresql.cursor.READ_BYTES", 1_000_000)
    async with opened(url) as joined:
        transport = joined.transport
        await transport.ensure([TopicSpec("t", ("shared", "exclusive"))])
        await transport.publish([Message("t", b"%02d" % n + bytes(50_000)) for n in range(80)])
        modes: tuple[Mode, ...] = ("shared", "exclusive")
        for mode in modes:
            subscriber = await transport.subscribe(Subscription(topics=("t",), group=mode, mode=mode))
            first = await subscriber.receive(1000, 1)
            assert 0 < len(first) < 80
            rest = await take(subscriber, 80 - len(first))
            assert [int(each.body[:2]) for each in [*first, *rest]] == list(range(80))


async def test_broadcasts_are_forgotten_after_a_minute(url: str) -> None:
    """What everybody has had time to read leaves the database."""
    clock = [T0]
    transport = PostgresTransport(connect(Address(url), lambda: clock[0]))
    await transport.open()
    await transport.ensure([TopicSpec("t", ())])
    subscriber = await transport.subscribe(Subscription(topics=("t",), group="", mode="broadcast"))
    for _ in range(3):
        await transport.publish([Message("t", b"x")] * 10)
        clock[0] += 61_000_000
    ((count,),) = await transport.database.fetch("SELECT count(*) FROM edow.messages")
    assert count == 10
    await subscriber.close()
    await transport.close()


async def test_many_members_wake_and_starve_nobody(url: str) -> None:
    """Members that are woken in vain leave a moment to others, and still everything is delivered once."""
    async with opened(url) as joined, opened(url) as other:
        members = [await each.transport.subscribe(shared()) for each in (joined, other) for _ in range(10)]
        seen: list[bytes] = []

        async def work(number: int) -> None:
            while len(seen) < 60:
                got = await members[number].receive(3, QUIET)
                seen.extend(each.body for each in got)
                await members[number].ack(got)

        async def publish() -> None:
            for n in range(60):
                await joined.transport.publish([Message("tasks", b"%02d" % n)])

        async with asyncio.timeout(4 * SOON):
            await asyncio.gather(publish(), *(work(number) for number in range(20)))
        assert sorted(seen) == [b"%02d" % n for n in range(60)]


# life


async def test_a_shared_database_lives_until_its_last_user_closes(url: str) -> None:
    """Store and transport open and close the same object independently; then it can be opened again."""
    joined = Joined(url)
    for _ in range(2):
        await joined.open()
        await joined.store.close()
        await joined.transport.publish([Message("tasks", b"x")])
        await joined.transport.close()
        with pytest.raises(Closed):
            joined.database.watch("a")
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'edow' AND query LIKE $1"
    async with connection_to(url) as behind:
        await until(lambda: behind.fetchval(left, f"%{schema_of(url)}%"), lambda found: not found)


async def test_close_finishes_what_was_begun(url: str) -> None:
    """Requests made before the close are stored, and their callers are told."""
    store = connect_store(url)
    await store.open()
    started = [asyncio.ensure_future(store.accept([start(store, f"id-{n}")], T0)) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert {answer.outcome for (answer,) in await asyncio.gather(*started)} == {"accepted"}
    store = PostgresStore(connect(Address(url), now))
    await store.open()
    assert (await store.counts(T0)).by_status == {"running": 50}
    await store.close()


async def test_the_number_of_shards_is_an_option_of_the_first_url(url: str) -> None:
    """Whoever makes the schema decides; a later URL changes nothing."""
    for shards in (7, 3):
        store = connect_store(f"{url}&shards={shards}")
        await store.open()
        assert store.shards == 7
        await store.close()


async def test_two_schemas_of_one_database_know_nothing_of_each_other(url: str) -> None:
    """Neither executions nor messages nor wake-ups cross over."""
    async with own_schema() as second, opened(url) as here, opened(second) as there:
        watch = there.store.watch("inbox")
        await begin(here.store, "a")
        assert await there.store.executions_get(["a"]) == [None]
        await here.transport.publish([Message("tasks", b"x")])
        assert await (await there.transport.subscribe(shared())).receive(10, QUIET) == []
        assert not await watch.wait(0)
        watch.close()


async def test_status_of_a_parked_execution_survives_replacing(joined: Joined) -> None:
    """A replaced run's dead letters are closed with it."""
    leases = await own(joined.store)
    (row,) = await begin(joined.store, "a")
    await joined.store.commit(
        Commit(leases=leases, updates=[changed(row, status=Status.PARKED)], dead_letters=[dead_letter("a", "s")])
    )
    await joined.store.accept([start(joined.store, "a", "replace")], T0)
    (letter,) = await joined.store.dead_letters_list(DeadLetterFilter(state=None))
    assert (letter.state, letter.reason) == ("discarded", "the execution was replaced by a new run")
