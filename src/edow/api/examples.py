"""An example of the body of every request that has one, by the operation's id. A test compares them with the types."""

from __future__ import annotations

EXAMPLES: dict[str, dict[str, object]] = {
    "executions_start": {"workflow": "fulfil", "input": {"order": 7}, "id": "order-7"},
    "executions_start_many": {
        "workflow": "fulfil",
        "executions": [{"id": "order-7", "input": {"order": 7}}, {"id": "order-8", "input": {"order": 8}}],
    },
    "executions_signal": {"name": "approved", "value": True},
    "executions_cancel": {"reason": "ordered twice"},
    "executions_terminate": {"reason": "ordered twice"},
    "executions_pause": {"reason": "looking into the amounts"},
    "dead_letters_redrive": {"which": {"ids": ["order-7/1/charge"]}, "args": {"amount": 12}},
    "dead_letters_discard": {"which": {"ids": ["order-7/1/charge"]}, "reason": "paid in cash"},
    "desk_set_aside": {"which": {"group": "5f3a"}, "reason": "waits for the new prices"},
    "desk_bring_back": {"which": {"group": "5f3a"}},
    "desk_dry_run": {"which": {"task": "charge"}, "change": {"currency": "EUR"}},
    "desk_begin": {"which": {"task": "charge"}, "stages": [1, 10], "rate": 10, "stop_above": 0.2},
    "desk_stop_redrive": {"reason": "they fail again"},
    "hooks_create_hook": {
        "name": "payments",
        "scheme": "stripe",
        "secrets": ["whsec_an_example"],
        "workflow": "fulfil",
        "input": "{order: body.data.id}",
    },
    "hooks_rotate_hook": {},
    "schedules_create": {
        "name": "nightly",
        "schedule": {"workflow": "report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    },
    "schedules_update": {"workflow": "report", "every": "15m"},
    "schedules_pause": {"note": "while the warehouse is moved"},
    "schedules_trigger": {"overlap": "allow_all"},
    "schedules_backfill": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"},
    "jobs_preview": {"workflow": "fulfil", "started_after": "2026-01-01T00:00:00Z"},
    "jobs_start": {"action": "pause", "match": {"workflow": "fulfil"}, "reason": "wrong prices", "at_most": 500},
    "jobs_stop": {"reason": "enough"},
    "kpis_create_slo": {"name": "quick", "workflow": "fulfil", "target": 0.99, "within": "5m"},
    "kpis_set_prices": {"worker_hour": 0.05, "million_messages": 0.4, "currency": "EUR"},
    "tokens_create": {"name": "ci", "role": "operate", "expires_in": "90d"},
    "triggers_create_trigger": {"name": "orders", "topic": "orders", "workflow": "fulfil", "input": "{order: body.id}"},
    "endpoints_create_endpoint": {"name": "shop", "url": "https://shop.example/edow", "workflows": ["fulfil"]},
}
