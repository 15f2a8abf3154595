"""`edow token`, `edow audit`, `edow bulk`, `edow pause`: what an operator does at a terminal."""

from __future__ import annotations

import getpass
import json

from tests.cli.conftest import Run

START = ("start", "patient")


def entries(run: Run) -> list[dict[str, object]]:
    found = json.loads(run("audit", "--json").out)
    assert isinstance(found, list)
    return found


def test_tokens(run: Run):
    """A token is shown once; its list holds no secret and no hash; revoked, it is gone."""
    made = run("token", "create", "ci", "--role", "operate", "--expires", "90d")
    assert made.code == 0
    assert made.out.startswith("edow_ci.")
    listed = run("token", "list", "--json")
    [token] = json.loads(listed.out)
    assert (token["name"], token["role"], token["created_by"]) == ("ci", "operate", f"cli:{getpass.getuser()}")
    assert made.out.strip().partition(".")[2] not in listed.out
    assert "digest" not in token
    assert "ci" in run("token", "list").out
    assert run("token", "create", "ci").code == 1
    assert run("token", "create", "x", "--role", "king").code == 1
    assert run("token", "create", "a b").code == 1
    assert run("token", "revoke", "ci").code == 0
    assert run("token", "revoke", "ci").code == 1
    assert json.loads(run("token", "list", "--json").out) == []
    found = entries(run)
    assert [each["action"] for each in found] == ["token.revoke", "token.create"]
    assert str(found[1]["parameters"]["expires_at"]).startswith("20")  # a time that people can read


def test_the_audit_log_names_who_did_what(run: Run):
    """Actions of the command line are there with the user's name, newest first, and can be filtered."""
    for id in ("a", "b"):
        run(*START, "--id", id)
    run("cancel", "a", "--reason", "wrong order")
    run("signal", "b", "go", '"secret words"')
    run("pause", "b")
    assert run("cancel", "nobody").code == 1
    found = entries(run)
    assert [(each["action"], each["target"]) for each in found] == [
        ("execution.pause", "b"),
        ("execution.signal", "b"),
        ("execution.cancel", "a"),
        ("execution.start", "b"),
        ("execution.start", "a"),
    ]
    assert {each["actor"] for each in found} == {f"cli:{getpass.getuser()}"}
    assert found[2]["parameters"] == {"reason": "wrong order"}
    assert "secret" not in run("audit", "--json").out
    assert "wrong order" in run("audit", "--target", "a").out
    assert json.loads(run("audit", "--json", "--action", "execution.pause").out)[0]["target"] == "b"
    assert len(json.loads(run("audit", "--json", "--action", "execution", "-n", "2").out)) == 2
    assert json.loads(run("audit", "--json", "--actor", "token:x").out) == []


def test_a_bulk_job_from_the_terminal(run: Run):
    """Preview, start, list, show, stop; nothing is done to everything by an oversight."""
    for id in ("x-1", "x-2", "y-1"):
        run(*START, "--id", id)
    assert json.loads(run("bulk", "start", "cancel", "--prefix", "x-", "--preview", "--json").out)["count"] == 2
    assert "2 executions match" in run("bulk", "start", "cancel", "--prefix", "x-", "--preview").out
    for wrong in (("cancel",), ("dance", "--all"), ("signal", "--all"), ("cancel", "--all", "--rate", "0")):
        assert run("bulk", "start", *wrong, "--yes").code == 1, wrong
    made = run("bulk", "start", "cancel", "--prefix", "x-", "--reason", "no", "--yes", "--json")
    job = json.loads(made.out)
    assert (job["total"], job["state"]) == (2, "running")
    assert job["id"] in run("bulk", "list").out
    assert "0 of 2" in run("bulk", "show", job["id"]).out
    assert run("bulk", "stop", job["id"]).code == 0
    assert run("bulk", "stop", job["id"]).code == 1
    assert json.loads(run("bulk", "show", job["id"], "--json").out)["state"] == "stopped"


def test_without_a_terminal_a_bulk_job_has_to_be_confirmed(run: Run):
    """A script says --yes, or nothing happens."""
    run(*START, "--id", "x")
    result = run("bulk", "start", "terminate", "--all")
    assert (result.code, "say --yes" in result.err) == (1, True)
    assert json.loads(run("bulk", "list", "--json").out) == []
