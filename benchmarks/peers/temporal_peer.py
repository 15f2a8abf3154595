"""Temporal: its development server with a database file, one Python worker process."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from datetime import timedelta

from load import arguments, measure, process
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

ADDRESS = "127.0.0.1:17233"
QUEUE = "peers"


@activity.defn
async def nothing(number: int) -> int:
    return number


@workflow.defn
class ThreeSteps:
    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(3):
            number = await workflow.execute_activity(nothing, number, start_to_close_timeout=timedelta(seconds=30))
        return number


async def connected() -> Client:
    while True:
        try:
            return await Client.connect(ADDRESS)
        except RuntimeError:
            await asyncio.sleep(0.2)


async def work() -> None:
    runner = UnsandboxedWorkflowRunner()  # the faster of the two
    worker = Worker(
        await connected(),
        task_queue=QUEUE,
        workflows=[ThreeSteps],
        activities=[nothing],
        workflow_runner=runner,
        max_concurrent_activities=500,
        max_concurrent_workflow_tasks=500,
    )
    await worker.run()


async def load() -> None:
    client = await connected()

    async def one(number: int) -> int:
        return await client.execute_workflow(ThreeSteps.run, number, id=f"three-{number}", task_queue=QUEUE)

    await measure(one, *arguments())


def main() -> None:
    if sys.argv[1] == "worker":
        asyncio.run(work())
        return
    program = os.path.join(os.path.dirname(sys.executable), "temporal")
    with (
        tempfile.TemporaryDirectory() as folder,
        process(
            program, "server", "start-dev", "--headless", "--port", ADDRESS.partition(":")[2],
            "--db-filename", os.path.join(folder, "temporal.db"), "--log-level", "error",
        ),
        process(sys.executable, __file__, "worker"),
    ):  # fmt: skip
        asyncio.run(load())


if __name__ == "__main__":
    main()
