"""`edow endpoint`: what is printed, and what is refused."""

from __future__ import annotations

import json

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
