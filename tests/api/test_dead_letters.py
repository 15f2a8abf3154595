"""Dead letters over HTTP, one by one."""

from __future__ import annotations

import msgspec
import pytest

from edow.client.endpoints import EndpointSpec
from edow.model.failure import Failure
from edow.store.contract import Commit, DeadLetter
from edow.trigger.given_up import letter_of
from edow.trigger.outgoing import Sending
from tests.api.serving import Api

LETTERS = "/api/v1/dead-letters"


async def put_letters(api: Api) -> None:
    """Of three executions that wait; and one of bytes that belong to none."""
    await api.client.submit_named("w", [(f"e-{number}", {}) for number in range(3)])
    failure = msgspec.Raw(msgspec.json.encode(Failure(type="ValueError", message="no such order", stack="at 7")))
    letters = [
        DeadLetter(
            id=f"e-{number}/1/charge",
            execution=f"e-{number}",
            run=1,
            step="charge",
            task="charge",
            args=msgspec.Raw(b'{"amount": 12}'),
            failure=failure,
            attempts=3,
            workflow="w",
            at=number + 1,
            fingerprint="f",
        )
        for number in range(3)
    ]
    poison = DeadLetter(id="poison/x", execution="", run=0, step="x", task="", failure=failure, at=9)
    await api.system.store.commit(Commit(leases={}, dead_letters=[*letters, poison]))


async def test_letters_are_listed_and_shown(each: Api):
    """Oldest first, with filters; one with everything needed to act on it."""
    await put_letters(each)
    http = each.http()
    first = (await http.get(LETTERS)).json()["letters"]
    assert [letter["id"] for letter in first][:2] == ["e-0/1/charge", "e-1/1/charge"]
    page = (await http.get(LETTERS, params={"task": "charge", "limit": 2})).json()
    rest = (await http.get(LETTERS, params={"task": "charge", "limit": 2, "cursor": page["cursor"]})).json()
    assert [each["id"] for each in page["letters"] + rest["letters"]] == [f"e-{n}/1/charge" for n in range(3)]
    assert rest["cursor"] is None
    assert (await http.get(LETTERS, params={"cursor": "odd"})).status_code == 400
    assert len((await http.get(LETTERS, params={"error": "such order", "execution": "e-1"})).json()["letters"]) == 1
    assert (await http.get(LETTERS, params={"state": "redriven"})).json() == {"letters": [], "cursor": None}
    assert (await http.get(LETTERS, params={"state": "odd"})).status_code == 422
    letter = (await http.get(f"{LETTERS}/letter", params={"id": "e-1/1/charge"})).json()
    assert (letter["args"], letter["attempts"], letter["failure"]["stack"]) == ({"amount": 12}, 3, "at 7")
    assert (await http.get(f"{LETTERS}/letter", params={"id": "nothing"})).status_code == 404


async def test_what_one_request_does_not_reach_is_told(api: Api, monkeypatch: pytest.MonkeyPatch):
    """Of the letters that match, how many are left for the next one."""
    monkeypatch.setattr("edow.api.desk.LIMIT", 1)
    monkeypatch.setattr("edow.client.selection.READ", 2)
    await put_letters(api)
    http, charge, why = api.http(), {"which": {"task": "charge"}}, {"reason": "no use"}
    assert (await http.post(f"{LETTERS}/redrive", json=charge)).json() == {"letters": 1, "left": 2}
    for left in (2, 1):
        assert (await http.post(f"{LETTERS}/set-aside", json=charge | why)).json() == {"letters": 1, "left": left}
    assert (await http.post(f"{LETTERS}/set-aside", json=charge | why)).json() == {"letters": 1}
    assert (await http.post(f"{LETTERS}/bring-back", json=charge)).json() == {"letters": 1, "left": 2}


async def test_letters_are_redriven_and_discarded(each: Api):
    """By id or by what they have in common; new arguments need the code, or to be sent unchecked."""
    await put_letters(each)
    http = each.http()
    one = {"which": {"ids": ["e-0/1/charge"]}}
    assert (await http.post(f"{LETTERS}/redrive", json=one | {"args": {"amount": 1}})).status_code == 400
    answer = await http.post(f"{LETTERS}/redrive", json=one | {"args": {"amount": 1}, "unchecked": True})
    assert (answer.status_code, answer.json()) == (200, {"letters": 1})
    poison, charge, why = {"ids": ["poison/x"]}, {"task": "charge"}, {"reason": "no use"}
    assert (await http.post(f"{LETTERS}/discard", json={"which": poison})).status_code == 422
    unsaid = await http.post(f"{LETTERS}/discard", json={"which": poison, "reason": " "})
    assert (unsaid.status_code, unsaid.json()["message"]) == (400, "say why they are discarded")
    assert (await http.post(f"{LETTERS}/discard", json={"which": poison} | why)).json() == {"letters": 1}
    assert (await http.post(f"{LETTERS}/redrive", json={"which": poison})).status_code == 409
    assert (await http.post(f"{LETTERS}/discard", json={"which": charge} | why)).json() == {"letters": 3}
    assert (await http.post(f"{LETTERS}/discard", json={"which": {}} | why)).status_code == 400
    actions = [entry["action"] for entry in (await http.get("/api/v1/audit")).json()["entries"]]
    assert actions == ["dead_letter.discard", "dead_letter.discard", "dead_letter.redrive"]


async def test_webhooks_that_were_given_up_are_sent_again(each: Api):
    """One by its letter's id, some by where they belong, or all of an endpoint."""
    await each.client.endpoints().create(EndpointSpec(name="shop", url="https://shop.example/hook"))
    sendings = [Sending(f"msg_{n}", "shop", "t", msgspec.Raw(b'{"n":1}'), 1, 12) for n in range(4)]
    letters = [letter_of(sending, "it was not taken for days", n) for n, sending in enumerate(sendings)]
    await each.system.store.commit(Commit(leases={}, dead_letters=letters))
    http = each.http()
    found = (await http.get(LETTERS, params={"source": "endpoint/shop"})).json()["letters"]
    assert [letter["args"]["id"] for letter in found] == [f"msg_{n}" for n in range(4)]
    assert (await http.get("/api/v1/endpoints/shop")).json()["given_up"] == 4
    [group] = (await http.get("/api/v1/dead-letter-groups")).json()
    assert (group["source"], group["count"]) == ("endpoint/shop", 4)
    aside = {"which": {"ids": [found[1]["id"]]}, "reason": "of no use"}
    assert (await http.post(f"{LETTERS}/set-aside", json=aside)).json() == {"letters": 1}
    one = {"which": {"ids": [found[0]["id"]]}}
    assert (await http.post(f"{LETTERS}/redrive", json=one)).json() == {"letters": 1}
    assert (await http.post(f"{LETTERS}/redrive", json=one)).status_code == 409
    assert (await http.post("/api/v1/endpoints/shop/send-again")).json() == {"letters": 2}
    assert (await http.post(f"{LETTERS}/redrive", json={"which": {"source": "endpoint/shop"}})).json() == {"letters": 0}
    assert (await http.post("/api/v1/endpoints/none/send-again")).status_code == 404
    assert (await http.get("/api/v1/endpoints/shop")).json()["given_up"] == 0
