"""`edow hook`: what is printed, and what is refused."""

from __future__ import annotations

import json

CREATE = ("hook", "create", "orders", "--scheme", "github", "--secret", "env:ORDERS", "-w", "fulfil", "--id", "body.id")


def test_a_hook_is_made_shown_rotated_and_deleted(run):
    """With --json whole, and without for people."""
    made = json.loads(run(*CREATE, "--json").out)
    assert (made["name"], made["secrets"], made["workflow"]) == ("orders", ["env:ORDERS"], "fulfil")
    assert run("hook", "list").out.split("\n")[2].startswith("orders  github  start fulfil  body.id")
    assert json.loads(run("hook", "list", "--json").out) == [made]
    assert "env:ORDERS" in run("hook", "show", "orders").out
    rotated = json.loads(run("hook", "rotate", "orders", "--secret", "file:/run/secret", "--json").out)
    assert rotated["secrets"] == ["file:/run/secret", "env:ORDERS"]
    assert json.loads(run("hook", "rotate", "orders", "--finish", "--json").out)["secrets"] == ["file:/run/secret"]
    assert json.loads(run("hook", "delete", "orders", "--json").out) == {"name": "orders", "deleted": True}
    assert json.loads(run("hook", "list", "--json").out) == []


def test_a_secret_is_no_argument(run):
    """Other users of the machine see arguments; the error does not repeat it."""
    result = run(*CREATE[:6], "s3cret-text", *CREATE[7:])
    assert result.code == 1
    assert "env:NAME" in result.err
    assert "s3cret-text" not in result.err


def test_what_cannot_be_is_refused(run):
    """With what may be instead."""
    run(*CREATE)
    for words, said in {
        CREATE: "exists already",
        ("hook", "create", "x", "--scheme", "md5", "-w", "w"): "standard-webhooks, github",
        ("hook", "create", "x", "--scheme", "none", "-w", "w", "--mode", "go"): "start-or-signal",
        ("hook", "create", "x", "--scheme", "none", "-w", "w", "--prefix", "p"): "only the scheme hmac",
        ("hook", "create", "x", "--scheme", "none", "-w", "w", "--filter", "("): "no JMESPath expression",
        ("hook", "create", "x", "--scheme", "github", "-w", "w"): "needs 1 to 8 secrets",
        ("hook", "rotate", "orders"): "either --secret",
        ("hook", "show", "nothing"): "edow hook list",
    }.items():
        result = run(*words)
        assert result.code == 1, words
        assert said in result.err, (words, result.err)
