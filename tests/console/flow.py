"""What the console's tests look at: an order that waits for a signal, a fan-out, and steps that fail or park."""

from __future__ import annotations

import asyncio
import threading

import edow

gates: list[threading.Event] = []


class Refused(Exception):
    """An answer, not a hitch."""


@edow.workflow
async def order(item: str, card: str = "4111") -> str:
    edow.attributes(item=item)
    await reserve(item)
    approved = await edow.wait_signal("approved", bool)
    return f"{item}: {'sent' if approved else 'refused'}"


@edow.workflow
async def fan_out(count: int) -> int:
    numbers = await asyncio.gather(*(square(number) for number in range(count)))
    return await add(list(numbers))


@edow.workflow
async def broken(text: str) -> str:
    return await parse(text)


@edow.workflow
async def refused(text: str) -> str:
    await refuse(text)
    return text


@edow.workflow
async def held() -> None:
    await hold()


@edow.task
def hold() -> None:
    """Until a test opens the gate; the worker is in the test's own process."""
    gates[-1].wait(60)


@edow.task
async def reserve(item: str) -> str:
    return item


@edow.task
async def square(number: int) -> int:
    return number * number


@edow.task
async def add(numbers: list[int]) -> int:
    return sum(numbers)


@edow.task(retry=edow.Retry(attempts=2, initial="10ms"), exhausted="park")
async def parse(text: str) -> str:
    return str(int(text))


@edow.task(retry=edow.Retry(attempts=1))
async def refuse(text: str) -> None:
    raise Refused(f"no: {text}")
