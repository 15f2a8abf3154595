"""`edow trigger`: what is printed, and what is refused."""

from __future__ import annotations

import json

CREATE = ("trigger", "create", "orders", "--topic", "orders", "-w", "fulfil", "--id", "body.id")


def test_a_trigger_is_made_shown_paused_and_deleted(run):
    """With --json whole, and without for people."""
    made = json.loads(run(*CREATE, "--batch", "10", "--batch-wait", "30s", "--json").out)
    assert (made["topic"], made["group"], made["batch"], made["batch_wait_seconds"]) == (
        "orders",
        "edow-trigger-orders",
        10,
        30.0,
    )
    assert run("trigger", "list").out.split("\n")[2].startswith("orders  orders  start fulfil  body.id")
    assert "by 10, or those of 30.0 s" in run("trigger", "show", "orders").out
    assert run("trigger", "pause", "orders").out == "trigger orders paused\n"
    assert json.loads(run("trigger", "list", "--json").out) == [made | {"paused": True}]
    assert json.loads(run("trigger", "resume", "orders", "--json").out) == made
    assert json.loads(run("trigger", "delete", "orders", "--json").out) == {"name": "orders", "deleted": True}
    assert json.loads(run("trigger", "list", "--json").out) == []


def test_a_broker_s_password_is_not_shown(run):
    """Nor is where it is looked up hidden."""
    words = (*CREATE[:2], "other", *CREATE[3:], "--broker", "redis://user:s3cret@host")
    assert "s3cret" not in run(*words, "--json").out
    assert json.loads(run("trigger", "show", "other", "--json").out)["transport"] == "redis://user:***@host"


def test_what_cannot_be_is_refused(run):
    """With what may be instead."""
    run(*CREATE)
    for words, said in {
        CREATE: "exists already",
        (*CREATE[:2], "x", "--topic", "edow.results.0", "-w", "w"): "EDOW's own",
        (*CREATE[:2], "x", "--topic", "t", "-w", "w", "--filter", "("): "no JMESPath expression",
        (*CREATE[:2], "x", "--topic", "t", "-w", "w", "--batch", "3"): "an id to gather by",
        (*CREATE[:2], "x", "--topic", "t", "-w", "w", "--debounce", "soon"): "not a duration",
        (*CREATE[:2], "x", "--topic", "t", "-w", "w", "--id", "key", "--debounce", "0s"): "no time at all",
        (*CREATE[:2], "x", "--topic", "bad topic/../", "-w", "w"): "can be no topic's name",
        (*CREATE[:2], "x", "--topic", "a..b", "-w", "w"): "can be no topic's name",
        ("trigger", "pause", "nothing"): "edow trigger list",
    }.items():
        result = run(*words)
        assert result.code == 1, words
        assert said in result.err, (words, result.err)
