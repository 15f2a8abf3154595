"""Generated workflows in a random world: at every point of history a rebuilt machine decides as the live one did."""

import asyncio
import random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edow
from edow.engine.decision import Tick
from edow.model import history as h
from edow.model import inbox
from edow.model.failure import Failure
from tests.unit.engine.driving import Drive, failed, raw, result


@edow.task(retry=edow.Retry(attempts=2, initial="1s"))
async def work(n: int) -> int:
    return n


@edow.task(retry=1, exhausted="park")
async def careful(n: int) -> int:
    return n


@edow.task(retry=2, schedule_to_start="3s", schedule_to_close="9s")
async def hurried(n: int) -> int:
    return n


@edow.task(retry=1)
async def undo(n: int) -> None: ...


@edow.workflow
async def child(n: int) -> int:
    return n


TASKS = [work, careful, hurried]


async def perform(node) -> int:
    """Run one node of a generated tree."""
    kind, *rest = node
    return await KINDS[kind](*rest)


async def call(which, n):
    return await TASKS[which % 3](n)


async def in_turn(nodes):
    return sum([await perform(node) for node in nodes])


async def together(nodes):
    return sum(await asyncio.gather(*[perform(node) for node in nodes]))


async def grouped(nodes):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(perform(node)) for node in nodes]
    return sum(task.result() for task in tasks)


async def first(nodes):
    tasks = [asyncio.create_task(perform(node)) for node in nodes]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks)
    return len(done)


async def as_they_come(nodes):
    return sum([await each for each in asyncio.as_completed([perform(node) for node in nodes])])


async def limited(seconds, node):
    try:
        async with asyncio.timeout(seconds):
            return await perform(node)
    except TimeoutError:
        return await work(seconds)


async def pause(seconds):
    await (edow.sleep(seconds) if seconds % 2 else asyncio.sleep(seconds))
    return edow.random().randrange(5) + edow.now().microsecond % 3


async def hear(timeout):
    try:
        return await edow.wait_signal("s", int, timeout=timeout)
    except TimeoutError:
        return -1


async def raise_child(n):
    return await child(n)


async def value(n):
    edow.progress(n)
    return await edow.side_effect(lambda: n)


async def saga(node, fails):
    try:
        async with edow.saga() as saga:
            saga.compensate(undo, 1)
            found = await perform(node)
            saga.compensate(undo, 2)
            if fails:
                raise ValueError
            return found
    except ValueError:
        return -2


async def caught(node):
    try:
        return await perform(node)
    except* edow.Failed:
        pass
    return -3


KINDS = {
    "call": call, "in_turn": in_turn, "together": together, "grouped": grouped, "first": first,
    "as_they_come": as_they_come, "limited": limited, "pause": pause, "hear": hear, "child": raise_child,
    "value": value, "saga": saga, "caught": caught,
}  # fmt: skip

numbers = st.integers(0, 6)
leaves = st.one_of(
    st.tuples(st.just("call"), numbers, numbers),
    st.tuples(st.just("pause"), numbers),
    st.tuples(st.just("hear"), numbers),
    st.tuples(st.just("child"), numbers),
    st.tuples(st.just("value"), numbers),
)
several = ("in_turn", "together", "grouped", "first", "as_they_come")
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(several), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("limited"), numbers, inner),
        st.tuples(st.just("saga"), inner, st.booleans()),
        st.tuples(st.just("caught"), inner),
    ),
    max_leaves=8,
)


