"""CPU-bound tasks for the tests: at module level, where a fresh process finds them."""

from __future__ import annotations

import os
import time
from typing import Any

import edow


class Declined(Exception):
    pass


@edow.task(cpu=True)
def square(x: int) -> int:
    print("printing must not disturb the pipes")
    return x * x


@edow.task(cpu=True, retry=edow.Retry(give_up_on=Declined))
def refuse(how: str) -> None:
    raise Declined(how) if how == "declined" else ValueError(how)


@edow.task(cpu=True)
def die(code: int) -> None:
    os._exit(code)


@edow.task(cpu=True)
def kill_itself() -> None:
    os.kill(os.getpid(), 9)


@edow.task(cpu=True)
def compute_for_ever() -> None:
    while True:
        sum(range(1_000))


@edow.task(cpu=True)
def beat_for_ever(pause: float) -> None:
    count = edow.context().heartbeat_details(int) or 0
    while True:
        count += 1
        edow.context().heartbeat(count)
        time.sleep(pause)


@edow.task(cpu=True)
def where() -> dict[str, Any]:
    here = edow.context()
    return {
        "pid": os.getpid(),
        "execution": here.execution,
        "attempt": here.attempt,
        "key": here.idempotency_key,
        "worker": here.worker,
        "details": here.heartbeat_details(int),
    }
