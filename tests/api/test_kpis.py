"""What was measured, objectives, alerts and incidents over HTTP."""

from __future__ import annotations

import msgspec
import pytest

from edow.app import now
from edow.kpi.alert import Condition
from edow.kpi.incident import Presence, of_lost
from edow.kpi.meter import Meter
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.monitor import alerts, incidents
from edow.monitor.keeper import Keeper
from edow.transport.contract import TopicSpec
from tests.api.serving import ELSEWHERE, Api

BASE = "/api/v1"


async def measured(api: Api) -> None:
    """Ten executions of one attempt each, of which nine completed, within two seconds."""
    at, meter = now(), Meter()
    meter.attempts([("order", [Attempted("pay", "completed", at - 100, at - 50, 40, 10)] * 10)], at)
    ended = [
        Execution(id="1", workflow="order", shard=0, status=status, started_at=at, ended_at=at + 2_000_000)
        for status in (*[Status.COMPLETED] * 9, Status.FAILED)
    ]
    meter.executions(["order"] * 10, ended)
    await Keeper(api.system.store, meter, "test").flush(at)


async def test_what_was_measured(api: Api):
    """A summary of the last minutes, and the same over time, of all workflows or one."""
    await measured(api)
    http = api.http()
    [workflow] = (await http.get(f"{BASE}/kpis")).json()["workflows"]
    assert (workflow["workflow"], workflow["completed"], workflow["success_rate"]) == ("order", 9, 0.9)
    [point] = (await http.get(f"{BASE}/kpis/series", params={"window": "10m"})).json()
    assert (point["completed"], point["attempts"], point["seconds"]) == (9, 10, 10)
    [other] = (await http.get(f"{BASE}/kpis/series", params={"workflow": "other"})).json()
    assert other["completed"] == 0
    assert (await http.get(f"{BASE}/kpis", params={"window": "soon"})).status_code == 400
    assert (await http.get(f"{BASE}/kpis", params={"window": "91d"})).status_code == 400


async def test_an_objective_is_made_looked_at_and_deleted(api: Api):
    """It tells how it stands, also of the time before it was made, which alerts nobody; a name is taken once."""
    await measured(api)
    http = api.http()
    slo = {"name": "orders", "workflow": "order", "target": 0.999, "within": "1s"}
    made = await http.post(f"{BASE}/slos", json=slo)
    assert (made.status_code, made.json()["good"], made.json()["total"]) == (201, 0, 10)
    assert (await http.post(f"{BASE}/slos", json=slo)).status_code == 409
    assert (await http.post(f"{BASE}/slos", json=slo | {"name": "x", "target": 99.9})).status_code == 400
    alert = {"severity": "page", "budget": 0.02, "long": "1h"}
    assert (
        await http.post(f"{BASE}/slos", json=slo | {"name": "x", "alerts": [alert | {"budget": 2}]})
    ).status_code == 400
    found = (await http.get(f"{BASE}/slos/orders")).json()
    assert (found["severity"], found["burns"][0]["long_rate"]) == (None, 0.0)
    assert [each["name"] for each in (await http.get(f"{BASE}/slos")).json()] == ["orders"]
    assert (await http.delete(f"{BASE}/slos/orders")).status_code == 204
    assert (await http.get(f"{BASE}/slos/orders")).status_code == 404
    entries = (await api.client.audit()).entries
    assert {each.action for each in entries} == {"slo.create", "slo.delete"}


async def test_costs_are_told_in_money_once_there_are_prices(api: Api):
    """Setting them is an operator's action."""
    await measured(api)
    http = api.http()
    assert (await http.get(f"{BASE}/kpis")).json()["workflows"][0]["cost"]["money"] is None
    prices = {"worker_hour": 3600.0, "million_messages": 0, "gigabyte": 0, "currency": "EUR"}
    assert (await http.put(f"{BASE}/prices", json=prices)).json()["currency"] == "EUR"
    assert (await http.put(f"{BASE}/prices", json=prices | {"gigabyte": -1})).status_code == 400
    assert (await http.get(f"{BASE}/kpis")).json()["workflows"][0]["cost"]["money"] > 0
    assert (await http.get(f"{BASE}/prices")).json()["worker_hour"] == 3600.0


