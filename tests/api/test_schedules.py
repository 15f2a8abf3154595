"""Schedules over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from edow.client.audit import AuditFilter
from edow.trigger.schedules import Runner
from tests.api.serving import ELSEWHERE, Api

BASE = "/api/v1/schedules"
NIGHTLY: dict[str, Any] = {"workflow": "report", "cron": "30 12 * * *", "timezone": "Europe/Berlin"}


async def made(api: Api, name: str = "nightly", **changes: Any) -> dict[str, Any]:
    answer = await api.http().post(BASE, json={"name": name, "schedule": NIGHTLY | changes})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_schedule_is_made_shown_changed_and_deleted(api: Api):
    """What is shown can be put back; durations come back in seconds, times in RFC 3339."""
    http = api.http()
    view = await made(api, jitter="10m", start="2026-01-01T00:00:00+01:00", input={"day": "{{scheduled_date}}"})
    assert view["schedule"]["jitter"] == 600.0
    assert view["schedule"]["start"] == "2025-12-31T23:00:00Z"
    assert (view["state"], len(view["next"])) == ("active", 5)
    changed = view["schedule"] | {"overlap": "allow_all"}
    put = await http.put(f"{BASE}/nightly?if_version={view['version']}", json=changed)
    assert put.json()["schedule"] == changed
    assert (await http.put(f"{BASE}/nightly?if_version={view['version']}", json=changed)).status_code == 409
    assert len((await http.get(f"{BASE}/nightly?next=20")).json()["next"]) == 20
    assert (await http.delete(f"{BASE}/nightly")).status_code == 204
    assert (await http.get(f"{BASE}/nightly")).status_code == 404


async def test_pages_of_schedules(api: Api):
    """By name, page by page, until there is no cursor."""
    for name in ("a1", "a2", "a3", "b1"):
        await made(api, name)
    first = (await api.http().get(f"{BASE}?prefix=a&limit=2")).json()
    assert [each["name"] for each in first["schedules"]] == ["a1", "a2"]
    second = (await api.http().get(f"{BASE}?prefix=a&limit=2&cursor={first['cursor']}")).json()
    assert ([each["name"] for each in second["schedules"]], second["cursor"]) == (["a3"], None)


async def test_a_backfill_is_cancelled(api: Api):
    """It is a part of the schedule's record: nothing more of it is started, and a second time there is none."""
    http = api.http()
    schedule = {"workflow": "report", "cron": "0 3 * * *"}
    await http.post(BASE, json={"name": "nightly", "schedule": schedule})
    assert (await http.post(f"{BASE}/nightly/backfill/cancel")).status_code == 409
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"}
    for _ in range(2):
        assert (await http.post(f"{BASE}/nightly/backfill", json=span)).json() == {"ticks": 7}
    assert len((await http.get(f"{BASE}/nightly")).json()["backfills"]) == 2
    assert (await http.post(f"{BASE}/nightly/backfill/cancel")).json() == {"backfills": 2}
    assert (await http.get(f"{BASE}/nightly")).json()["backfills"] == []
    assert (await http.post(f"{BASE}/nightly/backfill/cancel")).status_code == 409
    assert (await http.post(f"{BASE}/nobody/backfill/cancel")).status_code == 404


async def test_pause_resume_trigger_backfill(api: Api):
    """Each answers what came of it, and the runner does the rest."""
    http = api.http()
    await made(api, cron="0 0 29 2 *")  # no tick comes by itself meanwhile
    paused = (await http.post(f"{BASE}/nightly/pause", json={"note": "audit"})).json()
    assert (paused["state"], paused["note"], paused["next"]) == ("paused", "audit", [])
    triggered = (await http.post(f"{BASE}/nightly/trigger", json={})).json()
    assert triggered["became"] == "started"
    again = (await http.post(f"{BASE}/nightly/trigger", json={"overlap": "skip"})).json()
    assert again == {"became": "skipped", "execution": None}
    assert (await http.post(f"{BASE}/nightly/resume")).json()["state"] == "active"
    assert (await http.post(f"{BASE}/nightly/resume")).status_code == 409
    span = {"from": "2016-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z", "overlap": "allow_all"}
    filled = await http.post(f"{BASE}/nightly/backfill", json=span)
    assert (filled.status_code, filled.json()) == (202, {"ticks": 3})
    await Runner(api.system.store, api.client._link.clock).run_once()
    found = (await http.get(f"{BASE}/nightly")).json()
    assert found["counts"]["started"] == 4
    assert [each["status"] for each in found["recent"] if each["became"] == "started"] == ["running"] * 4


