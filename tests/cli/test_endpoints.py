"""`edow endpoint`: what is printed, and what is refused."""

from __future__ import annotations

import asyncio
import json

import msgspec

from edow.app import connect_store
from edow.store.contract import Commit
from edow.trigger.given_up import letter_of
from edow.trigger.outgoing import Sending

CREATE = ("endpoint", "create", "shop", "--url", "https://shop.example/hook")


def test_an_endpoint_is_made_tested_and_deleted(run):
    """A secret that was made up is shown once, and never again."""
    made = json.loads(run(*CREATE, "-w", "fulfil", "-w", "ship*", "-s", "failed", "--json").out)
    secret = made.pop("new_secret")
    assert secret.startswith("whsec_")
    assert (made["secrets"], made["workflows"], made["statuses"]) == (
        ["(kept in the store)"],
        ["fulfil", "ship*"],
        ["failed"],
    )
    assert json.loads(run("endpoint", "show", "shop", "--json").out) == made
    assert "fulfil, ship*" in run("endpoint", "list").out
    assert "ping" in run("endpoint", "test", "shop").out
    assert json.loads(run("endpoint", "delete", "shop", "--json").out) == {"name": "shop", "deleted": True}
    assert json.loads(run("endpoint", "list", "--json").out) == []


def test_a_secret_of_one_s_own_is_a_reference(run):
    """And then none is made up."""
    result = run(*CREATE, "--secret", "env:SHOP", "--no-ends")
    assert (result.code, "whsec_" in result.err) == (0, False)
    shown = json.loads(run("endpoint", "show", "shop", "--json").out)
    assert (shown["secrets"], shown["workflows"]) == (["env:SHOP"], [])


def test_one_start_names_an_endpoint(run):
    """By name; one that nobody has made is refused, and nothing is started."""
    run(*CREATE, "--no-ends")
    assert run("start", "fulfil", "--id", "a", "--notify", "shop").code == 0
    assert '"notify":"shop"' in run("show", "a", "--history", "--json").out
    result = run("start", "fulfil", "--id", "b", "--notify", "shops")
    assert (result.code, "edow endpoint list" in result.err) == (1, True)
    assert run("show", "b").code == 1


def test_a_secret_is_rotated(run):
    """One that was made up is shown once; of what still signs, where it is. Both are in the audit log."""
    run(*CREATE)
    made = json.loads(run("endpoint", "rotate", "shop", "--keep", "2h", "--json").out)
    assert made["new_secret"].startswith("whsec_")
    [old] = json.loads(run("endpoint", "show", "shop", "--json").out)["retiring"]
    assert old["secret"] == "(kept in the store)"
    result = run("endpoint", "rotate", "shop", "--secret", "env:SHOP", "--keep", "0s")
    assert ("env:SHOP" in result.out, "whsec_" in result.err) == (True, False)
    entries = json.loads(run("audit", "--action", "endpoint.rotate", "--json").out)
    assert [each["parameters"] for each in entries] == [{"keep_seconds": 0.0}, {"keep_seconds": 7200.0}]


def test_what_cannot_be_is_refused(run):
    """With what may be instead."""
    run(*CREATE)
    for words, said in {
        CREATE: "exists already",
        (*CREATE[:2], "x", "--url", "ftp://h"): "https://HOST/PATH",
        (*CREATE[:2], "x", "--url", "https://u:pw@h"): "no user and no password",
        (*CREATE[:2], "x", "--url", "https://h", "-s", "running"): "completed, failed",
        (*CREATE[:2], "x", "--url", "https://h", "--secret", "abc"): "env:NAME",
        ("endpoint", "test", "nothing"): "edow endpoint list",
        ("endpoint", "rotate", "nothing"): "edow endpoint list",
        ("endpoint", "rotate", "shop", "--keep", "soon"): "--keep",
        ("endpoint", "rotate", "shop", "--secret", "abc"): "env:NAME",
    }.items():
        result = run(*words)
        assert result.code == 1, words
        assert said in result.err, (words, result.err)
        assert "pw" not in result.err


def give_up(*ids: str) -> None:
    """As a sender does in the end."""

    async def write() -> None:
        store = connect_store("sqlite:///edow.db")
        await store.open()
        body = msgspec.Raw(b'{"type":"t","data":{"n":7}}')
        letters = [letter_of(Sending(id, "shop", "t", body, 1, 12), "it was not taken for days", 1) for id in ids]
        await store.commit(Commit(leases={}, dead_letters=letters))
        await store.close()

    asyncio.run(write())


def test_what_was_given_up_is_listed_and_sent_again(run):
    """One that is named, or all of an endpoint; the desk says how."""
    run(*CREATE)
    give_up("msg_1", "msg_2", "msg_3")
    assert "3: edow dlq list --source endpoint/shop" in run("endpoint", "show", "shop").out
    assert json.loads(run("endpoint", "list", "--json").out)[0]["given_up"] == 3
    listed = json.loads(run("dlq", "list", "--source", "endpoint/shop", "--json").out)
    assert [each["args"]["body"]["data"] for each in listed] == [{"n": 7}] * 3
    assert "edow dlq redrive --source endpoint/shop" in run("dlq", "groups").err
    assert run("dlq", "list", "--source", "endpoint/sho").err.startswith("no dead letters match")
    assert run("dlq", "redrive", listed[0]["id"]).out == "redriven 1 dead letter\n"
    assert run("endpoint", "send-again", "shop").out == "2 messages for endpoint shop will be sent again\n"
    assert json.loads(run("endpoint", "send-again", "shop", "--json").out) == {"name": "shop", "sent_again": 0}
    assert run("endpoint", "show", "shop").out.split()[-3:] == ["given", "up", "none"]
    entries = json.loads(run("audit", "--action", "endpoint.send_again", "--json").out)
    assert [(each["target"], each["parameters"]["letters"]) for each in entries] == [("shop", 0), ("shop", 2)]
    result = run("dlq", "redrive", "--source", "endpoint/shop", "--stages", "1")
    assert (result.code, "--stages goes with" in result.err) == (1, True)
