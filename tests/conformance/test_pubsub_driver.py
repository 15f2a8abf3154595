"""What is the Pub/Sub transport's own: its URL and names, refusals, outages, deleted topics, exactly-once delivery."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.api_core.exceptions import NotFound
from google.pubsub_v1 import types

from edow.errors import Closed, InvalidInput, PublishFailed, TransportUnavailable, Unsupported
from edow.model.message import Message
from edow.testing.erasing import erase
from edow.testing.polling import until
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.pubsub.link import Link
from scripts.servers import Box
from scripts.servers import pubsub as pubsub_server
from scripts.servers.ports import any_free
from tests.conformance import matrix
from tests.conformance.pubsub_tools import (
    Fake,
    Refusal,
    fake,
    kind_of,
    member,
    opened,
    own_prefix,
    persistently,
    raw,
    received,
    transport_at,
    with_options,
)
from tests.conformance.transport_suite import LEASE, QUIET, SOON, bodies, drain, numbered, take
from tests.servers import private_server, server_url


@pytest.fixture
def url() -> str:
    """The shared server, and names apart."""
    return own_prefix(server_url("EDOW_PUBSUB"))


@pytest.fixture
def box() -> Iterator[Box]:
    """A server of the test's own."""
    with private_server(pubsub_server) as started:
        yield started


# the URL


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("pubsub://edow?emulatr=127.0.0.1:1", "no option 'emulatr'"),
        ("pubsub://edow?emulator=127.0.0.1", "HOST:PORT"),
        ("pubsub://edow?emulator=127.0.0.1:1&credentials=key.json", "leave those options out"),
        ("pubsub://edow?pulls=0", r">= 1 - at `\$.pulls`"),
        ("pubsub://edow?pulls=many", "pulls"),
        ("pubsub://edow?retention_days=32", r"<= 31.* - at `\$.retention_days`"),
        ("pubsub://edow?timeout_seconds=0", "timeout_seconds"),
        ("pubsub://", "PROJECT"),
        ("pubsub://me:secret@edow", "key file"),
        ("pubsub://edow/topic", "PROJECT"),
        ("pubsub://My_Project", "My_Project"),
    ],
)
def test_a_url_that_is_wrong_says_so(url: str, what: str) -> None:
    """Before anything is connected, with the option's name; never with the secret."""
    with pytest.raises(InvalidInput, match=what) as caught:
        transport_at(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("topic", "prefix", "what"),
    [
        ("", "", "needs a name"),
        ("1st", "", "prefix"),
        ("ab", "", "3 to 255"),
        ("x" * 256, "", "255"),
        ("gle", "goo", "goog"),
    ],
)
async def test_a_name_that_pubsub_does_not_take_is_refused(topic: str, prefix: str, what: str) -> None:
    """With the name as Pub/Sub would have it, and the remedy."""
    async with fake() as server, opened(with_options(server.url, prefix=prefix)) as transport:
        with pytest.raises(InvalidInput, match=what):
            await transport.ensure([TopicSpec(topic, ("one",))])


async def test_a_subscription_that_close_overtakes_is_refused(url: str) -> None:
    """Nobody would close it."""
    async with opened(url) as transport:
        hidden: Any = transport
        source = hidden._topics.source

        async def slow(topic: str, group: str | None) -> Any:
            found = await source(topic, group)
            await transport.close()
            return found

        hidden._topics.source = slow
        with pytest.raises(Closed):
            await member(transport, "topic")
        assert hidden._subscribers == []


async def test_any_other_name_is_mapped(url: str) -> None:
    """Spaces, slashes, plus signs and letters of any alphabet; a topic and group are never taken for another pair."""
    async with opened(url) as transport:
        names = [("a b/c+d", "группа"), ("a+b", "c"), ("a", "b+c")]
        specs = [TopicSpec("t" + topic, (group,)) for topic, group in names]
        await transport.ensure(specs)
        await transport.publish([Message(spec.name, spec.name.encode()) for spec in specs])
        for spec in specs:
            reader = await transport.subscribe(Subscription(topics=(spec.name,), group=spec.groups[0]))
            assert await drain(reader, 1) == [spec.name.encode()]


