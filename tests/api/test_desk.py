"""The dead-letter desk over HTTP."""

from __future__ import annotations

import msgspec

from edow.model.failure import Failure, fingerprint
from edow.store.contract import Commit, DeadLetter
from tests.api.serving import Api

GROUP = fingerprint("pay", "Down", "HTTP 503")


def letter(number: int, **given: object) -> DeadLetter:
    execution = f"e{number}"
    failure = msgspec.Raw(msgspec.json.encode(Failure("Down", "HTTP 503")))
    return DeadLetter(
        id=f"{execution}/1/pay", execution=execution, run=1, step="pay", task="pay", at=number, failure=failure,
        args=msgspec.Raw(b'{"cents": 1}'), fingerprint=GROUP, **given,
    )  # fmt: skip


async def test_the_desk(api: Api) -> None:
    """Groups, the parking lot, a dry run, a redrive in stages and its end; each by its documented form."""
    await api.system.store.commit(Commit(leases={}, dead_letters=[letter(1), letter(2), letter(3)]))
    http = api.http()
    [group] = (await http.get("/api/v1/dead-letter-groups")).json()
    assert (group["group"], group["count"], group["task"], group["newest"]) == (GROUP, 3, "pay", "e3/1/pay")
    assert group["failure"]["message"] == "HTTP 503"

    aside = {"which": {"ids": ["e1/1/pay"]}, "reason": "asked"}
    assert (await http.post("/api/v1/dead-letters/set-aside", json=aside)).json() == {"letters": 1}
    [parked] = (await http.get("/api/v1/dead-letter-groups", params={"aside": "true"})).json()
    assert (parked["count"], parked["reason"]) == (1, "asked")
    back = {"which": {"group": GROUP}}
    assert (await http.post("/api/v1/dead-letters/bring-back", json=back)).json() == {"letters": 1}

    tried = (await http.post("/api/v1/dead-letters/dry-run", json={**back, "change": {"cents": 2}})).json()
    assert (tried["letters"], tried["unfit"]) == (3, 3)  # nobody here knows the task
    assert "code is not loaded here" in tried["trials"][0]["problem"]
    unknown = await http.post("/api/v1/redrives", json={**back, "change": {"cents": 2}})
    assert unknown.status_code == 400
    begun = await http.post("/api/v1/redrives", json={**back, "change": {"cents": 2}, "unchecked": True, "stages": [2]})
    assert begun.status_code == 201
    id = begun.json()["id"]
    assert (begun.json()["stage"], begun.json()["stage_size"], begun.json()["created_by"]) == (1, 2, "local")
    stopped = await http.post(f"/api/v1/redrives/{id}/stop", json={"reason": "enough"})
    assert (stopped.json()["state"], stopped.json()["why"]) == ("stopped", "enough")
    assert (await http.post(f"/api/v1/redrives/{id}/stop", json={})).status_code == 409
    assert [each["id"] for each in (await http.get("/api/v1/redrives")).json()] == [id]
    assert (await http.get(f"/api/v1/redrives/{id}")).json() == stopped.json()
    assert (await http.get("/api/v1/redrives/nobody")).status_code == 404


async def test_a_selection_has_to_be_clear(api: Api) -> None:
    """Neither nothing, nor ids and something else."""
    for which in ({}, {"ids": []}, {"ids": ["a"], "group": "b"}):
        answer = await api.http().post("/api/v1/dead-letters/bring-back", json={"which": which})
        assert (answer.status_code, answer.json()["error"]) == (400, "InvalidInput")
    answer = await api.http().post("/api/v1/redrives", json={"which": {"ids": ["a"]}})
    assert answer.status_code == 400
    answer = await api.http().post("/api/v1/dead-letters/bring-back", json={"which": {"grup": "b"}})
    assert answer.status_code in (400, 422)
