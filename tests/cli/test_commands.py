"""The commands on a real store: what they print, and what they do with bad input."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from functools import partial

import msgspec
import pytest

import edow
from edow.app import System
from edow.cli import main
from edow.cli.binding import load_target
from edow.kpi.waiting import Unanswered
from edow.model.execution import Status
from edow.transport.sqlite.transport import SqliteTransport

URL = "sqlite:///edow.db"


@pytest.fixture
def store(run):
    """A store with one accepted execution, which nobody runs."""
    run("start", "fulfil", "--input", '{"order": {"number": 7}}', "--id", "order-7")
    return URL


# run


def test_run_prints_the_result(run, shop):
    """`edow run` runs everything in this process: result as JSON on stdout, code 0, and only that."""
    result = run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 7}}')
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {"receipt": "paid 7", "gift": False}


def test_run_again_attaches(run, shop, place):
    """The same id again gives the same result without doing it again."""
    words = ("run", f"{shop}:fulfil", "--id", "one", "--store", f"sqlite:///{place}/other.db")
    first = run(*words, "--input", '{"number": 1}')
    second = run(*words, "--input", '{"number": 2}')
    assert first.out == second.out
    assert not (place / "edow.db").exists()


def test_run_of_a_failing_workflow(run, shop):
    """A workflow that fails: its error on stderr, code 1, nothing on stdout."""
    result = run("run", f"{shop}:failing")
    assert (result.code, result.out) == (1, "")
    assert "LookupError: nothing there" in result.err


def test_run_tells_what_it_is_parked_on(run, shop):
    """A parked execution does not hang `edow run`: it names the dead letter; redriven, the same id goes on."""
    result = run("run", f"{shop}:unlucky", "--input", "5", "--id", "u")
    assert (result.code, result.out) == (1, "")
    assert "u/1/charge" in result.err

    shown = json.loads(run("dlq", "list", "--json").out)
    assert [(each["id"], each["attempts"]) for each in shown] == [("u/1/charge", 2)]
    assert "unlucky amount" in run("dlq", "show", "u/1/charge").out

    refused = run("dlq", "redrive", "u/1/charge", "--set", 'amount="x"', "--module", shop)
    assert (refused.code, refused.out) == (1, "")
    assert "charge" in refused.err
    assert run("dlq", "redrive", "u/1/charge", "--set", "amount=1", "--module", shop).out == "redriven 1 dead letter\n"
    assert json.loads(run("run", f"{shop}:unlucky", "--input", "5", "--id", "u").out) == "paid 5"
    assert json.loads(run("dlq", "list", "--json").out) == []
    assert "--state raised" in run("dlq", "list").err
    assert "--state" not in run("dlq", "list", "--state", "raised").err


def test_the_desk_groups_sets_aside_and_redrives_in_stages(run, shop):
    """What the reference says of groups, the parking lot, dry runs and stages; a redrive waits for an orchestrator."""
    for name in ("u", "v"):
        run("run", f"{shop}:unlucky", "--input", "5", "--id", name)
    [group] = json.loads(run("dlq", "groups", "--json").out)
    assert (group["count"], group["newest"]["task"]) == (2, "charge")
    name = group["fingerprint"]
    assert name in run("dlq", "groups").out
    assert run("dlq", "set-aside", "u/1/charge", "--reason", "asked").out == "set aside 1 dead letter\n"
    assert [each["id"] for each in json.loads(run("dlq", "list", "--json").out)] == ["v/1/charge"]
    assert [each["lot"] for each in json.loads(run("dlq", "list", "--aside", "--json").out)] == ["asked"]
    assert json.loads(run("dlq", "bring-back", "--group", name, "--json").out) == {"brought_back": 1}

    words = ("dlq", "redrive", "--group", name, "--set", "amount=1", "--module", shop)
    tried = json.loads(run(*words, "--dry-run", "--json").out)
    assert (tried["letters"], tried["unfit"], tried["trials"][0]["args"]) == (2, 0, {"number": 5, "amount": 1})
    begun = json.loads(run(*words, "--stages", "1,5", "--json").out)
    assert (begun["stages"], begun["state"], begun["fingerprint"]) == ([1, 5], "running", name)
    assert begun["id"] in run("dlq", "redrives").out
    assert "somebody" in run("dlq", "stop", begun["id"], "--reason", "somebody said so", "--json").out


def test_what_one_command_does_not_reach_is_told(run, shop, monkeypatch):
    """Of the dead letters that match, how many are left for the next one."""
    monkeypatch.setattr("edow.cli.dead_letters.LIMIT", 1)
    monkeypatch.setattr("edow.cli.desk.LIMIT", 1)
    for name in ("u", "v", "w"):
        run("run", f"{shop}:unlucky", "--input", "5", "--id", name)
    [group] = json.loads(run("dlq", "groups", "--json").out)
    first = run("dlq", "set-aside", "--group", group["fingerprint"], "--reason", "later")
    assert first.out == "set aside 1 dead letter\n"
    assert "2 more match than one command acts on" in first.err
    last = run("dlq", "redrive", "--all", "--json")
    assert (json.loads(last.out), last.err) == ({"redriven": 1, "left": 1}, "")


def test_discard_answers_with_an_error(run, shop):
    """A discarded dead letter fails its step, and so the workflow."""
    run("run", f"{shop}:unlucky", "--input", "5", "--id", "u")
    assert json.loads(run("dlq", "discard", "--all", "--reason", "not ours", "--json").out) == {"discarded": 1}
    result = run("run", f"{shop}:unlucky", "--input", "5", "--id", "u")
    assert (result.code, result.out) == (1, "")
    assert "not ours" in result.err


def test_show_tells_the_story(run, shop):
    """`edow show` has the facts and a line per step; --json has the same for scripts, --history the events."""
    done = run("run", f"{shop}:fulfil", "--input", '{"number": 7, "item": "pen"}', "--id", "order-7")
    assert done.code == 0
    out = run("show", "order-7").out
    for said in ("order-7", "completed", "charge", "done", '{"item":"pen"}', '{"receipt":"paid 7","gift":false}'):
        assert said in out
    shown = json.loads(run("show", "order-7", "--json").out)
    assert shown["execution"]["id"] == "order-7"
    assert [line["name"] for line in shown["timeline"]] == ["started", "charge", "completed"]
    events = json.loads(run("show", "order-7", "--history", "--json").out)
    assert [event["type"] for event in events][:2] == ["started", "attributes_set"]
    assert "task_completed" in run("show", "order-7", "--history").out


def test_show_tells_of_an_earlier_run(run, shop):
    """With --run the facts are that run's too: its own input and outcome, not those of the current one."""
    fulfil = ("start", "fulfil", "--id", "o", "--if-exists", "replace", "--input")
    run("run", f"{shop}:fulfil", "--input", '{"number": 1, "item": "pen"}', "--id", "o")
    run(*fulfil, '{"order": {"number": 2}}')
    run(*fulfil, '{"order": {"number": 3}}')

    def shown(number):
        return json.loads(run("show", "o", "--run", number, "--json").out)["execution"]

    first, second = shown("1"), shown("2")
    assert (first["run"], first["status"], first["input"]["order"]["number"]) == (1, "completed", 1)
    assert (first["result"], first["attributes"]) == ({"receipt": "paid 1", "gift": False}, {"item": "pen"})
    assert (second["run"], second["status"], second["input"]["order"]["number"]) == (2, "terminated", 2)
    assert "replaced by run 3" in second["failure"]["message"]
    assert (shown("3")["status"], shown("3")["input"]["order"]["number"]) == ("running", 3)
    out = run("show", "o", "--run", "1").out
    assert "(run 1 of 3)" in out
    assert '"number":1' in out