# not to be reached, not to be used


async def test_a_broker_that_is_away_at_open_says_so() -> None:
    """At once; the loops above decide about trying again."""
    transport = transport_at(f"pubsub://edow?emulator=127.0.0.1:{any_free()}")
    async with asyncio.timeout(SOON):
        with pytest.raises(TransportUnavailable, match="127"):
            await transport.open()
    with pytest.raises(Closed):
        await transport.publish([Message("topic", b"")])


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED])
@pytest.mark.proves(matrix.DENIED, "Pub/Sub")
async def test_a_permission_that_is_missing_says_which_roles_to_give(code: grpc.StatusCode) -> None:
    """At open already."""

    def refuse(request: Any) -> None:
        raise Refusal(code)

    async with fake(ListTopics=refuse) as server:
        with pytest.raises(InvalidInput, match=r"roles/pubsub\.editor"):
            await transport_at(server.url).open()


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"type": "service_account", "private_key": "x"}'])
async def test_a_key_file_that_is_none_says_so(tmp_path: Path, content: str | None) -> None:
    """Absent or broken: with its name and what to do."""
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await transport_at(f"pubsub://edow?credentials={file}").open()


@contextmanager
def account(folder: Path, status: int, answer: dict[str, object]) -> Iterator[Path]:
    """The key file of a service account whose tokens are asked for at a server that gives this answer."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    file = folder / "key.json"
    private_key, _ = certificate()
    who = {"type": "service_account", "client_email": "edow@edow.iam.gserviceaccount.com"}
    what = {"private_key": private_key.decode(), "token_uri": f"http://127.0.0.1:{server.server_port}/token"}
    file.write_text(json.dumps(who | what))
    yield file
    server.shutdown()
    server.server_close()
    thread.join()


def certificate() -> tuple[bytes, bytes]:
    """A private key, and a certificate of its own making for localhost."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(datetime.now(UTC) - timedelta(1)).not_valid_after(datetime.now(UTC) + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private_key, made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.proves(matrix.STRANGER, "Pub/Sub")
async def test_credentials_that_google_refuses_are_not_taken_for_an_outage(tmp_path: Path) -> None:
    """gRPC would call it unavailable, and one would wait for ever."""
    refusal: dict[str, object] = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    with account(tmp_path, 400, refusal) as file, pytest.raises(InvalidInput, match="refuses these credentials"):
        await transport_at(f"pubsub://edow?credentials={file}").open()


CLIENT = """
import asyncio, sys
from edow.model.message import Message
from tests.conformance.pubsub_tools import opened

async def main():
    async with opened(sys.argv[1]) as transport:
        await transport.publish([Message("topic", b"x")])

asyncio.run(main())
"""


