"""Incoming webhooks on both stores: what is answered, what is started, and that it happens once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections import Counter
from urllib.parse import urlencode

import msgspec
import pytest

from edow.errors import InvalidInput
from edow.model import inbox
from edow.store.contract import Put, RecordFilter, Store
from edow.trigger.action import Action
from edow.trigger.hooks import DELIVERIES, FORM, HOOKS, MAX_BODY, Hook, HookAnswer, HookDesk
from edow.trigger.signatures import Hmac, standard_signature
from edow.trigger.tally import totals
from tests.integration.trigger.stores import T0, commands, end, row_of, signals

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
KEY = b"0123456789abcdef01234567"
ORDERS = Hook(
    name="orders",
    scheme="standard-webhooks",
    secrets=(SECRET,),
    action=Action(workflow="fulfil", id="body.order.id", input="{order: body.order}"),
)
JSON = {"Content-Type": "application/json"}


async def define(store: Store, hook: Hook) -> None:
    hook.checked()
    await store.records_put([Put(HOOKS, hook.name, msgspec.json.encode(hook))], T0)


def signed(body: object, id: str = "msg_1", at: int = T0, key: bytes = KEY) -> tuple[dict[str, str], bytes]:
    """Headers and body of a delivery by the Standard Webhooks."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    seconds = at // 1_000_000
    signature = standard_signature(key, id, seconds, data)
    return {
        "Webhook-Id": id,
        "Webhook-Timestamp": str(seconds),
        "Webhook-Signature": signature,
        "Content-Type": "application/json; charset=utf-8",
    }, data


async def send(desk: HookDesk, body: object, name: str = "orders", **how: object) -> HookAnswer:
    headers, data = signed(body, **how)  # type: ignore[arg-type]
    return await desk.receive(name, headers, data, T0)


async def test_a_delivery_starts_an_execution(store, clock):
    """Under the id and with the input that the expressions find, and with the sender's trace."""
    await define(store, ORDERS)
    desk = HookDesk(store, clock, "api-1")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers, body = signed({"order": {"id": 7, "item": "book"}})
    answer = await desk.receive("orders", headers | {"Traceparent": trace}, body, T0)
    assert (answer.status, answer.body) == (202, {"status": "started", "execution": "7"})
    row = await row_of(store, "7")
    assert (row.workflow, bytes(row.input), row.trace) == ("fulfil", b'{"order":{"id":7,"item":"book"}}', trace)
    assert [type(command) for _, command in await commands(store)] == [inbox.Start]


async def test_the_same_delivery_is_answered_and_nothing_else(store, clock):
    """With the execution of the first time, also when the payload would say another one."""
    await define(store, ORDERS)
    desk = HookDesk(store, clock, "api-1")
    await send(desk, {"order": {"id": 7}})
    again = await send(desk, {"order": {"id": 8}})
    assert (again.status, again.body) == (200, {"status": "duplicate", "execution": "7"})
    assert len(await commands(store)) == 1


async def test_of_two_processes_with_one_delivery_one_starts(opened, clock):
    """Each of twenty deliveries comes to both at the same moment, ten times."""
    desks = [HookDesk(await opened(), clock, f"api-{number}") for number in range(2)]
    hook = msgspec.structs.replace(ORDERS, action=Action(mode="signal", signal="paid", id="body.order"))
    store = desks[0]._store
    await define(store, hook)
    await define(
        store, msgspec.structs.replace(ORDERS, name="begin", action=Action(workflow="fulfil", id="body.order"))
    )
    await send(desks[0], {"order": "o"}, "begin")
    deliveries = [(desk, number) for number in range(20) for desk in desks for _ in range(5)]
    answers = await asyncio.gather(
        *(send(desk, {"order": "o", "n": number}, id=f"msg_{number}") for desk, number in deliveries)
    )
    assert Counter(answer.status for answer in answers) == {202: 20, 200: 180}
    sent = await signals(store, "o")
    assert sorted(each["n"] for each in sent) == list(range(20))


async def test_without_an_id_each_delivery_starts_one_of_its_own(store, clock):
    """Under an id that the same delivery has again, also after it has been forgotten."""
    await define(store, msgspec.structs.replace(ORDERS, action=Action(workflow="fulfil")))
    desk = HookDesk(store, clock, "api-1")
    first, second = [(await send(desk, {"a": 1}, id=id)).body["execution"] for id in ("msg_1", "msg_2")]
    assert first != second
    for record in await store.records_list(RecordFilter(DELIVERIES)):
        await store.records_put([Put(DELIVERIES, record.key, None)], T0)
    answer = await send(desk, {"a": 1}, id="msg_1")
    assert answer.body == {"status": "attached", "execution": first}