async def test_thresholds_are_set_and_what_is_left_out_is_as_usual(api: Api):
    """An operator's action; nonsense is refused."""
    http = api.http()
    usual = (await http.get(f"{BASE}/alerts/thresholds")).json()
    assert (usual["dead_letters"], usual["oldest_seconds"], usual["waiting"]) == (5, 60.0, None)
    put = await http.put(f"{BASE}/alerts/thresholds", json={"waiting": 1000})
    assert put.json() == (await http.get(f"{BASE}/alerts/thresholds")).json() == usual | {"waiting": 1000}
    for wrong, code in (({"waiting": -1}, 400), ({"patience": 1}, 422), ({"overdue": "many"}, 422)):
        assert (await http.put(f"{BASE}/alerts/thresholds", json=wrong)).status_code == code
    assert (await http.get(f"{BASE}/alerts/thresholds")).json()["waiting"] == 1000
    assert [each.action for each in (await api.client.audit()).entries] == ["thresholds.set"]


async def test_alerts_and_incidents_are_told_with_their_times(api: Api):
    """What holds, what held, who was lost and who is here."""
    store, http = api.system.store, api.http()
    await alerts.update(store, [Condition("lag", "t workers", "ticket", "much")], now())
    await alerts.update(store, [Condition("stuck", "executions", "page", "all")], now())
    holding, held = (await http.get(f"{BASE}/alerts")).json()
    assert (holding["kind"], holding["until"], held["kind"]) == ("stuck", None, "lag")
    assert held["until"].endswith("Z")
    lost = Presence("a", now(), now(), [0], now(), 0, 0)
    await store.records_put([incidents.here(lost)], now())
    [one] = (await http.get(f"{BASE}/orchestrators")).json()
    assert (one["process"], one["last_commit_at"]) == ("a", None)
    await incidents.open_new(store, [lost], lost.at + 20_000_000)
    [incident] = (await http.get(f"{BASE}/incidents")).json()
    assert incident["cause"] == of_lost(lost, now(), 0).cause
    assert incident["seconds_to_recover"] is None
    assert (await http.get(f"{BASE}/orchestrators")).json() == []


@pytest.mark.parametrize("told", ["exactly", "about", "nothing"])
async def test_what_waits_is_told_as_far_as_the_broker_tells(api: Api, monkeypatch: pytest.MonkeyPatch, told: str):
    """Groups where it does; and always the tasks that nobody has answered, as orchestrators say."""
    transport = api.system.transport
    await transport.ensure([TopicSpec("edow.tasks.default", ("workers",))])
    features = msgspec.structs.replace(transport.features, lag=told == "exactly", waiting=told != "nothing")
    monkeypatch.setattr(transport, "_features", features)
    at = now()
    said = Presence(
        "a", at, at, [0], at, 0, 0, unanswered={"edow.tasks.default": 4}, unbegun={"edow.tasks.default": at}
    )
    await api.system.store.records_put([incidents.here(said)], at)
    found = (await api.http().get(f"{BASE}/stats")).json()
    assert (found["transport"], found["told"]) == ("sqlite", told)
    groups = [(each["topic"], each["group"], each["waiting"]) for each in found["groups"]]
    assert groups == ([] if told == "nothing" else [("edow.tasks.default", "workers", 0)])
    [tasks] = found["tasks"]
    assert (tasks["topic"], tasks["unanswered"], tasks["unbegun_since"] is None) == ("edow.tasks.default", 4, False)


async def test_metrics_are_told_to_whoever_may_read(api: Api):
    """In Prometheus's format; without a token from elsewhere they are not."""
    await measured(api)
    page = await api.http().get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "edow_incidents_open 0.0" in page.text
    assert (await api.http(ELSEWHERE).get("/metrics")).status_code == 401
    assert (await api.http(ELSEWHERE, await api.token("read")).get("/metrics")).status_code == 200
