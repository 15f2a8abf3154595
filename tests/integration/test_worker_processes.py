"""CPU-bound tasks in child processes: they can be killed, they may die, and nothing else suffers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest

import edow
from edow.worker import processes
from edow.worker.attempt import Attempt
from edow.worker.child import Boot, Source
from edow.worker.mailbox import Mailbox
from tests.unit.worker import process_tasks as tasks
from tests.unit.worker.harness import FAST, bench, failure, task_event, value

ONE = msgspec.structs.replace(FAST, processes=1)


async def test_in_a_process_of_its_own() -> None:
    """The task runs elsewhere, knows its attempt there, and the child is used again."""
    async with bench(tasks.where, config=ONE) as b:
        await b.send(task_event("where", attempt=2, heartbeatdetails="5"), task_event("where", step="second"))
        first, second = await b.until_results(2)
    told = value(first)
    assert (told["execution"], told["attempt"], told["key"]) == ("e", 2, "e/1/where")
    assert (told["worker"], told["details"]) == ("test", 5)
    assert told["pid"] == value(second)["pid"] != os.getpid()


async def test_several_children() -> None:
    """Results and failures come back as from any other task."""
    async with bench(tasks.square, tasks.refuse) as b:
        await b.send(*(task_event("square", {"x": i}, step=f"s{i}") for i in range(20)))
        await b.send(*(task_event("refuse", {"how": how}, step=how) for how in ("declined", "broken")))
        results = {result.step: result for result in await b.until_results(22)}
    assert [value(results[f"s{i}"]) for i in range(20)] == [i * i for i in range(20)]
    assert results["declined"].final
    assert failure(results["declined"])["type"].endswith("process_tasks.Declined")
    assert not results["broken"].final
    assert "raise Declined(how)" in failure(results["broken"])["stack"]


async def test_arguments_do_not_fit() -> None:
    """The child checks the arguments as the other runners do."""
    async with bench(tasks.square, config=ONE) as b:
        await b.send(task_event("square", {"y": 1}))
        (result,) = await b.until_results()
    assert (result.final, failure(result)["type"]) == (True, "edow.errors.SignatureMismatch")


@pytest.mark.parametrize(
    ("event", "how"),
    [(task_event("die", {"code": 3}), "exit code 3"), (task_event("kill_itself"), "signal SIGKILL")],
)
async def test_child_dies(event: object, how: str) -> None:
    """A child that dies fails its attempt, which may be retried, and is replaced."""
    async with bench(tasks.die, tasks.kill_itself, tasks.square, config=ONE) as b:
        await b.send(event)
        (result,) = await b.until_results()
        await b.send(task_event("square", {"x": 3}))
        results = await b.until_results(2)
    assert (result.outcome, result.final) == ("failed", False)
    assert how in failure(result)["message"]
    assert value(results[1]) == 9


async def test_killed_at_its_timeout() -> None:
    """A task that computes for ever is killed at its timeout."""
    async with bench(tasks.compute_for_ever, tasks.square, config=ONE) as b:
        await b.send(task_event("compute_for_ever", timeoutms=50))
        (result,) = await b.until_results()
        await b.send(task_event("square", {"x": 3}))
        results = await b.until_results(2)
    assert failure(result)["kind"] == "start_to_close"
    assert value(results[1]) == 9


async def test_cancelled() -> None:
    """A cancellation kills the child."""
    async with bench(tasks.beat_for_ever, config=ONE) as b:
        await b.send(task_event("beat_for_ever", {"pause": 0.001}, heartbeatms=60_000))
        await b.until_results(1, "heartbeat")
        await b.cancel("e/1/beat_for_ever")
        (result,) = await b.until_results(1, "cancelled")
    assert result.outcome == "cancelled"


async def test_heartbeats_from_a_child() -> None:
    """Heartbeats cross the process border, and their absence ends the attempt."""
    async with bench(tasks.beat_for_ever, config=ONE) as b:
        event = task_event("beat_for_ever", {"pause": 0.01}, heartbeatms=600, heartbeatdetails="100")
        await b.send(event)
        beats = await b.until_results(2, "heartbeat")
        await b.cancel("e/1/beat_for_ever")
        await b.until_results(1, "cancelled")
        await b.send(task_event("beat_for_ever", {"pause": 60.0}, heartbeatms=100, attempt=2, step="b"))
        (failed,) = await b.until_results(1, "failed")
    assert 100 < value(beats[0]) < value(beats[1])
    assert failure(failed)["kind"] == "heartbeat"


async def test_task_that_no_child_can_find() -> None:
    """A process task that is not at module level fails for good, with the remedy."""

    @edow.task(cpu=True)
    def local() -> None: ...

    async with bench(local, config=ONE) as b:
        await b.send(task_event("local"))
        (result,) = await b.until_results()
    assert (result.final, failure(result)["type"]) == (True, "edow.errors.NotFound")
    assert "top level" in failure(result)["message"]


async def test_a_child_that_never_gets_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is ended, and its attempt fails, to be tried again: a module that hangs when it is imported holds no place."""
    monkeypatch.setattr(processes, "BOOT_SECONDS", 0.05)
    module = tmp_path / "hangs.py"
    module.write_text("import threading\nthreading.Event().wait()\n")
    ended: asyncio.Queue[Attempt] = asyncio.Queue()
    queue: SimpleQueue[Attempt | None] = SimpleQueue()
    mailbox = Mailbox[Attempt](
        asyncio.get_running_loop(), lambda attempts: [ended.put_nowait(each) for each in attempts]
    )
    slot = processes.Slot(queue, mailbox, Boot(list(sys.path), [Source("__main__", str(module))], "w"))
    slot.start()
    queue.put(Attempt(task_event("square"), tasks.square, 1))
    attempt = await ended.get()
    queue.put(None)
    await asyncio.to_thread(slot.join)
    assert attempt.failure is not None
    assert attempt.failure.retryable
    assert "or took" in attempt.failure.message


SCRIPT = """
import asyncio, json, sys
import edow
from tests.unit.worker.harness import bench, failure, task_event, value

class Declined(Exception): pass

@edow.task(cpu=True)
def square(x: int) -> int:
    if x < 0:
        raise Declined("negative")
    return x * x

async def main() -> None:
    async with bench(square) as b:
        await b.send(task_event("square", {"x": 5}), task_event("square", {"x": -1}, step="b"))
        done, failed = sorted(await b.until_results(2), key=lambda result: result.outcome)
        print(json.dumps([value(done), failure(failed)["type"]]))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_tasks_of_a_script(tmp_path: Path) -> None:
    """A script that is run as __main__ may define process tasks; its main part does not run in the children."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    done = subprocess.run(
        [sys.executable, str(script)], check=False, env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '[25, "__main__.Declined"]\n'
