"""The dead-letter desk on a running system: groups, the parking lot, dry runs, and redrives in stages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import edow
from edow.app import now
from edow.client import audit, redrives
from edow.client.actor import Actor
from edow.client.audit import AuditFilter
from edow.client.desk import Stages
from edow.client.redriver import Redriver
from edow.client.redrives import Redrive
from edow.errors import InvalidInput, NotFound, SignatureMismatch, StoreUnavailable, WrongState
from edow.store.contract import DeadLetterFilter, Record, Store
from edow.testing.boundaries import BoundaryStore
from edow.trigger.poison import Buried, bury
from tests.integration.system import Running, Setup, registry_of, running, until

FAILS: set[int] = set()
RAN: Counter[int] = Counter()
QUICK = Stages(stages=(1, 4), rate=1000.0)


@edow.task(retry=1, exhausted="park")
async def deliver(number: int, street: str = "") -> int:
    RAN[number] += 1
    if street == "nowhere":
        raise LookupError(f"no street {street!r} for parcel {number}")
    if number in FAILS:
        raise ConnectionError(f"depot {number} does not answer")
    return number


@edow.workflow
async def parcel(number: int, street: str = "") -> int:
    return await deliver(number, street)


REGISTRY = registry_of(globals())


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Running]:
    FAILS.clear()
    RAN.clear()
    async with running(Setup(tmp_path), REGISTRY) as made:
        yield made


async def parked(made: Running, numbers: range, street: str = "") -> list[edow.Handle[int]]:
    """Executions that wait with a dead letter each."""
    FAILS.update(numbers)
    ids = [f"p{number}" for number in numbers]
    handles = await made.client.start_many(parcel, [(number, street) for number in numbers], ids)

    async def all_there() -> bool:
        return len(await made.client.dead_letters(DeadLetterFilter(aside=None))) >= len(ids)

    await until(all_there)
    return handles


async def over(made: Running, redrive: Redrive, redrivers: int = 1) -> Redrive:
    """Driven by so many at once, until it has ended."""
    hands = [Redriver(made.system.store, now) for _ in range(redrivers)]

    async def ended() -> bool:
        await asyncio.gather(*(each.run_once() for each in hands))
        return (await made.client.desk().get_redrive(redrive.id)).ended_at is not None

    await until(ended)
    return await made.client.desk().get_redrive(redrive.id)


def group(made: Running) -> DeadLetterFilter:
    return DeadLetterFilter(task="deliver")


async def test_failures_of_one_kind_are_one_group(setup: Running) -> None:
    """Whatever differs in their messages; what is set aside is shown apart."""
    await parked(setup, range(5))
    await setup.client.start(parcel.with_options(id="lost"), 77, "nowhere")

    async def both() -> bool:
        return len(await setup.client.desk().groups()) == 2

    await until(both)
    first, second = await setup.client.desk().groups()
    assert (first.count, first.newest.task, second.count) == (5, "deliver", 1)
    where = DeadLetterFilter(fingerprint=second.fingerprint)
    assert await setup.client.desk().set_aside(where, "asked the sender") == 1
    assert [each.count for each in await setup.client.desk().groups()] == [5]
    [aside] = await setup.client.desk().groups(aside=True)
    assert (aside.fingerprint, aside.newest.lot) == (second.fingerprint, "asked the sender")
    assert await setup.client.desk().bring_back(where) == 1
    assert len(await setup.client.desk().groups()) == 2
    with pytest.raises(InvalidInput, match="say why"):
        await setup.client.desk().set_aside(where, " ")
    with pytest.raises(NotFound, match="no dead letter 'x'"):
        await setup.client.desk().set_aside("x", "why")


async def test_a_dry_run_tells_what_would_not_do(setup: Running) -> None:
    """The arguments of each as they would be; nothing is run."""
    await parked(setup, range(3))
    before = dict(RAN)
    desk = setup.client.desk()
    good = await desk.dry_run(group(setup), {"street": "Main"}, REGISTRY)
    assert (good.letters, good.unfit) == (3, 0)
    assert {msgspec.json.decode(each.args)["street"] for each in good.trials} == {"Main"}
    bad = await desk.dry_run(group(setup), {"street": 5}, REGISTRY)
    assert (bad.letters, bad.unfit) == (3, 3)
    assert "street" in bad.trials[0].problem
    with pytest.raises(SignatureMismatch):
        await desk.redrive(group(setup), {"street": 5}, registry=REGISTRY)
    assert (RAN, await desk.redrives()) == (before, [])


async def test_all_are_redriven_when_the_first_ones_succeed(setup: Running) -> None:
    """By several processes at once, and each letter once."""
    handles = await parked(setup, range(12))
    FAILS.clear()
    RAN.clear()
    begun = await setup.client.desk().redrive(group(setup), {"street": "Main"}, QUICK, registry=REGISTRY)
    ended = await over(setup, begun, redrivers=3)
    assert (ended.state, ended.succeeded, ended.failed, ended.gone) == ("completed", 12, 0, 0)
    assert [await handle.result() for handle in handles] == list(range(12))
    assert set(RAN.values()) == {1}


@pytest.mark.parametrize("is_applied", [False, True])
async def test_whatever_dies_at_any_of_its_writes_each_letter_is_redriven_once(
    setup: Running, monkeypatch: pytest.MonkeyPatch, is_applied: bool
) -> None:
    """Before it is on disk, or after; a successor knows nothing but the record."""
    handles = await parked(setup, range(12))
    FAILS.clear()
    RAN.clear()
    begun = await setup.client.desk().redrive(group(setup), None, QUICK)
    store, writes = setup.system.store, 0
    write = store.records_put

    async def dying(*given: object, **options: object) -> object:
        nonlocal writes
        writes += 1
        if writes % 2:  # every other one, so that it gets on
            if is_applied:
                await write(*given, **options)  # type: ignore[arg-type]
            raise StoreUnavailable("killed")
        return await write(*given, **options)  # type: ignore[arg-type]

    async def ended() -> bool:
        with suppress(StoreUnavailable):
            await Redriver(store, now).run_once()
        return (await setup.client.desk().get_redrive(begun.id)).ended_at is not None

    monkeypatch.setattr(store, "records_put", dying)
    await until(ended)
    result = await setup.client.desk().get_redrive(begun.id)
    assert (result.state, result.succeeded, result.failed) == ("completed", 12, 0)
    assert [await handle.result() for handle in handles] == list(range(12))
    assert set(RAN.values()) == {1}
    assert writes > 3


async def test_it_stops_by_itself_when_they_fail_again(setup: Running) -> None:
    """After the first one: the others wait as before."""
    await parked(setup, range(6))
    RAN.clear()
    ended = await over(setup, await setup.client.desk().redrive(group(setup), None, QUICK))
    assert (ended.state, ended.succeeded, ended.failed) == ("stopped", 0, 1)
    assert "1 of 1 failed again" in ended.why
    assert sum(RAN.values()) == 1
    assert len(await setup.client.dead_letters()) == 6


async def test_what_failed_again_is_not_tried_again(setup: Running) -> None:
    """By the same redrive, however high a share of failures it bears."""
    await parked(setup, range(8))
    FAILS.difference_update(range(4))
    RAN.clear()
    how = Stages(stages=(2,), rate=1000.0, stop_above=1.0)
    ended = await over(setup, await setup.client.desk().redrive(group(setup), None, how))
    assert (ended.state, ended.succeeded, ended.failed) == ("completed", 4, 4)
    assert set(RAN.values()) == {1}


async def test_somebody_stops_it(setup: Running) -> None:
    """And both are written down; what has ended cannot be stopped."""
    await parked(setup, range(3))
    operator = setup.client.acting_as(Actor("token:ada", "operate", "192.0.2.1"))
    begun = await operator.desk().redrive(group(setup), None, QUICK)
    await operator.desk().stop_redrive(begun.id, "wrong group")
    ended = await over(setup, begun)
    assert (ended.state, ended.why, ended.created_by) == ("stopped", "wrong group", "token:ada")
    assert sum(RAN.values()) == 3
    with pytest.raises(WrongState, match="stopped already"):
        await operator.desk().stop_redrive(begun.id)
    await operator.desk().set_aside("p0/1/deliver", "later")
    await operator.discard("p1/1/deliver", "spam")
    page = await audit.page(setup.system.store, AuditFilter())
    assert [each.action for each in page.entries] == [
        "dead_letter.discard",
        "dead_letter.set_aside",
        "dead_letter.stop_redrive",
        "dead_letter.redrive_in_stages",
    ]


async def test_it_is_stopped_also_while_it_goes_a_step_further(setup: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops it need not try again."""
    await parked(setup, range(3))
    begun = await setup.client.desk().redrive(group(setup), None, QUICK)
    find, looks = redrives.find, []

    async def overtaken(store: Store, id: str) -> tuple[Redrive, Record]:
        found = await find(store, id)
        looks.append(id)
        if len(looks) == 1:
            await Redriver(store, now).run_once()
        return found

    monkeypatch.setattr(redrives, "find", overtaken)
    assert (await setup.client.desk().stop_redrive(begun.id)).state == "stopped"
    assert len(looks) == 2