async def test_what_is_done_is_in_the_audit_log(api: Api):
    """Who did what to which schedule; nothing of the input, and nothing for what was refused."""
    await api.token("admin")
    http = api.http(ELSEWHERE, await api.token("operate", "ops"))
    await http.post(BASE, json={"name": "nightly", "schedule": NIGHTLY | {"input": {"secret": "s3cret"}}})
    for action in ("pause", "resume", "resume", "trigger"):
        await http.post(f"{BASE}/nightly/{action}", json={})
    await http.delete(f"{BASE}/nightly")
    entries = (await api.client.audit(AuditFilter(action="schedule"))).entries
    actions = ["delete", "trigger", "resume", "pause", "create"]
    assert [each.action for each in entries] == [f"schedule.{each}" for each in actions]
    assert {(each.actor, each.target) for each in entries} == {("token:ops", "nightly")}
    assert "s3cret" not in str(entries)


async def test_whoever_may_only_read_may_not_change(api: Api):
    """Looking needs the role read, everything else operate."""
    await made(api)
    http = api.http(ELSEWHERE, await api.token("read"))
    assert (await http.get(f"{BASE}/nightly")).status_code == 200
    assert (await http.post(f"{BASE}/nightly/pause", json={})).status_code == 403
    assert (await http.put(f"{BASE}/nightly", json=NIGHTLY)).status_code == 403
    assert (await http.delete(f"{BASE}/nightly")).status_code == 403


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"cron": "* * *"}, 400),
        ({"cron": None}, 400),
        ({"timezone": "Mars"}, 400),
        ({"overlap": "maybe"}, 422),
        ({"start": "2026-01-01T00:00:00"}, 400),
        ({"start": "0001-01-01T00:00:00+14:00"}, 400),
        ({"end": "9999-12-31T23:59:59-14:00"}, 400),
        ({"end": "2020-01-01T00:00:00Z"}, 400),
        ({"catch_up": 1e308}, 400),
        ({"jitter": "soon"}, 400),
        ({"cron": None, "every": 1e300}, 400),
        ({"cron": None, "every": -1}, 400),
        ({"cron": None, "every": 1.0001234}, 400),
        ({"runs": 0}, 400),
        ({"input": [1]}, 422),
        ({"input": {"a": "{{b}}"}}, 400),
        ({"input": {"a": "x" * 200_000}}, 400),
        ({"workflow": "a#b"}, 400),
        ({"surprise": 1}, 422),
    ],
)
async def test_what_is_wrong_is_refused(api: Api, changes: dict[str, Any], status: int):
    """With an error that says what; nothing is made."""
    answer = await api.http().post(BASE, json={"name": "s", "schedule": NIGHTLY | changes})
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert (await api.http().get(f"{BASE}/s")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nightly", None, 409),
        ("nobody/pause", {}, 404),
        ("nobody/trigger", {}, 404),
        ("nightly/trigger", {"overlap": "x"}, 422),
        ("nightly/backfill", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 400),
        ("nightly/backfill", {"from": "2026-01-02T00:00:00Z", "to": "2126-01-01T00:00:00Z"}, 400),
        ("nightly/backfill", {"from": "2020-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 400),
        ("nightly/backfill", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:01:00Z"}, 400),
        ("nightly/backfill", {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00Z"}, 400),
        ("a%00b/trigger", {}, 400),
    ],
)
async def test_acts_that_cannot_be(api: Api, path: str, body: dict[str, Any] | None, status: int):
    """Taken names, unknown names, times that make no sense."""
    await made(api)
    http = api.http()
    if body is None:
        answer = await http.post(BASE, json={"name": path, "schedule": NIGHTLY})
    else:
        answer = await http.post(f"{BASE}/{path}", json=body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2026-01-31T23:59:59Z", "2026-02-10T00:00:00Z", "starts at 2026-02-01T00:00:00+00:00"),
        ("2026-02-01T00:00:00Z", "2026-02-10T00:00:01Z", "ends at 2026-02-10T00:00:00+00:00"),
        ("2026-02-01T00:00:00Z", "2026-02-10T00:00:00Z", None),
    ],
)
async def test_a_backfill_beyond_the_schedules_own_start_or_end_is_refused(
    api: Api, first: str, last: str, said: str | None
) -> None:
    """There are no ticks that could have been missed."""
    await made(api, start="2026-02-01T00:00:00Z")
    end = datetime(2026, 2, 10, tzinfo=UTC)
    await api.client.schedules().update("nightly", lambda old: msgspec.structs.replace(old, end=end))
    answer = await api.http().post(f"{BASE}/nightly/backfill", json={"from": first, "to": last})
    assert (answer.status_code == 202) == (said is None), answer.text
    assert said is None or said in answer.json()["message"]


@pytest.mark.parametrize("query", ["limit=0", "limit=9999", "prefix=%00", "cursor=%07"])
async def test_listings_that_cannot_be(api: Api, query: str):
    """Limits and texts that no name has."""
    assert (await api.http().get(f"{BASE}?{query}")).status_code == 400