class World:
    """Answers at random, in a random order, sometimes twice, sometimes with a failure; cancels now and then."""

    def __init__(self, drive, chance):
        self.drive, self.chance = drive, chance
        self.waiting, self.letters, self.children = [], set(), []

    def learn(self, decision):
        self.waiting += decision.dispatches
        self.children += decision.children
        self.letters |= {letter.step for letter in decision.letters if letter.parked}
        self.letters -= {letter.step for letter in decision.letters_closed}

    def inputs(self):
        return [self.one() for _ in range(self.chance.randint(1, 3))]

    def one(self):
        choice = self.chance.random()
        if self.waiting and choice < 0.6:
            return self.answer()
        if self.children and choice < 0.7:
            return self.end_child()
        if self.letters and choice < 0.8:
            step = self.chance.choice(sorted(self.letters))
            kind = self.chance.choice((inbox.Redrive, inbox.Discard))
            return kind(run=1, step=step)
        if choice < 0.85:
            return inbox.Signal(name="s", payload=raw(self.chance.randrange(9)))
        if choice < 0.93:
            return inbox.Pause() if choice < 0.88 else inbox.Resume()
        return inbox.Cancel() if choice > 0.985 else Tick()

    def answer(self):
        dispatch = self.chance.choice(self.waiting)
        if self.chance.random() < 0.9:
            self.waiting.remove(dispatch)
        if self.chance.random() < 0.25:
            return failed(dispatch)
        if self.chance.random() < 0.1:
            return msgspec.structs.replace(result(dispatch), outcome="started")
        return result(dispatch, self.chance.randrange(9))

    def end_child(self):
        started = self.children.pop(self.chance.randrange(len(self.children)))
        if self.chance.random() < 0.3:
            return inbox.ChildEnded(run=1, step=started.step, failure=Failure(type="E", message="m"))
        return inbox.ChildEnded(run=1, step=started.step, result=raw(1))


def live(tree, seed):
    """Run it to its end or for a while; what was given and decided, turn by turn."""

    @edow.workflow(name="tree")
    async def flow() -> int:
        return await perform(tree)

    chance = random.Random(seed)
    drive = Drive(flow)
    world = World(drive, chance)
    turns = []
    given = [inbox.Start()]
    for _ in range(60):
        count = len(drive.segments)
        decision = drive.apply(*given, after=chance.choice((0.001, 0.5, 2)))
        turns.append((count, given, drive.now, told(decision)))
        world.learn(decision)
        if decision.status not in ("running", "parked"):
            break
        given = world.inputs()
    drive.machine.close()
    return drive, turns


def told(decision):
    """Everything a decision says that others act on, stacks (which hold line numbers of the run loop) aside."""
    found = msgspec.to_builtins(
        {
            "events": h.encoder.encode(decision.events).decode(),
            "dispatches": [(d.step, d.task, d.attempt, bytes(d.args), d.scheduled_at) for d in decision.dispatches],
            "cancels": decision.cancels,
            "children": [c.execution for c in decision.children],
            "child_cancels": decision.child_cancels,
            "letters": [(x.step, x.parked, x.attempts) for x in decision.letters],
            "closed": [(x.step, x.discarded) for x in decision.letters_closed],
            "status": decision.status,
            "wake_at": decision.wake_at,
            "duplicates": decision.duplicates,
        }
    )
    assert isinstance(found, dict)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees, seed=st.integers(0, 2**32))
def test_a_rebuilt_machine_decides_as_the_live_one(tree, seed):
    """At every prefix of the history: the same events, commands, status and next moment."""
    drive, turns = live(tree, seed)

    for count, given_inputs, now, expected in turns:
        machine = drive.rebuilt(segments=count)
        assert machine.disagreement is None
        assert told(machine.apply(given_inputs, now)) == expected
        machine.close()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees, seed=st.integers(0, 2**32), data=st.data())
def test_a_rebuilt_machine_goes_on_to_the_same_end(tree, seed, data):
    """From a point anywhere, all that follows is the same."""
    drive, turns = live(tree, seed)
    begin = data.draw(st.integers(0, len(turns) - 1))

    machine = drive.rebuilt(segments=turns[begin][0])
    for _, given_inputs, now, expected in turns[begin:]:
        assert told(machine.apply(given_inputs, now)) == expected
    machine.close()
