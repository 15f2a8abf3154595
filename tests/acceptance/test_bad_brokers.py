"""What can be wrong with a broker, and what others put on it: a clear error or a dead letter each; nothing stops."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edow
from edow.address import Address
from edow.app import System, connect_transport, load_registry
from edow.client import Client
from edow.errors import Unavailable
from edow.model import topics, wire
from edow.model.message import Message
from edow.store.contract import DeadLetter, DeadLetterFilter
from edow.testing.erasing import erase
from edow.testing.polling import until
from edow.transport.contract import Subscription, TopicSpec
from scripts.servers.services import box
from tests.acceptance.bad_flow import receives, sends, works
from tests.acceptance.commands import edow_command
from tests.conformance.transports import url_of
from tests.servers import server_url

FLOW = "tests.acceptance.bad_flow"
SERVERS = ["POSTGRES", "REDIS", "RABBITMQ", "NATS", "KAFKA", "PUBSUB", "SQS"]
SOON = 40.0
EVERY = DeadLetterFilter(state="raised")
LIMITS = {
    "POSTGRES": "max_message_bytes=100000",
    "REDIS": "max_message_bytes=100000",
    "RABBITMQ": "max_message_bytes=100000",
    "NATS": "",  # the server's: 1 MB
    "KAFKA": "max_message_bytes=100000&timeout=3",
    "SQS": "max_message_bytes=100000&poll=1",
}
"""What makes messages of more than 100,000 bytes too large. Pub/Sub takes every payload that EDOW does."""

each_server = pytest.mark.parametrize("server", SERVERS)


# while it runs


@asynccontextmanager
async def running(server: str, folder: Path) -> AsyncIterator[tuple[System, Client, str]]:
    """An orchestrator and a worker over this broker, and its URL."""
    url = url_of(server, folder) + (f"&{LIMITS[server]}" if LIMITS.get(server) else "")
    try:
        async with (
            System(f"sqlite:///{folder}/edow.db", url, load_registry([FLOW])) as system,
            Client(store=system.store) as client,
        ):
            parts = [system.orchestrator(), system.worker()]
            for part in parts:
                await part.start()
            try:
                yield system, client, url
            finally:
                for part in reversed(parts):
                    await part.stop()
    finally:
        await erase(url, ["default"])


async def still_works(client: Client, first: int) -> None:
    """Executions end as they should."""
    async with asyncio.timeout(SOON):
        handles = await client.start_many(works, [(number,) for number in range(first, first + 5)])
        assert [await handle.result() for handle in handles] == [2 * number for number in range(first, first + 5)]


@pytest.mark.parametrize("server", LIMITS)
async def test_a_message_over_the_limit_fails_its_step(tmp_path: Path, server: str) -> None:
    """Arguments that do not fit into a task event, and a result that does not into its: the step fails with size,
    limit and remedy, and leaves a dead letter; others go on.
    """
    size = 1_500_000 if server == "NATS" else 150_000
    async with running(server, tmp_path) as (_, client, _):
        for workflow, said in (
            (sends, "cannot be published.* bytes.* the limit is"),
            (receives, "the transport takes"),
        ):
            async with asyncio.timeout(SOON):
                with pytest.raises(edow.WorkflowFailed, match=said):
                    await (await client.start(workflow, size)).result()
        assert [letter.task for letter in await client.dead_letters(EVERY)] == ["length", "text"]
        await still_works(client, 0)


def foreign(kind: str) -> list[tuple[bytes, str]]:
    """What somebody may put on a topic, and what is said of it."""
    event = {"specversion": "1.0", "type": kind, "id": "x", "source": "/theirs", "data": {"number": 1}}
    return [
        (b"\xff\x00\xfe poison", "event: JSON is malformed"),
        (b'{"a": [1, 2]}', "event: Object missing required field"),
        (b"[" * 2000, "event: "),
        (msgspec.json.encode(event), "event: Object missing required field"),
        (
            msgspec.json.encode(event | {"type": f"{kind}.v9"}),
            f"has type '{kind}.v9' and specversion '1.0'; this release",
        ),
        (msgspec.json.encode(event | {"specversion": "2.0"}), f"has type '{kind}' and specversion '2.0'; this release"),
    ]


@each_server
async def test_foreign_bytes_become_dead_letters(tmp_path: Path, server: str) -> None:
    """On a task topic, on a result topic and among the dead: each is a letter with its bytes and the reason, also what
    is of a version that nobody knows; what is behind them goes on.
    """
    async with running(server, tmp_path) as (_, client, url):
        await still_works(client, 0)
        theirs = connect_transport(url)
        await theirs.open()
        expected: list[tuple[str, bytes, str]] = []
        for topic, kind in ((topics.task_topic("default"), wire.TASK_TYPE), (topics.result_topic(1), wire.RESULT_TYPE)):
            for key in (None, "key-1"):
                await theirs.publish([Message(topic, body, key) for body, _ in foreign(kind)])
                expected += [(topic, body, said) for body, said in foreign(kind)]
        await theirs.publish([Message(topics.DEAD, b"\xff\x00 no report")])
        expected.append((topics.DEAD, b"\xff\x00 no report", "JSON is malformed"))
        await theirs.close()
        await still_works(client, 5)

        async def all_there() -> bool:
            return len(await client.dead_letters()) >= len(expected)

        async with asyncio.timeout(SOON):
            await until(all_there)
        reasons = {(topic, body): reason for topic, body, reason in map(told, await client.dead_letters())}
        assert reasons.keys() == {(topic, body) for topic, body, _ in expected}
        for topic, body, said in expected:
            assert reasons[topic, body].startswith(f"{topic}: ")
            assert said in reasons[topic, body]
        await still_works(client, 10)


def told(letter: DeadLetter) -> tuple[str, bytes, str]:
    failure: dict[str, Any] = msgspec.json.decode(letter.failure)
    return (
        letter.step.partition("@")[0],
        base64.b64decode(msgspec.json.decode(letter.args)["base64"]),
        failure["message"],
    )


@pytest.mark.parametrize("server", ["REDIS", "RABBITMQ", "NATS", "KAFKA", "PUBSUB", "SQS"])
async def test_topics_that_somebody_deletes_are_made_again(tmp_path: Path, server: str) -> None:
    """All of them, under a running orchestrator and worker, which go on without being started again.

    (In PostgreSQL, topics are rows that nobody deletes.)
    """
    async with running(server, tmp_path) as (_, client, url):
        await still_works(client, 0)
        await erase(url, ["default"])
        await still_works(client, 5)


@pytest.mark.parametrize("server", ["REDIS", "RABBITMQ", "NATS", "KAFKA", "PUBSUB", "SQS"])
async def test_what_is_told_to_all_is_heard_after_a_deletion(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancellations, say, by a worker that began to listen before its topic was deleted. Those who publish make it
    again as they did at first; who listens does nothing but try again.
    """
    monkeypatch.setattr("edow.transport.rabbitmq.subscriber.QUIET_SECONDS", 1.0)
    url = url_of(server, tmp_path)
    topic = TopicSpec(topics.CONTROL, ())
    worker, orchestrator = connect_transport(url), connect_transport(url)
    try:
        for each in (worker, orchestrator):
            await each.open()
            await each.ensure([topic])
        listener = await worker.subscribe(Subscription(topics=(topics.CONTROL,), group="", mode="broadcast"))
        await erase(url, ["default"])

        async def heard() -> bool:
            try:
                await orchestrator.publish([Message(topics.CONTROL, b"cancel")])
            except edow.InvalidInput:
                await orchestrator.ensure([topic])
            except Unavailable:
                pass
            with suppress(Unavailable):
                return bool(await listener.receive(1, 0.2))
            return False

        async with asyncio.timeout(SOON):
            await until(heard)
    finally:
        await asyncio.gather(worker.close(), orchestrator.close())
        await erase(url, ["default"])


