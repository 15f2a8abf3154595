"""`edow stats`: what waits in the topics, how fast it comes and goes, and what was measured in the last minutes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import kpis, options, output
from edow.cli.binding import topic_names
from edow.cli.failure import note
from edow.cli.jsons import print_json
from edow.cli.session import run_async, store_to_open
from edow.kpi.summary import Summary
from edow.kpi.waiting import Unanswered, unanswered
from edow.model import topics
from edow.monitor import reading
from edow.monitor.incidents import orchestrators
from edow.transport.contract import GroupStats, Told, TopicStats, Transport
from edow.workflow.duration import microseconds

HOT = 0.5  # share of one partition among several above which it is shown in colour
FEW = 10  # partitions' messages below which a share says nothing
REMARKS: dict[Told, str] = {
    "exactly": "",
    "about": "tells about how many messages wait; a – is what it does not tell",
    "nothing": "does not tell what waits, its own monitoring does; what orchestrators know of tasks follows",
}


class Line(msgspec.Struct, frozen=True):
    """One consumer group of one topic. None: the broker does not tell."""

    topic: str
    group: str
    waiting: int
    in_flight: int | None
    oldest_seconds: float | None
    in_per_second: float | None
    out_per_second: float | None
    partitions: int
    hottest: str | None  # the partition with the most messages
    hottest_share: float | None


class Tasks(msgspec.Struct, frozen=True):
    """Tasks of a topic that are published and not answered, as orchestrators say. `oldest_seconds`: for how long the
    oldest is out that no worker is known to be at.
    """

    topic: str
    unanswered: int
    oldest_seconds: float | None


class Found(msgspec.Struct, frozen=True):
    """`told`: how well the transport knows what waits."""

    transport: str
    told: Told
    topics: list[Line] | None  # None: the transport does not tell
    tasks: list[Tasks]
    kpis: Summary


def stats(
    module: Annotated[
        list[str] | None, typer.Option("--module", "-m", help="Code whose task topics to look at; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to watch for rates; 0 for none.")] = 1.0,
    window: Annotated[str, typer.Option(metavar="DURATION", help="How far back to look at what was measured.")] = "5m",
    store: options.Store = None,
    transport: options.Transport = None,
    as_json: options.Json = False,
) -> None:
    """Lag and rates of topics and consumer groups; latencies, failures, traffic, cost and hot keys of executions.

    What waits is asked of the broker, as far as it tells; which tasks are not answered is known to orchestrators.
    """
    length = microseconds(window, "--window")
    names = [topics.task_topic(name) for name in topic_names(module)]
    found = run_async(_measure(store_to_open(store, create=False), transport, names, seconds, length))
    if as_json:
        print_json(found)
        return
    if remark := REMARKS[found.told]:
        note(f"{found.transport} {remark}")
    if found.topics is not None:
        _print(found.topics)
    if found.tasks:
        _print_tasks(found.tasks)
    output.show(*kpis.tables(found.kpis))


async def _measure(url: str, transport: str | None, names: list[str], seconds: float, length: int) -> Found:
    from edow.app import System, now

    async with System(url, transport) as system:
        names += [topics.result_topic(shard) for shard in range(system.store.shards)] + [topics.DEAD]
        features = system.transport.features
        return Found(
            features.name,
            features.told,
            await _watch(system.transport, names, seconds) if features.waiting else None,
            [_tasks(each, now()) for each in unanswered(await orchestrators(system.store), now())],
            await reading.summary(system.store, now() - length, now()),
        )


async def _watch(transport: Transport, names: list[str], seconds: float) -> list[Line]:
    began, before = time.monotonic(), await transport.describe(names)
    if not seconds:
        return _lines(before, {}, 0.0)
    await asyncio.sleep(seconds)
    after = await transport.describe(names)
    return _lines(after, _by_group(before), time.monotonic() - began)


def _by_group(found: Sequence[TopicStats]) -> dict[tuple[str, str], GroupStats]:
    return {(each.topic, group.group): group for each in found for group in each.groups}


def _lines(found: Sequence[TopicStats], before: dict[tuple[str, str], GroupStats], seconds: float) -> list[Line]:
    now = time.time_ns() // 1000
    return [
        _line(topic, group, before.get((topic, group.group)), now, seconds)
        for (topic, _), group in _by_group(found).items()
    ]


def _line(topic: str, group: GroupStats, before: GroupStats | None, now: int, seconds: float) -> Line:
    came = went = None
    if before is not None and group.published is not None and before.published is not None:
        new = group.published - before.published
        came = round(new / seconds, 1)
        went = round((new - group.left + before.left) / seconds, 1)
    hottest, share = group.hottest or (None, None)
    return Line(
        topic=topic,
        group=group.group,
        waiting=group.waiting,
        in_flight=group.in_flight,
        oldest_seconds=None if group.oldest_at is None else round(max(0, now - group.oldest_at) / 1_000_000, 3),
        in_per_second=came,
        out_per_second=went,
        partitions=len(group.partitions),
        hottest=hottest,
        hottest_share=share,
    )


def _tasks(each: Unanswered, now: int) -> Tasks:
    age = None if each.since is None else round(max(0, now - each.since) / 1_000_000, 3)
    return Tasks(each.topic, each.tasks, age)


def _print(lines: Sequence[Line]) -> None:
    numbers = ("waiting", "in flight", "oldest", "in/s", "out/s")
    table = output.table("topic", "group", *numbers, "hottest partition", right=numbers)
    for line in lines:
        counts = [_number(each) for each in (line.waiting, line.in_flight)]
        rates = [_number(each) for each in (line.in_per_second, line.out_per_second)]
        table.add_row(line.topic, line.group, *counts, _age(line.oldest_seconds), *rates, _hottest(line))
    output.show(table)


def _print_tasks(tasks: Sequence[Tasks]) -> None:
    numbers = ("not answered", "oldest that nobody is at")
    table = output.table("tasks of", *numbers, right=numbers)
    for each in tasks:
        table.add_row(each.topic, _number(each.unanswered), _age(each.oldest_seconds))
    output.show(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _age(seconds: float | None) -> str:
    return "–" if seconds is None else output.duration(seconds * 1_000_000)


def _hottest(line: Line) -> Text:
    if line.hottest is None or line.hottest_share is None or line.partitions < 2:
        return Text("–")
    hot = line.hottest_share > max(HOT, 2 / line.partitions) and line.waiting >= FEW
    return Text(f"{line.hottest}: {line.hottest_share:.0%} of {line.partitions}", style="bold yellow" if hot else "")