async def test_a_service_account_is_used_over_tls(tmp_path: Path) -> None:
    """A key file's account gets a token, and every request carries it, encrypted. gRPC reads whom to trust once for
    each process, so this takes one of its own.
    """
    keys = certificate()
    roots = tmp_path / "roots.pem"
    roots.write_bytes(keys[1])
    with account(tmp_path, 200, {"access_token": "a-token", "expires_in": 3_600, "token_type": "Bearer"}) as file:
        async with fake(keys) as server:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-c", CLIENT, with_options(server.url, credentials=file)),
                env={**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = await process.communicate()
            assert (process.returncode, said) == (0, b"")
            assert [name for name, _ in server.asked] == ["ListTopics", "GetTopic", "Publish"]
            assert server.tokens == {"Bearer a-token"}
            assert server.routes == {"project=projects/edow", "topic=projects/edow/topics/topic"}


async def test_a_subscription_without_ordering_is_refused(url: str) -> None:
    """Order by key is promised; a subscription made otherwise, which cannot be changed, is named."""
    async with opened(url) as transport, raw(url) as client:
        await transport.ensure([TopicSpec("topic", ())])
        await client.subscriber.create_subscription(
            name=client.subscription("topic", "one"), topic=client.topic("topic")
        )
        with pytest.raises(InvalidInput, match=r"topic\+one was made without message ordering"):
            await transport.ensure([TopicSpec("topic", ("one",))])
        with pytest.raises(InvalidInput, match="delete it"):
            await transport.subscribe(Subscription(topics=("topic",), group="one"))


async def test_subscriptions_are_made_as_the_url_says() -> None:
    """Ordered, kept as long as told, and never deleted for being idle, which is Pub/Sub's default."""

    def absent(request: Any) -> None:
        raise Refusal(grpc.StatusCode.NOT_FOUND)

    options = {"exactly_once": "true", "retention_days": 2, "prefix": "p."}
    made: list[types.Subscription] = []
    async with (
        fake(GetSubscription=absent, CreateSubscription=made.append) as server,
        opened(with_options(server.url, **options)) as transport,
    ):
        await transport.ensure([TopicSpec("topic", ("one",))])
    (subscription,) = made
    assert subscription.name == "projects/edow/subscriptions/p.topic+one"
    assert subscription.enable_message_ordering
    assert subscription.enable_exactly_once_delivery
    assert subscription.message_retention_duration == timedelta(days=2)
    assert "expiration_policy" in subscription
    assert "ttl" not in subscription.expiration_policy


async def test_a_subscriber_holds_no_more_than_its_prefetch() -> None:
    """However much there is, and however little it is asked for at a time."""
    served = count()

    def pull(request: types.PullRequest) -> types.PullResponse:
        return received(*(Message("topic", b"x") for _ in range(request.max_messages)), first=served)

    async with fake(Pull=pull) as server, opened(with_options(server.url, prefetch=10)) as transport:
        reader = await member(transport, "topic", "exclusive")
        for handed in range(1, 30):
            await take(reader, 1)
            assert next(served) <= 2 * handed + 10  # that look was one, too


async def test_what_a_run_has_left_can_be_erased(url: str) -> None:
    """Its topics and subscriptions, and nothing of anybody else's."""
    others = own_prefix(server_url("EDOW_PUBSUB"))
    async with opened(url) as transport, opened(others) as other, raw(url) as client, raw(others) as theirs:
        await member(transport, "topic")
        await member(other, "topic")
        await erase(url, [])
        assert not await exists(client)
        assert await exists(theirs)
        with pytest.raises(NotFound):
            await client.publisher.get_topic(topic=client.topic("topic"))


async def test_lag_is_not_told(url: str) -> None:
    """Rather than wrongly."""
    async with opened(url) as transport:
        assert transport.features.told == "nothing"
        with pytest.raises(Unsupported, match="Cloud Monitoring"):
            await transport.describe(["topic"])


# messages


async def test_what_others_publish_is_delivered_as_it_is(url: str) -> None:
    """Any bytes and attributes; the key is their ordering key."""
    async with opened(url) as transport, raw(url) as client:
        reader = await member(transport, "topic")
        poison = bytes(range(256))
        await client.publisher.publish(
            topic=client.topic("topic"),
            messages=[types.PubsubMessage(data=poison, attributes={"ce-type": "x"}, ordering_key="theirs")],
        )
        await client.publisher.publish(
            topic=client.topic("topic"), messages=[types.PubsubMessage(attributes={"only": "attributes"})]
        )
        got = await take(reader, 2)
        assert {(each.body, each.key) for each in got} == {(poison, "theirs"), (b"", None)}


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (Message("topic", b"", "k" * 1025), "1,025 bytes"),
        (Message("topic", b"", "\ud800"), "no valid text"),
        (Message("topic", b"x" * 10_000_000), "limit is 9,995,904"),
    ],
)
async def test_what_pubsub_would_refuse_is_refused_before(message: Message, what: str) -> None:
    """Keys and bodies over the limit, with the whole batch."""
    async with fake() as server, opened(server.url) as transport:
        with pytest.raises(InvalidInput, match=what):
            await transport.publish([Message("topic", b"fine"), message])
        assert not [name for name, _ in server.asked if name == "Publish"]