def test_resume_names_replay_where_the_code_did_not_fit(run, shop, place):
    """Resuming alone does not make it fit: the hint says how to find out beforehand."""
    run("start", "fulfil", "--input", '{"order": {"number": 7}}', "--id", "o")
    asyncio.run(advance_without_workers(shop, "o"))
    changed = (place / shop).read_text().replace("charge(order.number)", "charge.with_options(step='bill')(1)")
    (place / f"changed_{shop}").write_text(changed)
    refused = run("run", f"changed_{shop}:fulfil", "--input", '{"number": 7}', "--id", "o")
    assert (refused.code, refused.out) == (1, "")
    assert "execution o is parked" in refused.err
    result = run("resume", "o")
    assert (result.code, result.out) == (0, "resumption accepted for o\n")
    assert "`edow replay o --module MODULE`" in result.err


async def advance_without_workers(shop, name):
    """Until the execution waits for a task."""
    registry, _ = load_target(f"{shop}:fulfil")
    async with System(URL, None, registry) as system, edow.Client(store=system.store) as client:
        orchestrator = system.orchestrator()
        await orchestrator.start()
        async with asyncio.timeout(30):
            while len(await client.history(name)) == 1:  # noqa: ASYNC110  # written by another loop
                await asyncio.sleep(0.01)
        await orchestrator.stop()


