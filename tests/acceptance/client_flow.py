"""What the generated client's processes run: a workflow that waits for a signal, and a task that fails for 13."""

from __future__ import annotations

import edow


@edow.task(retry=edow.Retry(attempts=1), exhausted="park")
async def charge(amount: int) -> str:
    if amount == 13:
        raise ValueError("an unlucky amount")
    return f"paid {amount}"


@edow.workflow
async def charge_card(amount: int) -> str:
    return await charge(amount)


@edow.workflow
async def fulfil(order: int) -> str:
    approved = await edow.wait_signal("approved", bool)
    return f"order {order}: {approved}"
