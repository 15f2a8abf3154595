"""Temporal: its development server with a database file, and a Python worker in a process of its own.

The file has a write-ahead log and is synced at each commit. Slots are not the limit, and the SDK's own five pollers are
as fast here as twenty; the autoscaling that its guide to worker performance recommends for production is slower.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from load import free_port, measure, process, ready, run
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "peers"
SLOTS = 500


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


async def work(address: str) -> None:
    worker = Worker(
        await Client.connect(address),
        task_queue=QUEUE,
        workflows=[ThreeSteps],
        activities=[nothing],
        workflow_runner=UnsandboxedWorkflowRunner(),  # the faster of the two
        max_concurrent_activities=SLOTS,
        max_concurrent_workflow_tasks=SLOTS,
    )
    await worker.run()


async def load(address: str, folder: str) -> None:
    program = str(Path(sys.executable).with_name("temporal"))
    port, file = address.rpartition(":")[2], os.path.join(folder, "temporal.db")
    words = ("server", "start-dev", "--headless", "--port", port, "--db-filename", file, "--log-level", "error")
    words += ("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full")
    with process("temporal-server", program, *words) as server:
        clients: list[Client] = []

        async def connected() -> bool:
            try:
                clients.append(await Client.connect(address))
            except RuntimeError:
                return False
            return True

        await ready(connected, server)

        async def one(number: int) -> int:
            return await clients[0].execute_workflow(ThreeSteps.run, number, id=f"three-{number}", task_queue=QUEUE)

        with process("temporal-worker", sys.executable, __file__, "worker", address):
            await measure(one)


def main() -> None:
    if sys.argv[1] == "worker":
        run(work(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(dir=os.environ["PEERS_DATA"]) as folder:
        run(load(f"127.0.0.1:{free_port()}", folder))


if __name__ == "__main__":
    main()