async def test_an_execution_that_ends_meanwhile_holds_nothing_up(setup: Running) -> None:
    """Its letter is counted as gone."""
    handles = await parked(setup, range(3))
    begun = await setup.client.desk().redrive(group(setup), None, Stages(stages=(), rate=1000.0, stop_above=1.0))
    await handles[0].terminate()
    with pytest.raises(edow.errors.WorkflowTerminated):
        await handles[0].result()
    ended = await over(setup, begun)
    assert ended.state == "completed"
    assert (ended.failed, ended.gone) in {(2, 0), (2, 1)}  # a letter of what has ended may be gone from the list


async def test_nothing_selected_is_told(setup: Running) -> None:
    """With where to look."""
    with pytest.raises(InvalidInput, match="edow dlq groups"):
        await setup.client.desk().redrive(DeadLetterFilter(fingerprint="unknown"))
    with pytest.raises(NotFound, match="edow dlq redrives"):
        await setup.client.desk().get_redrive("unknown")


class Died(Exception):
    """The process, at a boundary between two writes."""


@pytest.mark.parametrize("what", ["set aside", "brought back", "poison closed"])
@pytest.mark.parametrize("write", ["before", "after"])
async def test_it_is_done_and_written_down_or_neither(setup: Running, what: str, write: str) -> None:
    """There is one write to die at: before it there is nothing; after it the letter has moved, and the log says so."""
    await parked(setup, range(1))
    store = setup.system.store
    await bury(store, Buried("trigger/t", "trigger t", b"bytes"), "unreadable", 1)
    [poison] = [each.id for each in await store.dead_letters_list(DeadLetterFilter()) if not each.execution]
    letter = poison if what == "poison closed" else "p0/1/deliver"
    if what == "brought back":
        await setup.client.desk().set_aside(letter, "later")

    async def waits() -> bool:
        return letter in {each.id for each in await store.dead_letters_list(DeadLetterFilter())}

    def die(name: str) -> None:
        if name.endswith(write):
            raise Died(name)

    before = await waits()
    async with edow.Client(store=BoundaryStore(store, die), actor=Actor("cli:ada")) as operator:  # type: ignore[arg-type]
        acts = {
            "set aside": lambda: operator.desk().set_aside(letter, "later"),
            "brought back": lambda: operator.desk().bring_back(letter),
            "poison closed": lambda: operator.discard(letter, "spam"),
        }
        with pytest.raises(Died):
            await acts[what]()
    logged = (await audit.page(store, AuditFilter())).entries
    assert (await waits() != before) == bool(logged) == (write == "after")