async def test_a_request_has_one_key_and_is_within_the_limits() -> None:
    """As Pub/Sub demands; messages of a key follow one another, keys go side by side."""
    requests: list[types.PublishRequest] = []
    async with fake(Publish=requests.append) as server, opened(server.url) as transport:
        batch = [Message("topic", b"%d" % n, f"k{n % 3}" if n % 2 else None) for n in range(3_000)]
        await transport.publish(
            [*batch, Message("topic", b"x" * 9_000_000, "k0"), Message("topic", bytes(9_000_000), "k0")]
        )
    by_key: dict[str, list[bytes]] = {}
    for request in requests:
        (key,) = {each.ordering_key for each in request.messages}
        by_key.setdefault(key, []).extend(each.data for each in request.messages)
        assert len(request.messages) <= 1_000
        assert sum(len(each.data) for each in request.messages) <= 10_000_000
    assert [int(each) for each in by_key["k1"]] == [n for n in range(3_000) if n % 2 and n % 3 == 1]
    assert [int(each) for each in by_key[""]] == list(range(0, 3_000, 2))
    assert len(requests) == 2 + 2 + 1 + 1  # without key, k0, k1, k2


@pytest.mark.proves(matrix.BY_HALF, "Pub/Sub")
async def test_a_batch_that_fails_by_half_names_what_the_broker_has_not() -> None:
    """The failed key's later messages are not sent, for they would overtake; the other keys are there."""
    published: list[bytes] = []

    def publish(request: types.PublishRequest) -> None:
        if request.messages[0].ordering_key == "bad":
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED)
        published.extend(each.data for each in request.messages)

    async with fake(Publish=publish) as server, opened(server.url) as transport:
        batch = [Message("topic", b"%d" % n, "bad" if n in (1, 3) else f"k{n}") for n in range(5)]
        large = Message("topic", bytes(9_995_000), "bad")
        with pytest.raises(PublishFailed, match="3 of 6") as caught:
            await transport.publish([*batch, large])
        assert caught.value.indexes == (1, 3, 5)
        assert sorted(published) == [b"0", b"2", b"4"]
        assert len([name for name, _ in server.asked if name == "Publish"]) == 4


async def test_a_batch_that_is_refused_for_good_is_no_outage() -> None:
    """A topic's schema may forbid a message: whoever publishes it must hear of it, not try for ever."""

    def refuse(request: types.PublishRequest) -> None:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT)

    async with fake(Publish=refuse) as server, opened(server.url) as transport:
        with pytest.raises(InvalidInput, match="refused"):
            await transport.publish([Message("topic", b"x")])


# leases


async def test_an_idle_member_gives_back_what_it_has_not_handed_out(url: str) -> None:
    """Its requests may bring more than was asked for; others get that without waiting for a lease."""
    async with opened(url) as transport:
        idle, other = await member(transport, "topic", lease=600), await member(transport, "topic")
        await transport.publish(numbered("topic", 1))
        await take(idle, 1)  # which has asked for more by now
        await transport.publish(numbered("topic", 5))
        assert sorted(await drain(other, 5)) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_lease_beyond_pubsubs_longest_is_kept(url: str) -> None:
    """Whoever holds a message for an hour is not bothered with the service's ten minutes."""
    async with fake(Pull=once(received(Message("topic", b"x")))) as server, opened(server.url) as transport:
        reader = await member(transport, "topic", lease=3_600)
        await take(reader, 1)
        (request,) = [asked for name, asked in server.asked if name == "ModifyAckDeadline"]
        assert (request.ack_deadline_seconds, list(request.ack_ids)) == (600, ["ack-0"])


