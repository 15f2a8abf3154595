"""An example of the body of every request that has one, by the operation's id. A test compares them with the types."""

from __future__ import annotations

EXAMPLES: dict[str, dict[str, object]] = {
    "start_execution": {"workflow": "fulfil", "input": {"order": 7}, "id": "order-7"},
    "start_executions": {
        "workflow": "fulfil",
        "executions": [{"id": "order-7", "input": {"order": 7}}, {"id": "order-8", "input": {"order": 8}}],
    },
    "signal_execution": {"name": "approved", "value": True},
    "cancel_execution": {"reason": "ordered twice"},
    "terminate_execution": {"reason": "ordered twice"},
    "pause_execution": {"reason": "looking into the amounts"},
    "redrive_dead_letters": {"which": {"ids": ["order-7/1/charge"]}, "args": {"amount": 12}},
    "discard_dead_letters": {"which": {"ids": ["order-7/1/charge"]}, "reason": "paid in cash"},
    "set_dead_letters_aside": {"which": {"group": "5f3a"}, "reason": "waits for the new prices"},
    "bring_dead_letters_back": {"which": {"group": "5f3a"}},
    "try_redrive": {"which": {"task": "charge"}, "change": {"currency": "EUR"}},
    "start_redrive": {"which": {"task": "charge"}, "stages": [1, 10], "rate": 10, "stop_above": 0.2},
    "stop_redrive": {"reason": "they fail again"},
    "create_hook": {
        "name": "payments",
        "scheme": "stripe",
        "secrets": ["whsec_an_example"],
        "workflow": "fulfil",
        "input": "{order: body.data.id}",
    },
    "rotate_hook": {},
    "create_schedule": {
        "name": "nightly",
        "schedule": {"workflow": "report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    },
    "update_schedule": {"workflow": "report", "every": "15m"},
    "pause_schedule": {"note": "while the warehouse is moved"},
    "trigger_schedule": {"overlap": "allow_all"},
    "backfill_schedule": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"},
    "preview_job": {"workflow": "fulfil", "started_after": "2026-01-01T00:00:00Z"},
    "start_job": {"action": "pause", "match": {"workflow": "fulfil"}, "reason": "wrong prices", "at_most": 500},
    "stop_job": {"reason": "enough"},
    "create_slo": {"name": "quick", "workflow": "fulfil", "target": 0.99, "within": "5m"},
    "set_prices": {"worker_hour": 0.05, "million_messages": 0.4, "currency": "EUR"},
    "set_thresholds": {"oldest_seconds": 300, "waiting": 100_000, "dead_letter_share": 0.1},
    "create_token": {"name": "ci", "role": "operate", "expires_in": "90d"},
    "create_trigger": {"name": "orders", "topic": "orders", "workflow": "fulfil", "input": "{order: body.id}"},
    "rotate_endpoint": {"keep": "2d"},
    "create_endpoint": {"name": "shop", "url": "https://shop.example/edow", "workflows": ["fulfil"]},
}