async def test_another_secret_or_body_or_age_is_refused_and_counted(store, clock, caplog):
    """With 401, a reason for people, and no word of it in the log but the reason's name."""
    await define(store, ORDERS)
    desk = HookDesk(store, clock, "api-1")
    headers, body = signed({"order": {"id": 7, "card": "4242"}})
    with caplog.at_level(logging.DEBUG):
        forged = await desk.receive("orders", headers, body + b" ", T0)
        old = await desk.receive("orders", headers, body, T0 + 301_000_000)
        early = await desk.receive("orders", headers, body, T0 - 301_000_000)
    assert [each.status for each in (forged, old, early)] == [401, 401, 401]
    assert desk.tally.counts["orders"] == {"signature": 1, "timestamp": 2}
    assert "signature" in caplog.text
    assert not any(secret in caplog.text for secret in ("4242", SECRET, headers["Webhook-Signature"]))
    assert await commands(store) == []


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"body": b"not json"}, 400, "payload"),
        ({"body": b"\xff"}, 400, "payload"),
        ({"body": b"[" * 100_000}, 400, "payload"),
        ({"body": b"{}"}, 400, "mapping"),
        ({"body": {"order": {"id": "a/b"}}}, 400, "mapping"),
        ({"body": {"order": {"id": "x" * 201}}}, 400, "mapping"),
        ({"body": b" " * (MAX_BODY + 1)}, 413, "too_large"),
        ({"type": "text/xml"}, 415, "media_type"),
    ],
)
async def test_what_cannot_be_used_is_refused(store, clock, change, status, reason):
    """Each with its status, and nothing is started."""
    await define(store, ORDERS)
    desk = HookDesk(store, clock, "api-1")
    headers, body = signed(change.get("body", {"order": {"id": 7}}))
    answer = await desk.receive("orders", headers | {"Content-Type": change.get("type", "application/json")}, body, T0)
    assert (answer.status, answer.outcome) == (status, reason)
    assert set(answer.body) == {"error", "message"}
    assert await commands(store) == []


@pytest.mark.parametrize("name", ["nothing", "../etc", "", "x" * 300, "a\0b", "é"])
async def test_an_unknown_hook_is_not_found(store, clock, name):
    """Whatever is asked for; names of strangers are not counted one by one."""
    desk = HookDesk(store, clock, "api-1")
    answer = await desk.receive(name, {}, b"", T0)
    assert answer.status == 404
    assert desk.tally.counts == {"?": {"unknown": 1}}


async def test_a_signal_reaches_its_execution(store, clock):
    """Mode signal: with the value that the expression finds."""
    await define(store, msgspec.structs.replace(ORDERS, name="begin"))
    action = Action(mode="signal", signal="paid", id="body.order", value="body.amount")
    await define(store, msgspec.structs.replace(ORDERS, action=action))
    desk = HookDesk(store, clock, "api-1")
    await send(desk, {"order": {"id": "o"}}, "begin")
    answer = await send(desk, {"order": "o", "amount": 12})
    assert (answer.status, answer.body["status"]) == (202, "signalled")
    assert await signals(store, "o") == [12]


async def test_a_signal_to_what_has_ended_is_told_and_counted(store, clock):
    """The sender need not try again."""
    await define(store, msgspec.structs.replace(ORDERS, name="begin"))
    await define(store, msgspec.structs.replace(ORDERS, action=Action(mode="signal", signal="paid", id="body.order")))
    desk = HookDesk(store, clock, "api-1")
    await send(desk, {"order": {"id": "o"}}, "begin")
    await end(store, "o", T0)
    answer = await send(desk, {"order": "o"})
    assert (answer.status, answer.body["status"]) == (200, "unmatched")
    assert desk.tally.counts["orders"] == {"unmatched": 1}


async def test_start_or_signal_starts_the_first_time(store, clock):
    """And signals what runs; also when both come at once."""
    action = Action(mode="start-or-signal", workflow="cart", signal="item", id="body.cart", value="body.n")
    await define(store, msgspec.structs.replace(ORDERS, action=action))
    desk = HookDesk(store, clock, "api-1")
    answers = await asyncio.gather(*(send(desk, {"cart": "c", "n": n}, id=f"msg_{n}") for n in range(10)))
    assert Counter(answer.body["status"] for answer in answers) == {"started": 1, "signalled": 9}
    first = msgspec.json.decode((await row_of(store, "c")).input)["n"]
    assert sorted([first, *await signals(store, "c")]) == list(range(10))