async def test_an_exclusive_subscriber_need_not_wait_for_its_deadline() -> None:
    """Nothing of it expires, so what has arrived is handed out while the service is still being told."""

    def refuse(request: types.ModifyAckDeadlineRequest) -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE)

    batch = once(received(Message("topic", b"x")))
    async with fake(Pull=batch, ModifyAckDeadline=refuse) as server, opened(server.url) as transport:
        reader = await member(transport, "topic", "exclusive")
        held = await take(reader, 1)
        await reader.ack(held)
        assert [list(asked.ack_ids) for name, asked in server.asked if name == "Acknowledge"] == [["ack-0"]]


def once(response: types.PullResponse) -> Any:
    """Messages for the first who asks; the others wait a little, as at the service."""
    left = [response]
    return lambda request: left.pop() if left else types.PullResponse()


async def test_exactly_once_delivery_tells_of_lost_leases() -> None:
    """Where a subscription is so, what is not ours any more is known, and passing failures are tried again."""
    modified: list[list[str]] = []
    acked: list[list[str]] = []

    def modify(request: types.ModifyAckDeadlineRequest) -> None:
        modified.append(list(request.ack_ids))
        if len(modified) == 2:
            invalid = {"ack-1": "PERMANENT_FAILURE_INVALID_ACK_ID", "ack-2": "TRANSIENT_FAILURE_RETRY"}
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, invalid)

    def acknowledge(request: types.AcknowledgeRequest) -> None:
        acked.append(list(request.ack_ids))
        if len(acked) == 1:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, {"ack-0": "TRANSIENT_FAILURE_UNORDERED_ACK_ID"})

    batch = once(received(*numbered("topic", 3)))
    async with (
        fake(Pull=batch, ModifyAckDeadline=modify, Acknowledge=acknowledge) as server,
        opened(with_options(server.url, exactly_once="true")) as transport,
    ):
        reader = await member(transport, "topic")
        held = await take(reader, 3)
        assert await reader.extend(held) == [held[1]]
        assert modified[1:] == [["ack-0", "ack-1", "ack-2"], ["ack-2"]]
        await reader.ack(held)
        assert acked == [["ack-0", "ack-2"], ["ack-0"]]


async def test_an_ack_that_failed_may_be_given_again(url: str) -> None:
    """The message stays ours, and a key's next one waits for it."""
    answers: list[Refusal | None] = [Refusal(grpc.StatusCode.PERMISSION_DENIED), None]

    def acknowledge(request: types.AcknowledgeRequest) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    batch = once(received(*numbered("topic", 2, "k")))
    async with fake(Pull=batch, Acknowledge=acknowledge) as server, opened(server.url) as transport:
        reader = await member(transport, "topic")
        held = await take(reader, 1)
        with pytest.raises(TransportUnavailable, match="roles"):
            await reader.ack(held)
        assert await reader.receive(1, QUIET) == []
        await reader.ack(held)
        assert bodies(await take(reader, 1)) == [b"1"]


async def test_many_topics_do_not_block_acknowledgements(url: str) -> None:
    """A connection takes a hundred requests; those that wait for messages leave room for the others."""
    topics = tuple(f"edow.results.{n}" for n in range(60))
    async with opened(with_options(url, pulls=3)) as transport:
        await transport.ensure([TopicSpec(topic, ("one",)) for topic in topics])
        reader = await transport.subscribe(Subscription(topics=topics, group="one", mode="exclusive"))
        assert await reader.receive(100, QUIET) == []
        await transport.publish([Message(topic, topic.encode()) for topic in topics])
        assert sorted(await drain(reader, 60)) == sorted(topic.encode() for topic in topics)


