"""Figures: adding up, bounded names, and what the meter counts."""

from edow.kpi import series
from edow.kpi.figures import OTHER, TASKS, TOPICS, WORKFLOWS, Figures, decode, encode
from edow.kpi.meter import Meter
from edow.kpi.series import COARSE, FINE, MIDDLE
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.model.message import Message

SECOND = 1_000_000


def some(name="order", attempts=3):
    meter = Meter()
    ended = [Attempted("pay", "completed", 10 * SECOND, 11 * SECOND, 2 * SECOND, 100)] * attempts
    meter.attempts([(name, ended)], 14 * SECOND)
    execution = Execution(id="1", workflow=name, shard=0, status=Status.COMPLETED, started_at=1, ended_at=1 + SECOND)
    meter.executions([name], [execution])
    meter.dead_letter(name, "pay")
    meter.sent([Message("edow.tasks.default", b"12345", "key"), Message("edow.control", b"1")])
    meter.received("edow.results", 2, 30)
    return meter.take()


def test_an_attempt_is_told_in_three_stages():
    """Queue from publication to start, run as the worker says, and the way back from its end to the decision."""
    task = some(attempts=1).workflows["order"].tasks["pay"]
    assert (task.queue.total, task.run.total, task.back.total) == (SECOND, 2 * SECOND, SECOND)
    assert (task.completed, task.letters, task.payload) == (1, 1, 100)


def test_an_attempt_that_no_worker_began_has_no_stages():
    """A timeout in the queue counts as a failure and says nothing of times."""
    meter = Meter()
    meter.attempts([("order", [Attempted("pay", "failed", 10, 0, 0, 5)])], 20)
    task = meter.take().workflows["order"].tasks["pay"]
    assert (task.failed, task.queue.count, task.run.count, task.back.count) == (1, 0, 0, 0)


def test_an_answer_to_an_attempt_before_the_last_says_nothing_of_the_queue():
    """When it was published is not known any more; how long it ran is."""
    meter = Meter()
    meter.attempts([("order", [Attempted("pay", "completed", 0, 10, 5, 5)])], 20)
    task = meter.take().workflows["order"].tasks["pay"]
    assert (task.queue.count, task.run.total, task.back.total) == (0, 5, 5)


def test_taking_leaves_nothing_behind():
    """What was taken is counted once."""
    meter = Meter()
    meter.executions(["order"], [])
    assert meter.take().workflows["order"].started == 1
    assert not meter.take()


def test_figures_add_up_and_survive_being_stored():
    """Two halves, stored and read, are the whole."""
    whole = series.added_up([some(), some("refund"), some()])
    stored = series.added_up([decode(encode(some())), decode(encode(series.added_up([some("refund"), some()])))])
    assert stored == whole
    assert whole.workflows["order"].completed == 2
    assert whole.sent["edow.tasks.default"].bytes == 10 + 5
    assert whole.keys["edow.tasks.default"].counts == {"key": 3}


def test_names_are_bounded():
    """Above the limits everything is still counted, under `(other)`."""
    meter = Meter()
    for number in range(WORKFLOWS + 50):
        meter.executions([f"workflow-{number}"], [])
        meter.dead_letter("workflow-0", f"task-{number}")
        meter.received(f"topic-{number}", 1, 1)
        meter.received(f"topic-{number + 1000}", 1, 1)
    figures = meter.take()
    more = Figures()
    more.merge(figures)
    more.merge(figures)
    assert len(more.workflows) == WORKFLOWS + 1
    assert more.workflows[OTHER].started == 100
    assert len(more.workflows["workflow-0"].tasks) == TASKS + 1
    assert more.workflows["workflow-0"].tasks[OTHER].letters == 100
    assert len(more.received) == TOPICS + 1
    assert sum(each.messages for each in more.received.values()) == 2 * 2 * (WORKFLOWS + 50)


def test_keys_sort_by_time_and_tell_it():
    """The names of records read back as the start of their buckets, in order."""
    at = 1_800_000_000 * SECOND + 59 * SECOND
    starts = [series.bucket_start(each, at) for each in (FINE, MIDDLE, COARSE)]
    assert starts == [1_800_000_050, 1_800_000_000, 1_800_000_000]
    keys = [series.key_of(FINE, start, "host:1") for start in (99, 1_800_000_050)]
    assert keys == sorted(keys)
    assert [series.start_of(key) for key in keys] == [99, 1_800_000_050]