# when it starts


SECRET = "geheim"
DOWN = {
    "POSTGRES": "postgresql://edow:geheim@127.0.0.1:1/edow",
    "REDIS": "redis://:geheim@127.0.0.1:1",
    "RABBITMQ": "amqp://edow:geheim@127.0.0.1:1/",
    "NATS": "nats://edow:geheim@127.0.0.1:1",
    "KAFKA": "kafka://127.0.0.1:1?timeout=1",
    "PUBSUB": "pubsub://edow?emulator=127.0.0.1:1&timeout_seconds=1",
    "SQS": "sqs://edow:geheim@eu-west-1?endpoint=http://127.0.0.1:1",
}
WRONG = {
    "POSTGRES": "correct user and password",
    "REDIS": "Check user and password",
    "RABBITMQ": "correct the URL",
    "NATS": "credentials",
    "KAFKA": "check user and password",
    "PUBSUB": "give a service account's key file",
    "SQS": "check the credentials",
}


@each_server
def test_a_broker_that_is_away_is_told_at_start(tmp_path: Path, server: str) -> None:
    """Which, without its password; the exit code is 1, so that whatever started the process tries again."""
    url = DOWN[server]
    place = "127.0.0.1:1"
    store = f"sqlite:///{tmp_path}/edow.db"
    refused("orchestrator", FLOW, "--store", store, "--transport", url, said=[place, "start this again"])


@each_server
def test_wrong_credentials_are_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """Where, and what to do about it."""
    url = with_wrong_credentials(server, tmp_path)
    if server == "SQS":
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    refused("worker", FLOW, "--transport", url, said=[Address(url).hosts[0], WRONG[server]])


def with_wrong_credentials(server: str, folder: Path) -> str:
    address = Address(server_url(f"EDOW_{server}"))
    if server == "PUBSUB":
        (folder / "key.json").write_text('{"type": "service_account", "private_key": "geheim"}')
        return f"pubsub://edow?credentials={folder / 'key.json'}"
    if server == "SQS":
        return f"sqs://eu-west-1?endpoint={address.options['endpoint']}"
    if server == "KAFKA":
        kafka = box("kafka")
        if not kafka.running():
            pytest.skip("a Kafka that asks for a login is started by `scripts/services up kafka` alone")
        return f"kafka://edow:geheim@127.0.0.1:{kafka.ports['login']}?security.protocol=SASL_PLAINTEXT&timeout=5"
    return address.url.replace(str(address.password), SECRET)


def refused(*words: str, said: list[str]) -> None:
    """One clear error with all of this, exit code 1, and no secret."""
    run = edow_command(*words, timeout=30)
    assert run.returncode == 1, run.stderr
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.stderr
    for part in said:
        assert part in run.stderr
    for never in (SECRET, "Traceback", "internal error"):
        assert never not in run.stderr