def test_replay_compares_code_and_history(run, shop, place):
    """Today's code fits: code 0. Changed so that it does not: code 1, naming the step."""
    run("run", f"{shop}:fulfil", "--input", '{"number": 7}', "--id", "order-7")
    assert run("replay", "order-7", "--module", shop).code == 0
    changed = (
        (place / shop).read_text().replace("await charge(order.number)", "await charge.with_options(step='bill')(1)")
    )
    (place / "changed.py").write_text(changed)
    result = run("replay", "order-7", "--module", "changed.py")
    assert (result.code, result.out) == (1, "")
    assert "charge" in result.err
    assert "bill" in result.err
    assert json.loads(run("replay", "order-7", "--module", "changed.py", "--json").out)["fits"] is False


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.py:main", "nowhere.py"),
        ("no.such.module:main", "no.such.module"),
        ("{shop}:nobody", "it has failing, fulfil, patient, unlucky"),
        ("{shop}", "4 workflows"),
        (":fulfil", "names no workflow"),
        ("broken.py:main", "ZeroDivisionError"),
        ("syntax.py:main", "SyntaxError"),
        ("empty.py:main", "empty.py"),
        ("exits.py:main", "exits.py"),
        (".:main", "'.'"),
    ],
)
def test_bad_targets_are_explained(run, shop, place, target, said):
    """A missing file, module or workflow, or one that fails on import: one error line, code 1, no store made."""
    (place / "broken.py").write_text("1 / 0")
    (place / "syntax.py").write_text("def")
    (place / "empty.py").write_text("")
    (place / "exits.py").write_text("import sys; sys.exit(0)")
    result = run("run", target.format(shop=shop))
    assert (result.code, result.out) == (1, "")
    assert said in result.err
    assert "Traceback" not in result.err
    assert not (place / "edow.db").exists()


@pytest.mark.parametrize(
    "given", ["{", "@nowhere.json", '{"order": {"number": "x"}}', '{"unknown": 1}', "[1, 2, 3]", '"text"']
)
def test_bad_input_of_run(run, shop, place, given):
    """Input that is no JSON or does not fit the workflow: code 1, nothing on stdout, nothing stored."""
    result = run("run", f"{shop}:fulfil", "--input", given)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert not (place / "edow.db").exists()


# start, and acting on it


def test_start_accepts_and_list_shows(run):
    """`edow start` prints the id of what is on disk from then on; `edow list` shows it."""
    name = run("start", "fulfil", "--input", '{"order": {"number": 7}}').out.strip()
    assert name.startswith("fulfil-")
    [row] = json.loads(run("list", "--json").out)
    assert (row["id"], row["workflow"], row["input"]) == (name, "fulfil", {"order": {"number": 7}})
    assert name in run("list").out


def test_list_tells_no_number_of_events(run, store):
    """It is written down only at times, so a running execution's would be wrong; `edow show` has counted them."""
    assert "events" not in run("list").out
    assert "events" not in json.loads(run("list", "--json").out)[0]
    assert json.loads(run("show", "order-7", "--json").out)["execution"]["events"] == 1


def test_start_for_scripts(run, store):
    """--json gives id and run; --if-exists decides what a taken id means."""
    again = ("start", "fulfil", "--id", "order-7", "--json", "--if-exists")
    assert json.loads(run(*again, "attach").out) == {"id": "order-7", "run": 1}
    assert json.loads(run(*again, "replace").out) == {"id": "order-7", "run": 2}
    refused = run(*again, "reject")
    assert (refused.code, refused.out) == (1, "")
    assert "order-7" in refused.err