async def test_a_singleton_begins_again_after_its_end(opened, clock):
    """Of many deliveries at once, from two processes, one begins the next run and the others find it running."""
    desks = [HookDesk(await opened(), clock, f"api-{number}") for number in range(2)]
    store = desks[0]._store
    action = Action(workflow="report", id="body.day", singleton=True)
    await define(store, msgspec.structs.replace(ORDERS, action=action))
    await send(desks[0], {"day": "monday"})
    assert (await send(desks[1], {"day": "monday"}, id="msg_2")).body["status"] == "attached"
    await end(store, "monday", T0)
    answers = await asyncio.gather(*(send(desks[n % 2], {"day": "monday"}, id=f"next_{n}") for n in range(8)))
    assert Counter(answer.body["status"] for answer in answers) == {"started": 1, "attached": 7}
    assert (await row_of(store, "monday")).run == 2


async def test_a_hook_is_shut_while_its_secret_cannot_be_read(store, clock, monkeypatch, tmp_path):
    """A secret that is elsewhere is read at each delivery, so that it can be changed there."""
    file = tmp_path / "secret"
    await define(store, msgspec.structs.replace(ORDERS, secrets=("env:EDOW_TEST_HOOK", f"file:{file}")))
    desk = HookDesk(store, clock, "api-1")
    assert (await send(desk, {"order": {"id": 1}})).status == 503
    file.write_text(SECRET + "\n")
    assert (await send(desk, {"order": {"id": 1}})).status == 202
    file.write_text("whsec_b3RoZXI=")
    assert (await send(desk, {"order": {"id": 2}}, id="msg_2")).status == 401
    monkeypatch.setenv("EDOW_TEST_HOOK", SECRET)
    assert (await send(desk, {"order": {"id": 2}}, id="msg_2")).status == 202


async def test_github_is_greeted_and_its_deliveries_have_its_ids(store, clock):
    """The ping of a new hook is answered; a form's payload is read as the JSON that it is."""
    hook = Hook(
        name="gh",
        scheme="github",
        secrets=("s3cret",),
        action=Action(workflow="build", input='{commit: body.after, event: headers."x-github-event"}'),
    )
    await define(store, hook)
    desk = HookDesk(store, clock, "api-1")

    async def github(event: str, body: bytes, kind: str = "application/json") -> HookAnswer:
        headers = {
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": f"guid-{event}",
            "X-Hub-Signature-256": "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest(),
            "Content-Type": kind,
        }
        return await desk.receive("gh", headers, body, T0)

    assert (await github("ping", b'{"zen": "Speak like a human."}')).body == {"status": "pong"}
    pushed = await github(
        "push", urlencode({"payload": '{"after": "abc"}'}).encode(), "application/x-www-form-urlencoded"
    )
    assert pushed.status == 202
    row = await row_of(store, str(pushed.body["execution"]))
    assert msgspec.json.decode(row.input) == {"commit": "abc", "event": "push"}
    assert (await github("push", b'{"after": "other"}')).status == 200


async def test_a_recorded_delivery_under_another_id(store, clock):
    """Where neither time nor id is signed, the body is known again; unless the operator says that ids alone count."""
    action = Action(workflow="build", input="{body: body}")
    await define(store, Hook(name="gh", scheme="github", secrets=("s3cret",), action=action))
    by_id = 'headers."x-github-delivery"'
    await define(store, Hook(name="ids", scheme="github", secrets=("s3cret",), action=action, delivery=by_id))

    async def send(name: str, id: str, body: bytes, desk: HookDesk) -> HookAnswer:
        signature = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        return await desk.receive(name, {"X-GitHub-Delivery": id, "X-Hub-Signature-256": signature}, body, T0)

    desk, other = HookDesk(store, clock, "api-1"), HookDesk(store, clock, "api-2")
    first = await send("gh", "one", b"[1]", desk)
    assert first.outcome == "started"
    for id in ("one", "two"):
        again = await send("gh", id, b"[1]", other)
        assert (again.status, again.outcome, again.body["execution"]) == (200, "duplicate", first.body["execution"])
    assert (await send("gh", "one", b"[2]", desk)).outcome == "duplicate"
    assert (await send("gh", "two", b"[2]", desk)).outcome == "started"
    assert [(await send("ids", id, b"[1]", desk)).outcome for id in ("one", "two")] == ["started", "started"]


async def test_a_filter(store, clock):
    """What does not match is answered, counted and not remembered; an expression that fails is a refusal."""
    action = Action(workflow="build", input="{body: body}")
    hook = Hook(name="some", scheme="none", action=action, filter="length(body.kind) > `3`")
    await define(store, hook)
    desk = HookDesk(store, clock, "api-1")
    answers = [await desk.receive("some", {}, body, T0) for body in (b'{"kind": "no"}', b'{"kind": "push"}', b"{}")]
    assert [each.outcome for each in answers] == ["ignored", "started", "mapping"]
    assert [each.status for each in answers] == [200, 202, 400]


