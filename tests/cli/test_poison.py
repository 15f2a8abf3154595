"""`edow dlq` and letters of no execution: groups have names, and only what can be done with them is suggested."""

from __future__ import annotations

import asyncio
import json

from edow.app import connect_store
from edow.orchestrator.cycle import poison_letter
from edow.store.contract import Commit, DeadLetter
from tests.cli.conftest import Run


def put(*letters: DeadLetter) -> None:
    async def write() -> None:
        store = connect_store("sqlite:///edow.db")
        await store.open()
        await store.commit(Commit(leases={}, dead_letters=letters))
        await store.close()

    asyncio.run(write())


def test_a_group_of_poison_is_discarded_by_its_name(run: Run):
    """Of two topics, two groups; redriving is not suggested, for it could not be done."""
    put(*(poison_letter(body, "edow.tasks.a", "not JSON at byte 7", 1) for body in (b"one", b"two")))
    put(poison_letter(b"one", "edow.tasks.b", "not JSON at byte 9", 2))
    listed = run("dlq", "groups")
    name = json.loads(run("dlq", "groups", "--json").out)[0]["fingerprint"]
    assert "edow.tasks.a" in listed.out
    assert f"edow dlq discard --group {name}" in listed.err
    assert "redrive" not in listed.err
    assert "edow.tasks.b" in run("dlq", "list").out
    assert run("dlq", "discard", "--group", name, "--reason", "junk").out == "discarded 2 dead letters\n"
    assert len(json.loads(run("dlq", "groups", "--json").out)) == 1


def test_letters_of_releases_that_knew_no_groups_are_a_group_too(run: Run):
    """Its name is empty, and is one nonetheless."""
    put(DeadLetter(id="poison/x", execution="", run=0, step="x", task=""))
    assert "edow dlq discard --group ''" in run("dlq", "groups").err
    assert run("dlq", "discard", "--group", "", "--reason", "old").out == "discarded 1 dead letter\n"