def test_start_can_wait_and_give_up_waiting(run, store):
    """--wait with --timeout ends with an error when there is no result in time; the execution stays."""
    result = run("start", "fulfil", "--id", "order-7", "--wait", "--timeout", "0.05")
    assert (result.code, result.out) == (1, "")
    assert "error: execution 'order-7' has not ended within 0.05 s" in result.err
    assert "hint: it goes on: wait longer, or look at it with `edow show order-7`" in result.err
    assert json.loads(run("list", "--json").out)[0]["status"] == "running"


def test_list_filters(run, store):
    """Filters are joined; what does not match is not shown."""
    run("start", "other", "--id", "other-1")

    def ids(*words):
        return [row["id"] for row in json.loads(run("list", "--json", *words).out)]

    assert ids() == ["other-1", "order-7"]
    assert ids("--workflow", "fulfil") == ["order-7"]
    assert ids("--prefix", "other") == ["other-1"]
    assert ids("--status", "running", "--status", "parked") == ["other-1", "order-7"]
    assert ids("--status", "failed") == []
    assert ids("--since", "1h") == ["other-1", "order-7"]
    assert ids("--limit", "1") == ["other-1"]
    assert "more than 1" in run("list", "--limit", "1").err
    assert run("list", "--status", "failed").out == ""


def test_list_finds_attributes(run, shop):
    """Executions are found by the attributes that their workflow set."""
    run("run", f"{shop}:fulfil", "--input", '{"number": 7, "item": "pen"}', "--id", "order-7")
    assert [row["id"] for row in json.loads(run("list", "-a", "item=pen", "--json").out)] == ["order-7"]
    assert json.loads(run("list", "-a", "item=book", "--json").out) == []


def test_signals_are_kept_until_waited_for(run, shop):
    """A signal sent before anybody runs the execution reaches it."""
    run("start", "patient", "--id", "p")
    assert run("signal", "p", "go", '"now"').out == "signal 'go' accepted for p\n"
    assert json.loads(run("run", f"{shop}:patient", "--id", "p").out) == "now"


def test_cancel_and_terminate(run, shop):
    """A cancelled and a terminated execution end as such, with the reason."""
    for name, verb, status in (("c", "cancel", Status.CANCELLED), ("t", "terminate", Status.TERMINATED)):
        run("start", "patient", "--id", name)
        assert json.loads(run(verb, name, "--reason", "too late", "--json").out) == {"id": name, "accepted": True}
        result = run("run", f"{shop}:patient", "--id", name)
        assert (result.code, result.out) == (1, "")
        assert "too late" in result.err
        assert json.loads(run("show", name, "--json").out)["execution"]["status"] == status


# bad input