async def test_a_transport_that_is_opened_again_goes_on(url: str) -> None:
    """Nothing of the connections that it had before is used."""
    transport = transport_at(url)
    for _ in range(2):
        await transport.open()
        reader = await member(transport, "topic")
        assert await reader.receive(1, QUIET) == []
        await transport.publish([Message("topic", b"x")])
        assert await drain(reader, 1) == [b"x"]
        await transport.close()


# outages


@pytest.fixture
async def flow(box: Box) -> AsyncIterator[tuple[Box, Transport, Subscriber]]:
    """A transport on a server of its own, impatient, and a member of a group."""
    async with opened(with_options(box.url, timeout_seconds=1)) as transport:
        yield box, transport, await member(transport, "topic", lease=2 * LEASE)


@pytest.mark.proves(matrix.FROZEN, "Pub/Sub")
async def test_publishing_ends_while_the_server_does_not_answer(flow: tuple[Box, Transport, Subscriber]) -> None:
    """Within the URL's timeout, naming what is missing; then it goes on, and nobody has to do anything."""
    box, transport, reader = flow
    receiving = asyncio.create_task(drain_slowly(reader, {b"before", b"after"}))
    await transport.publish([Message("topic", b"before")])
    await asyncio.to_thread(box.pause)
    async with asyncio.timeout(SOON):
        with pytest.raises(PublishFailed) as caught:
            await transport.publish([Message("topic", b"lost"), Message("topic", b"lost", "k")])
    assert caught.value.indexes == (0, 1)
    await asyncio.to_thread(box.resume)
    await persistently(partial(transport.publish, [Message("topic", b"after")]))
    async with asyncio.timeout(4 * SOON):
        await receiving


async def drain_slowly(reader: Subscriber, wanted: set[bytes]) -> None:
    """Until all of these were there, whatever else comes and however often the server is away."""
    while wanted:
        got = await persistently(partial(reader.receive, 10, 1.0))
        await persistently(partial(reader.ack, got))
        wanted -= set(bodies(got))


