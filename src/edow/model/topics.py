"""Names of the topics and groups that EDOW uses on any transport."""

from __future__ import annotations

WORKERS = "workers"  # consumer group of every task topic
ORCHESTRATORS = "orchestrators"  # consumer group of the result and dead-letter topics
CONTROL = "edow.control"  # broadcast to all workers: cancellations, roll calls
ROLL = "edow.roll"  # broadcast by workers: answers to roll calls, for whoever looks
DEAD = "edow.dead"  # poison that a worker could not attribute to any execution


RESULTS = "edow.results."


def groups_of(topic: str) -> tuple[str, ...]:
    """The consumer groups that must get what is published to it."""
    if topic in (CONTROL, ROLL):
        return ()
    return (ORCHESTRATORS,) if topic == DEAD or topic.startswith(RESULTS) else (WORKERS,)


def task_topic(topic: str) -> str:
    """Task events of tasks declared with `topic=`."""
    return f"edow.tasks.{topic}"


def result_topic(shard: int) -> str:
    """Result events of the executions in a shard, read by its owner alone."""
    return f"{RESULTS}{shard}"