@pytest.mark.parametrize(
    "words",
    [
        ["show", "nobody"],
        ["signal", "nobody", "go"],
        ["cancel", "nobody"],
        ["terminate", "nobody"],
        ["resume", "nobody"],
        ["resume", "order-7"],
        ["show", "order-7", "--run", "9"],
        ["show", "a/b"],
        ["show", ""],
        ["signal", "order-7", "go", "{"],
        ["signal", "order-7", "go", "@nowhere"],
        ["start", "fulfil", "--input", "[1]"],
        ["start", "fulfil", "--input", "{"],
        ["start", "fulfil", "--input", "@."],
        ["start", "", "--id", "x"],
        ["start", "fulfil", "--id", "a/b"],
        ["start", "fulfil", "--id", "x" * 201],
        ["start", "fulfil", "--if-exists", "overwrite"],
        ["list", "--status", "sleeping"],
        ["list", "--since", "yesterday"],
        ["list", "--attribute", "item"],
        ["list", "--attribute", "item=[1]"],
        ["dlq", "list", "--state", "dead"],
        ["dlq", "show", "nobody/1/x"],
        ["dlq", "redrive"],
        ["dlq", "redrive", "a/1/b", "--all"],
        ["dlq", "redrive", "--all", "--task", "x"],
        ["dlq", "redrive", "nobody/1/x"],
        ["dlq", "redrive", "--all", "--input", "[1]"],
        ["dlq", "redrive", "--all", "--input", "{}", "--set", "a=1"],
        ["dlq", "redrive", "--all", "--set", "a"],
        ["dlq", "redrive", "--all", "--set", "a={"],
        ["dlq", "redrive", "--all", "--module", "nowhere.py"],
        ["dlq", "discard"],
        ["dlq", "discard", "--all"],
        ["dlq", "discard", "nobody/1/x", "--reason", "x"],
        ["dlq", "set-aside", "--reason", "x"],
        ["dlq", "set-aside", "nobody/1/x", "--reason", "x"],
        ["dlq", "bring-back", "a/1/b", "--group", "x"],
        ["dlq", "redrive", "--group", "x", "--stages", "one"],
        ["dlq", "redrive", "--group", "x", "--stages", "1,10"],
        ["dlq", "redrive", "--all", "--stages", "1"],
        ["dlq", "redrive", "--group", "x", "--input", "{}", "--dry-run"],
        ["dlq", "stop", "nobody"],
        ["replay", "nobody", "--module", "empty.py"],
        ["replay", "order-7", "--module", "nowhere.py"],
        ["worker", "nowhere.py"],
        ["orchestrator", "no.such.module"],
    ],
)
def test_bad_input_is_one_error_line(run, store, place, words):
    """Whatever is wrong: an error line, perhaps a hint, code 1, nothing on stdout, and nothing lost."""
    (place / "empty.py").write_text("import edow\n@edow.workflow\nasync def w() -> None: ...\n")
    before = run("show", "order-7", "--json").out
    result = run(*words)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert run("show", "order-7", "--json").out == before


def test_an_over_long_payload_is_refused(run, store, place):
    """Over 2 MiB: an error that says the limit, and nothing is stored."""
    (place / "big.json").write_text(json.dumps({"order": "x" * 3_000_000}))
    for words in (["start", "fulfil", "--input", "@big.json"], ["signal", "order-7", "go", "@big.json"]):
        result = run(*words)
        assert (result.code, result.out) == (1, "")
        assert "limit" in result.err
    assert len(json.loads(run("list", "--json").out)) == 1


def unusable(place, kind):
    path = place / "bad.db"
    match kind:
        case "newer":
            main(["start", "fulfil", "--id", "old", "--store", f"sqlite:///{path}"])
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE edow_schema SET version = 9999")
        case "other":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE recipes (name)")
        case "text":
            path.write_text("this is not a database, just some text that is long enough to be looked at " * 10)
        case "directory":
            path.mkdir()
        case "scheme":
            return "mysql://localhost/edow"
        case "empty":
            return "sqlite:///"
        case "folder":
            return f"sqlite:///{place}/no/such/folder/edow.db"
    return f"sqlite:///{path}"


@pytest.mark.parametrize("kind", ["newer", "other", "text", "directory", "scheme", "empty", "folder"])
@pytest.mark.parametrize(
    "words", [["list"], ["start", "fulfil"], ["run", "SHOP:failing"], ["doctor"], ["worker", "SHOP"]]
)
def test_an_unusable_store_is_explained(run, shop, place, capsys, kind, words):
    """A newer schema, no database, a directory, an unknown scheme, a missing folder: an error, and code 1."""
    url = unusable(place, kind)
    capsys.readouterr()
    result = run(*[word.replace("SHOP", shop) for word in words], "--store", url)
    assert result.code == 1
    assert "Traceback" not in result.err
    if words != ["doctor"]:
        assert result.out == ""
        assert "error: " in result.err


def test_looking_makes_no_store(run, place):
    """A command that only looks says that there is no store, and leaves no empty one behind."""
    for words in (["list"], ["show", "x"], ["dlq", "list"], ["doctor"], ["cancel", "x"]):
        result = run(*words)
        assert (result.code, result.out) == (1, "")
        assert "there is no store" in result.err
    assert list(place.iterdir()) == []


def test_the_store_may_come_from_the_environment(run, place, monkeypatch):
    """EDOW_STORE names the store, --store goes before it."""
    monkeypatch.setenv("EDOW_STORE", f"sqlite:///{place}/env.db")
    run("start", "fulfil")
    assert [path.name for path in place.glob("*.db")] == ["env.db"]
    assert run("list", "--store", URL).code == 1