async def test_slack_is_answered_its_challenge_and_known_by_its_event_ids(store, clock):
    """The challenge only when it is signed; a slash command is a form."""
    await define(
        store, Hook(name="slack", scheme="slack", secrets=("s3cret",), action=Action(workflow="bot", input="{e: body}"))
    )
    desk = HookDesk(store, clock, "api-1")
    seconds = T0 // 1_000_000

    async def slack(body: bytes, secret: bytes = b"s3cret", kind: str = "application/json") -> HookAnswer:
        signature = hmac.new(secret, f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "X-Slack-Request-Timestamp": str(seconds),
            "X-Slack-Signature": f"v0={signature}",
            "Content-Type": kind,
        }
        return await desk.receive("slack", headers, body, T0)

    challenge = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
    assert (await slack(challenge)).body == {"challenge": "3eZbrw1a"}
    assert (await slack(challenge, b"wrong")).status == 401
    event = b'{"type": "event_callback", "event_id": "Ev1", "n": %d}'
    assert [(await slack(event % n)).status for n in (1, 2)] == [202, 200]
    command = urlencode({"command": "/deploy", "trigger_id": "1.2", "text": ""}).encode()
    answer = await slack(command, kind=FORM)
    row = await row_of(store, str(answer.body["execution"]))
    assert msgspec.json.decode(row.input) == {"e": {"command": "/deploy", "trigger_id": "1.2", "text": ""}}


async def test_stripe_deliveries_are_known_by_the_event_in_the_body(store, clock):
    """Stripe signs each attempt anew, with another time, and has no header for the id."""
    await define(
        store, Hook(name="pay", scheme="stripe", secrets=("whsec_x",), action=Action(workflow="pay", input="{e: body}"))
    )
    desk = HookDesk(store, clock, "api-1")

    async def stripe(body: bytes, at: int) -> HookAnswer:
        signature = hmac.new(b"whsec_x", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return await desk.receive("pay", {"Stripe-Signature": f"t={at},v1={signature}"} | JSON, body, T0)

    first, second = [await stripe(b'{"id": "evt_1"}', T0 // 1_000_000 + n) for n in range(2)]
    assert (first.status, second.status) == (202, 200)


async def test_a_generic_hook_without_an_id_is_known_by_its_body(store, clock):
    """The digest is the last resort, and an expression may say something better."""
    hook = Hook(name="x", scheme="none", action=Action(workflow="w", input="{e: body}"), hmac=Hmac())
    await define(store, hook)
    desk = HookDesk(store, clock, "api-1")
    assert [(await desk.receive("x", {}, b'{"n": 1}', T0)).status for _ in range(2)] == [202, 200]
    await define(store, msgspec.structs.replace(hook, delivery="body.id"))
    bodies = [b'{"id": 1}', b'{"id": 2}', b'{"id": 1, "again": true}', b"{}"]
    assert [(await desk.receive("x", {}, body, T0)).status for body in bodies] == [202, 202, 200, 400]


async def test_counts_of_all_processes_are_added_up(opened, clock):
    """Those that were written; each process writes its own."""
    desks = [HookDesk(await opened(), clock, f"api-{number}") for number in range(2)]
    await define(desks[0]._store, ORDERS)
    for number in range(3):
        await send(desks[number % 2], {"order": {"id": number}}, id=f"msg_{number}")
    await send(desks[1], {"order": {"id": 0}}, id="msg_0")
    for desk in desks:
        await desk.tally.run_once()
        await desk.tally.run_once()
    assert await totals(desks[0]._store, "hooks") == {"orders": {"started": 3, "duplicate": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"name": ""},
        {"scheme": "md5"},
        {"secrets": ()},
        {"secrets": ("whsec_!",)},
        {"secrets": ("env:1X",)},
        {"secrets": ("file:relative",)},
        {"secrets": (SECRET,) * 9},
        {"scheme": "none"},
        {"tolerance": 0.0},
        {"remember": 1.0},
        {"delivery": "("},
        {"action": Action(workflow="")},
        {"action": Action(workflow="w", signal="s")},
        {"action": Action(mode="signal", signal="s")},
        {"action": Action(workflow="w", id="(")},
        {"action": Action(workflow="w", input="nope(")},
        {"action": Action(workflow="w", singleton=True)},
    ],
)
def test_a_definition_that_cannot_be_is_refused(change):
    """When it is made, not when the first delivery comes; and no error shows a secret."""
    with pytest.raises(InvalidInput) as caught:
        msgspec.structs.replace(ORDERS, **change).checked()
    assert "whsec_" not in str(caught.value).replace("with whsec_ before", "")


def test_secrets_are_never_shown():
    """Where they are, yes."""
    hook = msgspec.structs.replace(ORDERS, secrets=(SECRET, "env:HOOK", "file:/run/hook"))
    assert hook.shown()["secrets"] == ["(kept in the store)", "env:HOOK", "file:/run/hook"]
    assert SECRET not in json.dumps(hook.shown())
