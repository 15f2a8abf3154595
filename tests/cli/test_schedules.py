"""`edow schedule`, as it is typed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from edow.app import connect_store
from edow.store.contract import Put
from edow.trigger.schedules.book import at_key
from tests.cli.conftest import Run

DAILY = ("--cron", "30 12 * * *", "--timezone", "Europe/Berlin")


def created(run: Run, name: str, *options: str) -> dict[str, object]:
    """A schedule, as --json tells of it."""
    done = run("schedule", "create", name, "fulfil", *options, "--json")
    assert done.code == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


def test_create_and_show(run: Run) -> None:
    """What was given is what is shown, with the next ticks in the schedule's own zone."""
    made = created(run, "nightly", *DAILY, "-i", '{"order": {"number": 7}}', "--jitter", "10m", "--runs", "3")
    assert made["state"] == "active"
    assert made["runs_left"] == 3
    assert made["schedule"]["jitter"] == 600.0  # type: ignore[index]
    assert len(made["next"]) == 3  # type: ignore[arg-type]
    shown = run("schedule", "show", "nightly", "--next", "2").out
    assert shown.count("12:30:00 CE") == 2
    assert "30 12 * * *  (Europe/Berlin)" in shown
    assert "up to 10 min" in shown
    assert "12:30:00 CE" not in run("schedule", "show", "nightly", "--utc").out
    assert "nightly  fulfil    30 12 * * *  Europe/Berlin  active" in run("schedule", "list").out


def test_pause_resume_delete(run: Run) -> None:
    """Each says what it did; a paused schedule has no next tick."""
    created(run, "often", "--every", "90s", "--paused", "--note", "not yet")
    assert "not yet" in run("schedule", "show", "often").out
    assert run("schedule", "resume", "often").out.startswith("resumed often; next at ")
    assert run("schedule", "resume", "often").code == 1
    assert run("schedule", "pause", "often").out == "paused often\n"
    assert json.loads(run("schedule", "list", "--json").out)[0]["next"] == []
    assert run("schedule", "delete", "often").out == "deleted often\n"
    assert json.loads(run("schedule", "list", "--json").out) == []
    assert "there are no schedules" in run("schedule", "list").err


def test_update_keeps_the_rest(run: Run) -> None:
    """Only what is given changes; a cron replaces an interval and the other way round; a limit can be dropped."""
    made = created(
        run, "often", "--every", "90s", "--anchor", "2026-01-01T00:00", "--end", "2300-01-01", "--overlap", "allow_all"
    )
    changed = json.loads(run("schedule", "update", "often", "--cron", "@hourly", "--drop", "end", "--json").out)
    schedule = changed["schedule"]
    assert [schedule[each] for each in ("cron", "every", "anchor", "end")] == ["@hourly", None, None, None]
    assert (schedule["workflow"], schedule["overlap"]) == ("fulfil", "allow_all")
    assert changed["version"] > made["version"]
    changed = json.loads(run("schedule", "update", "often", "--every", "1h", "-w", "other", "--json").out)
    assert changed["schedule"] == schedule | {"workflow": "other", "every": 3600.0, "cron": None}
    assert "written by somebody else" in run("schedule", "update", "often", "--every", "2h", "--if-version", "7").err


def test_trigger_and_overlap(run: Run) -> None:
    """Prints the execution's id; while that runs, says what becomes of another."""
    created(run, "nightly", *DAILY)
    execution = run("schedule", "trigger", "nightly").out.strip()
    assert execution.startswith("nightly@20")
    assert json.loads(run("list", "-a", "schedule=nightly", "--json").out)[0]["id"] == execution
    assert "skipped: an execution of nightly still goes on" in run("schedule", "trigger", "nightly").err
    again = json.loads(run("schedule", "trigger", "nightly", "--overlap", "allow_all", "--json").out)
    assert again["became"] == "started"
    assert again["execution"] != execution


def test_backfill(run: Run) -> None:
    """Days without an offset are those of the schedule's zone."""
    created(run, "nightly", *DAILY)
    done = run("schedule", "backfill", "nightly", "--from", "2026-03-28", "--to", "2026-03-30")
    assert done.out == "backfilling 2 ticks of nightly\n"
    [pending] = json.loads(run("schedule", "show", "nightly", "--json").out)["backfills"]
    assert pending["until"] == "2026-03-29T22:00:00Z", "midnight of Berlin's summer"
    refused = run("schedule", "backfill", "nightly", "--from", "2020-01-01", "--to", "2026-01-01", "--limit", "10")
    assert "more than 10 ticks" in refused.err


def test_the_code_is_checked_when_given(run: Run, shop: str) -> None:
    """With --module an unknown workflow and an input that does not fit are refused at once."""
    created(run, "good", *DAILY, "-m", shop, "-i", '{"order": {"number": 7, "item": "{{scheduled_date}}"}}')
    wrong = run(
        "schedule", "create", "bad", "fulfil", *DAILY, "-m", shop, "-i", '{"order": {"number": "{{schedule}}"}}'
    )
    assert "number" in wrong.err
    assert "no workflow 'nobody'" in run("schedule", "create", "bad", "nobody", *DAILY, "-m", shop).err
    assert run("schedule", "show", "bad").code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cron", "* * * *"], "4 fields"),
        (["--cron", "@daily", "--every", "1h"], "either a cron"),
        ([], "either a cron"),
        (["--every", "10ms"], "at least 1s"),
        (["--every", "often"], "not a duration"),
        (["--cron", "@daily", "--timezone", "Mars"], "time zone 'Mars' is unknown"),
        (["--cron", "@daily", "--overlap", "maybe"], "overlap 'maybe' is unknown"),
        (["--cron", "@daily", "--start", "soon"], "'soon' is no time"),
        (["--cron", "@daily", "--end", "2020-01-01"], "would never fire"),
        (["--cron", "@daily", "--runs", "0"], "not between 1"),
        (["--cron", "@daily", "--anchor", "2026-01-01"], "anchor is for intervals"),
        (["--cron", "@daily", "--jitter", "2d"], "the longest is 1d"),
        (["--cron", "@daily", "-i", "[7]"], "JSON object"),
        (["--cron", "@daily", "-i", '{"day": "{{today}}"}'], "no placeholder"),
    ],
)
def test_what_is_wrong_is_named(run: Run, options: list[str], said: str) -> None:
    """One line that says what, and exit code 1; nothing is made."""
    done = run("schedule", "create", "s", "fulfil", *options)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


def test_names(run: Run) -> None:
    """A name is refused that cannot stand before a tick's time; one that is taken or unknown is told of."""
    assert "contains '@'" in run("schedule", "create", "a@b", "fulfil", *DAILY).err
    assert "contains '/'" in run("schedule", "create", "a/b", "fulfil", *DAILY).err
    created(run, "nightly", *DAILY)
    assert "exists already" in run("schedule", "create", "nightly", "fulfil", *DAILY).err
    assert "did you mean 'nightly'?" in run("schedule", "show", "nighty").err


def test_the_doctor_tells_of_late_schedules(run: Run, place: Path) -> None:
    """One that nobody acts on is a failure with a remedy."""
    created(run, "nightly", *DAILY)
    assert "none is late" in run("doctor").out

    async def date_back() -> None:
        store = connect_store(f"sqlite:///{place / 'edow.db'}")
        await store.open()
        await store.records_put([Put("tick", at_key(1_000_000, "nightly"), b"{}")], 1)
        await store.close()

    asyncio.run(date_back())
    done = run("doctor")
    assert done.code == 1
    assert "one has been due for" in done.out
