"""Starting, looking, waiting and acting over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import edow
from edow.api import Settings
from edow.workflow.registry import Registry
from tests.api.serving import Api, serving
from tests.integration.system import QUICK, registry_of

EXECUTIONS = "/api/v1/executions"


@edow.task
async def double(number: int) -> int:
    return 2 * number


@edow.workflow
async def doubled(number: int) -> int:
    edow.attributes(parity=number % 2)
    return await double(number)


@edow.workflow
async def waits() -> str:
    return await edow.wait_signal("go", str)


REGISTRY: Registry = registry_of(globals())


async def test_start_and_result(tmp_path):
    """An execution is started, waited for and looked at, by HTTP alone."""
    async with serving(tmp_path, REGISTRY) as api:
        orchestrator, worker = api.system.orchestrator(**QUICK), api.system.worker(topics=("default",))
        await orchestrator.start()
        await worker.start()
        http = api.http()
        start = {"workflow": "doubled", "input": {"number": 21}, "id": "d-1"}
        answer = await http.post(EXECUTIONS, json=start)
        assert (answer.status_code, answer.json()) == (201, {"id": "d-1", "run": 1, "outcome": "started"})
        answer = await http.get(f"{EXECUTIONS}/d-1/result", params={"timeout": "30s"})
        assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "completed", 42)
        found = (await http.get(f"{EXECUTIONS}/d-1")).json()
        assert (found["input"], found["result"], found["attributes"]) == ({"number": 21}, 42, {"parity": 1})
        assert found["started_at"].endswith("Z")
        history = (await http.get(f"{EXECUTIONS}/d-1/history", params={"limit": 2})).json()
        assert (history["events"][0]["number"], history["events"][0]["type"]) == (0, "started")
        rest = (await http.get(f"{EXECUTIONS}/d-1/history", params={"after": history["after"]})).json()
        assert rest["events"][-1]["type"] == "completed"
        assert rest["events"][0]["number"] == 2
        await worker.stop()
        await orchestrator.stop()


async def test_an_id_that_is_taken(each: Api):
    """Attach answers 200, reject 409, replace begins the next run."""
    http = each.http()
    start = {"workflow": "doubled", "input": {"number": 1}, "id": "one"}
    outcomes = []
    for if_exists in ("reject", "attach", "reject", "replace"):
        answer = await http.post(EXECUTIONS, json=start | {"if_exists": if_exists})
        outcomes.append((answer.status_code, answer.json().get("run"), answer.json().get("error")))
    assert outcomes == [(201, 1, None), (200, 1, None), (409, None, "AlreadyExists"), (201, 2, None)]


async def test_start_many(each: Api):
    """In one request, each with what became of it."""
    http = each.http()
    many: dict[str, Any] = {"workflow": "doubled", "executions": [{"id": "a", "input": {"number": 1}}, {"id": "b"}]}
    answer = await http.post(f"{EXECUTIONS}/batch", json=many)
    assert [(each["id"], each["outcome"]) for each in answer.json()] == [("a", "started"), ("b", "started")]
    many["executions"].append({})
    answer = await http.post(f"{EXECUTIONS}/batch", json=many)
    assert [each["outcome"] for each in answer.json()] == ["attached", "attached", "started"]
    assert (await http.post(f"{EXECUTIONS}/batch", json=many | {"executions": []})).status_code == 422


async def test_list_by_pages(each: Api):
    """Newest first, with filters and a cursor; bad ones are told."""
    http = each.http()
    many = {"workflow": "doubled", "executions": [{"id": f"x-{number}"} for number in range(7)]}
    await http.post(f"{EXECUTIONS}/batch", json=many)
    await http.post(EXECUTIONS, json={"workflow": "waits", "id": "other"})
    found, cursor = [], None
    while True:
        params = {"limit": 3, "prefix": "x-"} | ({"cursor": cursor} if cursor else {})
        page = (await http.get(EXECUTIONS, params=params)).json()
        found += [each["id"] for each in page["executions"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(found) == [f"x-{number}" for number in range(7)]
    assert len((await http.get(EXECUTIONS, params={"status": ["running", "failed"]})).json()["executions"]) == 8
    assert len((await http.get(EXECUTIONS, params={"workflow": "waits"})).json()["executions"]) == 1
    assert (await http.get(EXECUTIONS, params={"started_before": "2001-01-01T00:00:00Z"})).json()["executions"] == []
    for wrong in ({"cursor": "x"}, {"attribute": "x"}, {"limit": 0}, {"status": "odd"}, {"started_after": "now"}):
        assert (await http.get(EXECUTIONS, params=wrong)).status_code in (400, 422), wrong


async def test_what_is_wrong_is_said(api: Api):
    """An empty body, a word that is none of the allowed ones, half of a character, and an id that no URL can name."""
    http = api.http()
    await http.post(EXECUTIONS, json={"workflow": "waits", "id": "w"})
    said = (await http.post(f"{EXECUTIONS}/w/signal")).json()
    assert said["message"] == "the body is empty: send a JSON object"
    for verb in ("pause", "cancel", "terminate"):
        assert (await http.post(f"{EXECUTIONS}/w/{verb}")).status_code == 202
    odd = (await http.get(EXECUTIONS, params={"status": "odd"})).json()["message"]
    assert odd.startswith("status: Invalid enum value 'odd', use one of running, ")
    odd = (await http.post(EXECUTIONS, json={"workflow": "waits", "if_exists": "odd"})).json()["message"]
    assert odd == "if_exists: Invalid enum value 'odd', use one of attach, reject, replace"
    half = await http.post(EXECUTIONS, content=b'{"workflow": "s\\ud800x"}')
    assert (half.status_code, "surrogates" in half.json()["message"]) == (400, True)
    for id in (".", ".."):
        answer = await http.post(EXECUTIONS, json={"workflow": "waits", "id": id})
        assert (answer.status_code, "browsers leave out" in answer.json()["message"]) == (400, True)


async def test_a_wait_is_bounded(tmp_path):
    """202 after the timeout, which is cut to the longest allowed; 429 when too many wait already."""
    settings = Settings(longest_wait_seconds=0.05, most_waiting=1)
    async with serving(tmp_path, settings=settings) as api:
        http = api.http()
        await http.post(EXECUTIONS, json={"workflow": "waits", "id": "w"})
        answer = await http.get(f"{EXECUTIONS}/w/result", params={"timeout": "1h"})
        assert (answer.status_code, answer.json()) == (202, {"id": "w", "run": 1, "status": "running"})
        both = await asyncio.gather(*(http.get(f"{EXECUTIONS}/w/result") for _ in range(2)))
        assert sorted(each.status_code for each in both) == [202, 429]
        assert (await http.get(f"{EXECUTIONS}/w/result", params={"timeout": "soon"})).status_code == 400


async def test_actions_are_accepted_and_written_down(each: Api):
    """Start, signal, cancel, terminate, pause: 202 and an entry each; what cannot be is 404 or 409 and leaves none."""
    http = each.http()
    await http.post(EXECUTIONS, json={"workflow": "waits", "id": "w"})
    await http.post(f"{EXECUTIONS}/w/signal", json={"name": "go", "value": {"secret": "hunter2"}})
    for action in ("cancel", "terminate", "pause"):
        answer = await http.post(f"{EXECUTIONS}/w/{action}", json={"reason": "because"})
        assert (answer.status_code, answer.json()) == (202, {"id": "w", "accepted": True})
        assert (await http.post(f"{EXECUTIONS}/nobody/{action}", json={})).status_code == 404
    assert (await http.post(f"{EXECUTIONS}/w/resume")).status_code == 409
    assert (await each.system.store.counts(0)).inbox == 5

    page = (await http.get("/api/v1/audit")).json()
    entries = page["entries"]
    assert [entry["action"] for entry in entries] == [
        "execution.pause",
        "execution.terminate",
        "execution.cancel",
        "execution.signal",
        "execution.start",
    ]
    assert {(entry["actor"], entry["role"], entry["address"]) for entry in entries} == {("local", "admin", "127.0.0.1")}
    assert {(entry["target"], entry["outcome"]) for entry in entries} == {("w", "accepted")}
    assert entries[0]["parameters"] == {"reason": "because"}
    assert entries[-2]["parameters"] == {"name": "go", "bytes": 20}
    assert entries[-1]["parameters"] == {"workflow": "waits"}
    assert "hunter2" not in str(page)


async def test_a_start_names_the_endpoint_that_is_told(api: Api):
    """One, and a batch; the history says which. One that there is not is refused."""
    http = api.http()
    await http.post("/api/v1/endpoints", json={"name": "shop", "url": "https://shop.example/", "workflows": []})
    assert (await http.post(EXECUTIONS, json={"workflow": "w", "id": "a", "notify": "shop"})).status_code == 201
    batch = {"workflow": "w", "executions": [{"id": "b"}, {"id": "c"}], "notify": "shop"}
    assert (await http.post(f"{EXECUTIONS}/batch", json=batch)).status_code == 200
    for id in "abc":
        [began] = (await http.get(f"{EXECUTIONS}/{id}/history")).json()["events"]
        assert began["details"]["notify"] == "shop"
    for path, body in ((EXECUTIONS, {"workflow": "w", "id": "d"}), (f"{EXECUTIONS}/batch", batch)):
        answer = await http.post(path, json=body | {"notify": "shops"})
        assert (answer.status_code, "edow endpoint list" in answer.json()["remedy"]) == (400, True)
    assert (await http.get(f"{EXECUTIONS}/d")).status_code == 404
