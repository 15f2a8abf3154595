"""Cost, computed by hand."""

import pytest

from edow.kpi.cost import Prices, cost_of, envelope
from edow.kpi.figures import Figures, Lag, Traffic
from edow.kpi.meter import Meter
from edow.kpi.summary import summary
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.model.message import Message

PRICES = Prices(worker_hour=0.36, million_messages=2.0, gigabyte=10.0, currency="EUR")


def figures() -> Figures:
    """Two executions completed with four attempts, of which one failed: 36 s of work, 8 messages, 8,000 bytes."""
    meter = Meter()
    attempt = Attempted("pay", "completed", 1, 2, 9_000_000, 300)
    again = Attempted("pay", "retried", 1, 2, 9_000_000, 300)
    meter.attempts([("order", [attempt, attempt, attempt, again])], 3)
    ended = Execution(id="1", workflow="order", shard=0, status=Status.COMPLETED, started_at=1, ended_at=5)
    meter.executions(["order", "order"], [ended, ended])
    meter.sent([Message("edow.tasks.default", b"x" * 1000)] * 4)
    meter.received("edow.results.*", 4, 4000)
    return meter.take()


def test_cost_of_a_completed_execution():
    """All attempts, failed ones too, shared by what was completed: 18 s at 0.36 an hour, 4 messages, 4,000 bytes."""
    (order,) = summary(figures(), 60.0, PRICES).workflows
    cost = order.cost_per_completed
    assert cost is not None
    assert (cost.worker_seconds, cost.messages, cost.bytes) == (18.0, 4.0, 4000.0)
    assert cost.money == pytest.approx(18 * 0.36 / 3600 + 4 * 2 / 1e6 + 4000 * 10 / 1e9)


def test_cost_of_a_task_in_a_completed_execution():
    """With the only task it is all of it; its rates are shares of the attempts."""
    found = summary(figures(), 60.0, PRICES)
    assert found.tasks[0].cost_per_completed == found.workflows[0].cost_per_completed
    assert (found.tasks[0].retry_rate, found.tasks[0].failure_rate) == (0.25, 0.0)


def test_bytes_of_a_consumer_group_are_those_of_its_topics_messages():
    """Four messages of 1,000 bytes were sent, four of 1,000 received: so many a second, so many bytes."""
    measured = figures()
    measured.lag = {name: Lag(name, "group") for name in ("edow.tasks.default", "edow.results.3", "elsewhere")}
    rates = dict.fromkeys(measured.lag, (2.0, 1.0))
    told = {
        each.topic: (each.in_bytes_per_second, each.out_bytes_per_second)
        for each in summary(measured, 9.0, None, rates).lag
    }
    assert told == {
        "edow.tasks.default": (2000.0, 1000.0),
        "edow.results.3": (2000.0, 1000.0),
        "elsewhere": (None, None),
    }


def test_envelopes_are_shared_evenly():
    """8,000 bytes were sent, 1,200 of them payload: 850 for each message."""
    found = figures()
    assert envelope(found) == 850
    found.received["payments"] = Traffic(1, 9000)  # what a trigger reads is no part of it
    assert envelope(found) == 850
    assert cost_of(found.workflows["order"].tasks["pay"], 850, None).bytes == 8000


def test_without_prices_there_is_no_money():
    """Seconds, messages and bytes are told all the same; nothing completed has no cost of one."""
    (order,) = summary(figures(), 60.0).workflows
    assert order.cost.money is None
    meter = Meter()
    meter.executions(["order"], [])
    (order,) = summary(meter.take(), 60.0, PRICES).workflows
    assert order.cost_per_completed is None
