"""What `edow demo`, `verify` and `bench` make on servers for themselves is gone when they end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis

from edow.app import connect_transport
from edow.errors import InvalidInput
from edow.model import topics
from edow.model.message import Message
from edow.testing.polling import until
from edow.testing.scratch import scratch
from edow.transport.contract import Subscription, TopicSpec
from tests.servers import server_url

MODULES = ["edow.bench.workflows"]
TASKS, RESULTS = topics.task_topic("default"), topics.result_topic(3)
SERVERS = ["POSTGRES", "REDIS", "NATS", "KAFKA", "RABBITMQ", "PUBSUB", "SQS"]


@pytest.mark.parametrize("server", SERVERS)
async def test_nothing_is_left_on_a_broker(tmp_path: Path, server: str) -> None:
    """Topics and groups that were made and used are not there any more; what the user has named is."""
    url = server_url(f"EDOW_{server}")
    async with scratch((None, url), tmp_path, MODULES) as (_, own):
        assert own is not None
        assert own.startswith(url)
        transport = connect_transport(own)
        await transport.open()
        await transport.ensure([TopicSpec(TASKS, (topics.WORKERS,)), TopicSpec(RESULTS, (topics.ORCHESTRATORS,))])
        await transport.ensure([TopicSpec(topics.CONTROL, ())])
        reader = await transport.subscribe(Subscription(topics=(TASKS,), group=topics.WORKERS))
        await transport.publish([Message(TASKS, b"a", "key"), Message(TASKS, b"b"), Message(RESULTS, b"c")])
        assert await reader.receive(1, 10.0)
        await transport.close()
    transport = connect_transport(own)
    await transport.open()
    for name in (TASKS, RESULTS):
        with pytest.raises(InvalidInput):
            await transport.publish([Message(name, b"late")])
    await transport.close()
    async with scratch((None, own), tmp_path, MODULES) as (_, named):
        assert named == own


@pytest.mark.parametrize(
    ("command", "number"), [("bench", signal.SIGINT), ("demo", signal.SIGTERM), ("verify", signal.SIGINT)]
)
async def test_nothing_is_left_by_an_interrupted_command(command: str, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM in the middle: its processes end, and its schema and keys go."""
    database, keyspace = f"scratch_{uuid4().hex[:8]}", 9
    place = server_url("EDOW_POSTGRES").rpartition("/")[0]
    store, transport = f"{place}/{database}", f"{server_url('EDOW_REDIS')}/{keyspace}"
    admin = await asyncpg.connect(f"{place}/postgres")
    await admin.execute(f"CREATE DATABASE {database}")
    keys = redis.Redis.from_url(transport)
    try:
        told = {"bench": ["latency", "--processes"], "demo": [], "verify": ["--seconds", "30"]}[command]
        words = [sys.executable, "-m", "edow", command, *told, "--store", store, "--transport", transport]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
            await until(lambda: in_use(store, keys))
            running.send_signal(number)
            _, said = await asyncio.to_thread(running.communicate)
        assert running.returncode == 130, said
        assert "could not be removed" not in said
        assert not await schemas(store)
        assert keys.keys("*scratch*") == []
    finally:
        keys.close()
        await admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
        await admin.close()


async def in_use(store: str, keys: redis.Redis) -> bool:
    return bool(keys.keys("*scratch*")) and bool(await schemas(store))


async def schemas(store: str) -> list[str]:
    connection = await asyncpg.connect(store)
    try:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'scratch%'")
        return [row[0] for row in rows]
    finally:
        await connection.close()