# stats


def test_stats_show_what_waits_in_each_topic(run, shop):
    """One line for each topic and group, with lag, rates and the oldest age; JSON for scripts."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    found = {each["topic"]: each for each in json.loads(run("stats", "--seconds", "0.1", "--json").out)["topics"]}
    tasks = found["edow.tasks.default"]
    assert (tasks["group"], tasks["waiting"], tasks["in_flight"], tasks["in_per_second"]) == ("workers", 0, 0, 0)
    assert {"edow.results.0", "edow.dead"} < found.keys()
    assert "edow.tasks.default" in run("stats", "--seconds", "0").out


@pytest.mark.parametrize("told", ["about", "nothing"])
def test_what_a_broker_does_not_tell_is_said_and_no_warning(run, shop, monkeypatch, told):
    """`stats` says so, and shows which tasks are not answered; `doctor` finds nothing wrong with it."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    features = SqliteTransport.features.fget
    inexact = partial(msgspec.structs.replace, lag=False, waiting=told == "about")
    monkeypatch.setattr(SqliteTransport, "features", property(lambda self: inexact(features(self))))
    monkeypatch.setattr(
        "edow.cli.stats.unanswered", lambda said, now: [Unanswered("edow.tasks.default", 7, now - 3_000_000)]
    )
    shown = run("stats", "--seconds", "0")
    assert {"about": "sqlite tells about how many", "nothing": "sqlite does not tell what waits"}[told] in shown.err
    assert "oldest that nobody is at" in shown.out
    found = json.loads(run("stats", "--seconds", "0", "--json").out)
    assert (found["transport"], found["told"], found["topics"] is None) == ("sqlite", told, told == "nothing")
    assert (found["tasks"][0]["unanswered"], found["tasks"][0]["oldest_seconds"]) == (7, 3.0)
    lines = [
        each for each in json.loads(run("doctor", "--json").out)["findings"] if each["what"] in ("workers", "tasks")
    ]
    assert {each["level"] for each in lines} == {"ok"}


def test_stats_show_what_was_measured(run, shop):
    """Executions, the stages of their tasks, traffic and cost of the last minutes, also as JSON."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    kpis = json.loads(run("stats", "--seconds", "0", "--json").out)["kpis"]
    [workflow] = kpis["workflows"]
    assert (workflow["workflow"], workflow["completed"], workflow["success_rate"]) == ("fulfil", 1, 1.0)
    assert workflow["took"]["count"] == 1
    assert all(task["run"]["p99"] is not None for task in kpis["tasks"])
    assert workflow["cost_per_completed"]["messages"] == 2 * sum(task["attempts"] for task in kpis["tasks"])
    assert "queue p50" in run("stats", "--seconds", "0").out
    assert run("stats", "--window", "soon").code == 1


def test_objectives_are_made_and_shown(run, shop):
    """An SLO shows its budget; a wrong one is refused with what would be right; deleted it is gone."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    made = run("slo", "create", "orders", "--workflow", "fulfil", "--target", "99.9%", "--within", "30s", "--json")
    found = json.loads(made.out)
    assert (found["good"], found["total"], found["budget_left"], found["severity"]) == (1, 1, 1.0, None)
    assert found["target"] == 0.999
    listed, shown = run("slo", "list").out, run("slo", "show", "orders").out
    assert ("fulfil completes within 30.0 s" in listed, "100% left" in listed) == (True, True)
    assert "less than one of 1 execution may fail: 100% left" in shown
    assert "14.40" in shown
    assert run("slo", "create", "orders", "-w", "fulfil", "--target", "0.9").code == 1
    assert "99.9%" in run("slo", "create", "other", "-w", "fulfil", "--target", "most").err
    assert run("slo", "create", "other", "-w", "fulfil", "--target", "sNaN").code == 1
    assert run("slo", "delete", "orders").code == 0
    assert json.loads(run("slo", "list", "--json").out) == []
    assert run("slo", "show", "orders").code == 1