@pytest.mark.proves(matrix.AWAY, "Pub/Sub")
async def test_a_server_that_was_killed_and_has_forgotten_everything(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """As emulators do: topics and groups are made again, loudly, and everybody goes on in all three modes."""
    caplog.set_level(logging.INFO, "edow.transport.pubsub")
    async with opened(with_options(box.url, timeout_seconds=1)) as transport:
        await transport.ensure([TopicSpec("control", ())])
        shared = await member(transport, "topic")
        exclusive = await member(transport, "edow.results.0", "exclusive")
        listener = await transport.subscribe(Subscription(topics=("control",), group="", mode="broadcast"))
        readers = {"topic": shared, "edow.results.0": exclusive, "control": listener}
        waiting = [asyncio.create_task(drain_slowly(reader, {b"again"})) for reader in readers.values()]
        await asyncio.to_thread(box.kill)
        with pytest.raises(PublishFailed):
            await transport.publish([Message("topic", b"lost")])
        await asyncio.to_thread(box.start)

        async def publish_all() -> bool:
            for topic in readers:
                await persistently(partial(transport.publish, [Message(topic, b"again")]))
            return all(each.done() for each in waiting)

        async with asyncio.timeout(4 * SOON):
            await until(publish_all, QUIET)
        await asyncio.gather(*waiting)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([each for each in said if "is away" in each]) == 1
    assert [each for each in said if "was gone and is made again" in each]


@pytest.mark.proves(matrix.FROZEN, "Pub/Sub")
async def test_closing_while_the_server_does_not_answer_ends(flow: tuple[Box, Transport, Subscriber]) -> None:
    """Whatever it holds; that comes again by itself."""
    box, transport, reader = flow
    await transport.publish(numbered("topic", 3))
    await take(reader, 3)
    await asyncio.to_thread(box.pause)
    async with asyncio.timeout(SOON):
        await transport.close()
    await asyncio.to_thread(box.resume)


async def pulls_end_with_their_subscription() -> None:
    """Skips where they do not."""
    if await kind_of(server_url("EDOW_PUBSUB")) == "emulator":
        pytest.skip("the emulator lets requests wait at a subscription that is deleted")


@pytest.mark.proves(matrix.DELETED, "Pub/Sub")
async def test_a_deleted_subscription_is_made_again_by_whoever_made_it(url: str) -> None:
    """And is an error for anybody else: what was in it is lost, and receiving nothing would hide that."""
    await pulls_end_with_their_subscription()
    async with opened(url) as maker, opened(url) as user, raw(url) as client:
        mine = await member(maker, "topic")
        theirs = await user.subscribe(Subscription(topics=("topic",), group="one"))
        await client.subscriber.delete_subscription(subscription=client.subscription("topic", "one"))
        with pytest.raises(TransportUnavailable, match="was deleted"):
            await theirs.receive(1, SOON)
        receiving = asyncio.create_task(take(mine, 1))
        await until(lambda: exists(client))
        await maker.publish([Message("topic", b"x")])
        assert bodies(await receiving) == [b"x"]


async def test_a_subscription_that_outlives_its_topic_is_made_again(url: str) -> None:
    """It would get nothing of what is published to the topic that takes the old one's place."""
    await pulls_end_with_their_subscription()
    async with opened(url) as transport, raw(url) as client:
        reader = await member(transport, "topic")
        receiving = asyncio.create_task(take(reader, 1))
        await client.publisher.delete_topic(topic=client.topic("topic"))
        with pytest.raises(PublishFailed):
            await transport.publish([Message("topic", b"lost")])
        await transport.publish([Message("topic", b"kept")])
        assert bodies(await receiving) == [b"kept"]


async def test_a_topic_that_was_deleted_since_it_was_looked_at_is_made_again(url: str) -> None:
    """A subscription that cannot be made for want of it tells; else it would be taken for being there for ever."""
    async with opened(url) as transport, raw(url) as client:
        await transport.ensure([TopicSpec("topic", ())])
        await client.publisher.delete_topic(topic=client.topic("topic"))
        with pytest.raises(TransportUnavailable):
            await transport.ensure([TopicSpec("topic", ("one",))])
        reader = await member(transport, "topic")
        await transport.publish([Message("topic", b"kept")])
        assert bodies(await take(reader, 1)) == [b"kept"]


@pytest.mark.filterwarnings("ignore:The return_immediately flag is deprecated")
@pytest.mark.parametrize("mode", ["broadcast", "shared", "exclusive"])
async def test_a_subscriber_hears_again_whose_subscription_has_outlived_its_topic(
    url: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It belongs to no topic then, and pulls from it go on and find nothing: that they found nothing is what tells."""
    found_nothing = asyncio.Event()

    async with opened(url) as transport, opened(url) as publisher, raw(url) as client:

        async def pull(_: Link, path: str, most: int) -> Sequence[Any]:
            answer = await client.subscriber.pull(subscription=path, max_messages=most, return_immediately=True)
            if not answer.received_messages:
                found_nothing.set()
            return answer.received_messages

        monkeypatch.setattr(Link, "pull", pull)
        await publisher.ensure([TopicSpec("topic", ())])
        reader = await member(transport, "topic", mode)
        await client.publisher.delete_topic(topic=client.topic("topic"))
        with pytest.raises(PublishFailed):
            await publisher.publish([Message("topic", b"lost")])
        found_nothing.clear()
        receiving = asyncio.create_task(take(reader, 1))
        await found_nothing.wait()
        await until(lambda: belongs_to_a_topic(client, mode))
        await publisher.publish([Message("topic", b"kept")])
        assert bodies(await receiving) == [b"kept"]


async def belongs_to_a_topic(client: Any, mode: Mode) -> bool:
    wanted = client.subscription("topic", "+" if mode == "broadcast" else "one")
    project = f"projects/{client.project}"
    return any(
        [
            each.name.startswith(wanted) and each.topic == client.topic("topic")
            async for each in await client.subscriber.list_subscriptions(project=project)
        ]
    )


async def test_a_subscription_that_others_make_and_delete_is_made_in_the_end_or_refused() -> None:
    """Whoever loses the race to make it looks again, some times."""
    answers = [types.Subscription(topic="_deleted-topic_"), types.Subscription(enable_message_ordering=True)]

    def get(_: types.GetSubscriptionRequest) -> types.Subscription:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def create(_: types.Subscription) -> None:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS)

    async with fake(GetSubscription=get, CreateSubscription=create) as server, opened(server.url) as transport:
        await transport.ensure([TopicSpec("topic", ("one",))])
        answers[:] = [types.Subscription(topic="_deleted-topic_")]
        with pytest.raises(TransportUnavailable, match="deleted as often as it is made"):
            await transport.ensure([TopicSpec("topic", ("two",))])


async def test_nothing_is_published_to_a_topic_that_lacks_a_group(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that is made again is there before its subscriptions: what it would take meanwhile, nobody would get."""
    asked: list[str] = []
    enough = asyncio.Event()
    call = Link.call

    async def slowly(link: Link, method: str, request: Any) -> bytes:
        asked.append(method)
        if method == "Subscriber/CreateSubscription":
            await enough.wait()
        return await call(link, method, request)

    async with opened(url) as transport, raw(url) as client:
        await transport.ensure([TopicSpec("topic", ("one",))])
        await client.publisher.delete_topic(topic=client.topic("topic"))
        await client.subscriber.delete_subscription(subscription=client.subscription("topic", "one"))
        monkeypatch.setattr(Link, "call", slowly)
        with pytest.raises(PublishFailed):
            await transport.publish([Message("topic", b"lost")])
        subscribing = asyncio.create_task(member(transport, "topic"))

        async def is_made() -> bool:
            return "Subscriber/CreateSubscription" in asked

        await until(is_made)
        publishing = asyncio.create_task(transport.publish([Message("topic", b"kept")]))
        await asyncio.wait([publishing], timeout=QUIET)
        assert asked.count("Publisher/Publish") == 1
        enough.set()
        reader = await subscribing
        await publishing
        assert bodies(await take(reader, 1)) == [b"kept"]


async def test_a_listeners_subscription_is_made_again() -> None:
    """By the first of its requests that misses it; the next one finds it, and the listener hears of nothing."""
    made: list[types.Subscription] = []
    found: list[types.Subscription] = []

    def pull(request: types.PullRequest) -> types.PullResponse:
        if not found:
            raise Refusal(grpc.StatusCode.NOT_FOUND)
        return received(Message("topic", b"x"))

    def get(request: types.GetSubscriptionRequest) -> types.Subscription:
        if len(made) < 2:
            raise Refusal(grpc.StatusCode.NOT_FOUND)
        found.append(made[0])
        return made[0]

    async with (
        fake(Pull=pull, GetSubscription=get, CreateSubscription=made.append) as server,
        opened(server.url) as transport,
    ):
        listener = await transport.subscribe(Subscription(topics=("topic",), group="", mode="broadcast"))
        assert bodies(await take(listener, 1)) == [b"x"]
        assert {each.name for each in made} == {made[0].name}


async def exists(client: Any) -> bool:
    found = [
        each.name async for each in await client.subscriber.list_subscriptions(project=f"projects/{client.project}")
    ]
    return client.subscription("topic", "one") in found


async def test_publishing_goes_on_while_calls_are_refused_for_now() -> None:
    """Quota, restarts, broken connections: the same request is sent again until the time is over."""
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED]

    def publish(request: types.PublishRequest) -> None:
        if codes:
            raise Refusal(codes.pop())

    async with fake(Publish=publish) as server, opened(server.url) as transport:
        await transport.publish([Message("topic", b"x")])
        assert tried(server) == 4


def tried(server: Fake) -> int:
    return len([name for name, _ in server.asked if name == "Publish"])
