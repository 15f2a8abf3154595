"""Read by mypy, never run: types flow through tasks and workflows, and wrong calls are rejected."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

import edow


@dataclass
class Order:
    id: str
    total: int


@dataclass
class Receipt:
    id: str


@edow.task(retry=edow.Retry(attempts=5), timeout="30s")
async def charge(order: Order, *, note: str = "") -> Receipt:
    return Receipt(order.id)


@edow.task
def pack(order: Order) -> int:
    return order.total


@edow.task(cpu=True)
def crunch(numbers: list[int]) -> float:
    return sum(numbers) / 2


@edow.workflow
async def fulfil(order: Order) -> str:
    assert_type(await charge(order), Receipt)
    assert_type(await charge.with_options(step="pay")(order, note="x"), Receipt)
    assert_type(await pack(order), int)
    assert_type(await crunch([1]), float)
    assert_type(await asyncio.gather(charge(order), pack(order)), tuple[Receipt, int])
    assert_type(await asyncio.gather(*[pack(order) for _ in range(3)]), list[int])
    assert_type(await asyncio.create_task(pack(order)), int)
    async with asyncio.TaskGroup() as group:
        receipt = group.create_task(charge(order))
    assert_type(receipt.result(), Receipt)
    assert_type(await asyncio.wait_for(pack(order), 3), int)
    assert_type(await edow.wait_signal("approved", bool, timeout="2d"), bool)
    assert_type(await edow.side_effect(lambda: 5), int)

    await charge("order")  # type: ignore[arg-type]
    await charge()  # type: ignore[call-arg]
    await charge(order, 5)  # type: ignore[call-arg, arg-type]
    await pack(order, note="x")  # type: ignore[call-arg]
    charge.with_options(tmeout=3)  # type: ignore[call-arg]
    pack(order)  # type: ignore[unused-coroutine]

    async with edow.saga() as saga:
        saga.compensate(charge, order, note="back")
        saga.compensate(charge, "order")  # type: ignore[arg-type]
    return ""


@edow.workflow(name="parent")
async def parent() -> None:
    assert_type(await fulfil(Order("a", 1)), str)
    assert_type(await fulfil.with_options(id="x", on_close="abandon")(Order("a", 1)), str)
    await fulfil(5)  # type: ignore[arg-type]
    fulfil.with_options(on_close="explode")  # type: ignore[arg-type]


call: Coroutine[Any, Any, Receipt] = charge(Order("a", 1))
edow.task(retry="often")  # type: ignore[call-overload]
edow.Retry(attempts="3")  # type: ignore[arg-type]