def test_alerts_come_from_where_an_operator_has_set_it(run, shop):
    """An objective's own burn rates, and the thresholds of everything else; what is not given stays as it is."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    of = ("slo", "create", "orders", "-w", "fulfil", "--target", "99%", "--alert")
    [burn] = json.loads(run(*of, "ticket:50%:2h:15m", "--json").out)["burns"]
    assert (burn["severity"], burn["long_seconds"], burn["short_seconds"]) == ("ticket", 7200.0, 900.0)
    for wrong in ("ticket:50%", "shout:50%:1h", "page:lots:1h", "page:2%:1h:2h", "page:2%:soon"):
        assert run("slo", "create", "other", "-w", "fulfil", "--target", "99%", "--alert", wrong).code == 1
    run("thresholds", "--oldest", "5m", "--waiting", "10000")
    found = json.loads(run("thresholds", "--dead-letter-share", "10%", "--json").out)
    assert (found["oldest_seconds"], found["waiting"], found["dead_letter_share"]) == (300.0, 10_000, 0.1)
    assert json.loads(run("thresholds", "--waiting", "0", "--json").out)["waiting"] is None
    assert "5 min" in run("thresholds").out
    assert "is not a share" in run("thresholds", "--dead-letter-share", "many").err


def test_costs_are_told_by_the_price_list(run, shop):
    """What is not given stays as it is."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    run("price", "--worker-hour", "3600", "--currency", "EUR")
    assert json.loads(run("price", "--gigabyte", "2", "--json").out) == {
        "worker_hour": 3600.0,
        "million_messages": 0.0,
        "gigabyte": 2.0,
        "currency": "EUR",
    }
    assert "EUR" in run("stats", "--seconds", "0").out
    assert run("price", "--gigabyte", "-1").code == 1


def test_nothing_wrong_is_told_as_nothing(run, shop):
    """A healthy system has neither alerts nor incidents."""
    run("run", f"{shop}:fulfil", "--input", '{"order": {"number": 1}}')
    assert json.loads(run("alerts", "--json").out) == json.loads(run("incidents", "--json").out) == []
    assert (run("alerts").code, run("incidents").code) == (0, 0)


# doctor


def test_doctor_finds_a_store_in_order(run, shop):
    """Each line is ok or says what to do; a store that nobody serves is not ill as long as nothing waits."""
    run("run", f"{shop}:fulfil", "--input", '{"number": 7}')
    result = run("doctor", "--json")
    findings = {each["what"]: each for each in json.loads(result.out)["findings"]}
    assert result.code == 0
    assert {"versions", "store", "integrity", "executions", "orchestrators", "progress", "inbox", "disk"} <= set(
        findings
    )
    assert findings["integrity"]["level"] == "ok"
    assert findings["orchestrators"]["level"] == "warn"
    assert all(each["remedy"] for each in findings.values() if each["level"] != "ok")
    assert "quick_check passed" in run("doctor").out


def test_doctor_tells_what_waits_for_nobody(run, store):
    """An accepted execution without an orchestrator is an illness with a remedy, and code 1."""
    result = run("doctor", "--json")
    assert result.code == 1
    shown = json.loads(result.out)
    assert shown["healthy"] is False
    [orchestrators] = [each for each in shown["findings"] if each["what"] == "orchestrators"]
    assert (orchestrators["level"], orchestrators["said"]) == ("fail", "none alive")
    assert "edow orchestrator" in orchestrators["remedy"]


def test_doctor_tells_a_transport_that_is_away_from_its_store(run, store):
    """What the store says is told all the same; no password is shown."""
    result = run("doctor", "--json", "--transport", "redis://edow:geheim@127.0.0.1:1")
    findings = {each["what"]: each for each in json.loads(result.out)["findings"]}
    assert result.code == 1
    assert (findings["store"]["level"], findings["transport"]["level"]) == ("ok", "fail")
    assert "127.0.0.1:1" in findings["transport"]["said"]
    assert "can be reached" in findings["transport"]["remedy"]
    assert "executions" in findings
    assert "geheim" not in result.out + result.err


def test_doctor_counts_dead_letters(run, shop):
    """Dead letters that wait are a warning that names the command."""
    run("run", f"{shop}:unlucky", "--input", "5")
    findings = {each["what"]: each for each in json.loads(run("doctor", "--json").out)["findings"]}
    assert findings["dead letters"]["level"] == "warn"
    assert "edow dlq list" in findings["dead letters"]["remedy"]
