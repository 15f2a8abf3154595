"""Pages over HTTP: what is in them, what they cost, who gets them, and that nothing in them is ever more than text."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from html import unescape
from pathlib import Path

import msgspec
import pytest

from edow.client.actor import Role
from edow.console.look import now_us
from edow.console.render import HERE
from edow.console.routes import PAGES
from edow.kpi.figures import Figures
from edow.kpi.incident import Presence
from edow.kpi.meter import Meter
from edow.model import topics
from edow.model.execution import Status
from edow.monitor import incidents
from edow.monitor.keeper import Keeper
from edow.testing.polling import until
from edow.transport.contract import Subscription, TopicSpec
from edow.trigger.schedules import Schedule
from tests.console import flow
from tests.console.conftest import Console, console_on

EVIL = "</pre><script>document.title='owned'</script><img src=x onerror=document.title='owned'>{{7*1009}}"
EVIL_ID = "<img src=x onerror=alert(1)>"
ADDRESSES = (
    *(path for _, path, _ in PAGES),
    *("/executions/one", "/executions-all?q=one", "/jobs", "/events/triggers", "/events/endpoints", "/login"),
)


async def started(console: Console) -> None:
    handle = await console.client.start(flow.fan_out.with_options(id="one"), 5)
    assert await handle.result() == 30


async def test_every_page_has_a_strict_policy_and_brings_nothing_from_elsewhere(anywhere: Console) -> None:
    """No script or style in the page itself, no address of another server, and a policy that would not allow it."""
    await started(anywhere)
    async with anywhere.http() as http:
        for path in ADDRESSES:
            answer = await http.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "https:" not in answer.text
            assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", answer.text), path


async def test_assets_are_few_and_small() -> None:
    """All together far below what a page may weigh."""
    files = [path for path in (HERE / "assets").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    assert not [path for path in files if "http://" in path.read_text().replace("http://www.w3.org/2000/svg", "")]


async def test_payloads_are_text(anywhere: Console) -> None:
    """Whatever an id, an input, a signal, an attribute or an error holds."""
    await anywhere.client.start(flow.order.with_options(id=EVIL_ID), EVIL, EVIL)
    await anywhere.client.get(EVIL_ID).signal("approved", EVIL)
    handle = await anywhere.client.start(flow.refused.with_options(id="no"), EVIL)
    with pytest.raises(Exception, match="no: "):
        await handle.result()
    async with anywhere.http() as http:
        listed = (await http.get("/executions")).text
        href = re.search(r'href="(/executions/%3C[^"]*)"', listed)
        assert href is not None
        for text in (listed, (await http.get(href[1])).text, (await http.get("/executions/no")).text):
            assert "<img" not in text
            assert not re.search(r"<script(?! src=)", text)
            assert "7063" not in text
        assert "&lt;img" in text


async def test_secret_fields_are_not_shown(console: Console) -> None:
    """Neither among the inputs nor in the history."""
    await console.client.start(flow.order.with_options(id="one"), "anvil", "4111-2222")
    async with console.http() as http:
        text = (await http.get("/executions/one")).text
    assert "anvil" in text
    assert "4111" not in text


async def test_a_page_that_has_not_changed_is_not_sent_again(console: Console) -> None:
    """The browser asks every second."""
    await started(console)
    async with console.http() as http:
        first = await http.get("/executions/one")
        again = await http.get("/executions/one", headers={"If-None-Match": first.headers["etag"]})
        style = await http.get("/assets/console.css")
        same = await http.get("/assets/console.css", headers={"If-None-Match": style.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert (style.status_code, same.status_code) == (200, 304)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/executions/none-such", 404, "none-such"),
        ("/executions?status=bogus", 400, "bogus"),
        ("/executions?cursor=%00", 400, "cursor"),
        ("/executions?since=never", 400, "never"),
        ("/executions/one?run=x", 400, "above 0"),
        ("/executions/one?run=7", 404, "run 7"),
        ("/assets/none.css", 404, "none.css"),
    ],
)
async def test_what_cannot_be_shown_is_told_as_a_page(console: Console, path: str, status: int, said: str) -> None:
    """With what was wrong in it, and never a traceback."""
    await started(console)
    async with console.http() as http:
        answer = await http.get(path)
    assert answer.status_code == status
    assert said in answer.text
    assert "<h1>That did not work</h1>" in answer.text
    assert "Traceback" not in answer.text


async def test_who_has_no_token_is_asked_for_one_and_comes_in_with_it(console: Console) -> None:
    """As soon as there are tokens; a token to look with does not act."""
    await console.client.start(flow.order.with_options(id="one"), "anvil")
    text = await console.client.tokens().create("viewer", "read")
    async with console.http() as http:
        assert (await http.get("/")).headers["location"] == "/login"
        assert (await http.post("/login", data={"token": "wrong"})).status_code == 401
        welcome = await http.post("/login", data={"token": text})
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
        cookie = welcome.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "Sign out" in (await http.get("/")).text
        evil = {"Origin": "http://evil.example"}
        assert (await http.post("/logout", headers=evil)).status_code == 403
        assert (await http.post("/executions/one/cancel", data={})).status_code == 403
        await http.post("/logout")
        assert (await http.get("/")).status_code == 303
    assert (await console.client.get("one").describe()).status is Status.RUNNING


async def test_signing_in_goes_where_one_wanted_to(console: Console) -> None:
    """Also after a mistake; never to another site, whatever the address says."""
    await console.client.start(flow.order.with_options(id="a b?c"), "anvil")
    text = await console.client.tokens().create("viewer", "read")
    async with console.http() as http:
        for wanted in ("/executions?q=a%20b&status=running", "/executions/a%20b%3Fc"):
            asked = (await http.get(wanted)).headers["location"]
            page = await http.get(asked)
            [to] = re.findall('name="to" value="([^"]*)"', page.text)
            wrong = await http.post("/login", data={"token": "wrong", "to": unescape(to)})
            assert f'value="{to}"' in wrong.text
            welcome = await http.post("/login", data={"token": text, "to": unescape(to)})
            assert welcome.headers["location"].replace("+", "%20") == wanted
            assert (await http.get(welcome.headers["location"])).status_code == 200
            await http.post("/logout")
        for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "evil", ""):
            welcome = await http.post("/login", data={"token": text, "to": elsewhere})
            assert welcome.headers["location"] == "/", elsewhere


async def test_a_form_of_another_site_is_refused(console: Console) -> None:
    """Also on this machine, and without a token: a browser tells where a form comes from."""
    await console.client.start(flow.order.with_options(id="one"), "anvil")
    async with console.http() as http:
        path = "/executions/one/terminate"
        evil = await http.post(path, data={}, headers={"Origin": "http://evil.example"})
        foreign = await http.post(path, data={}, headers={"Host": "evil.example:80"})
        own = await http.post(path, data={}, headers={"Origin": console.url})
    assert (evil.status_code, foreign.status_code, own.status_code) == (403, 403, 303)


async def test_open_pages_read_the_store_once_a_second_together(tmp_path: Path) -> None:
    """Fifty looks at a page cost no more than one look a second does. Nobody else reads this store."""
    asked: list[str] = []
    async with console_on(f"sqlite:///{tmp_path}/store.db", working=False) as console, console.http() as http:
        await http.get("/")
        began = time.monotonic()
        with Counting(console, asked):
            for _ in range(50):
                assert (await http.get("/")).status_code in (200, 304)
        seconds = time.monotonic() - began
    assert asked.count("counts") <= seconds + 1
    assert asked.count("leases_hold") <= seconds + 1
    assert asked.count("executions_list") <= 2 * (seconds + 1)  # what failed, and what is parked


class Counting:
    """Counts calls of the store's reading verbs."""

    VERBS = ("counts", "executions_list", "leases_hold", "history_get", "dead_letters_list")

    def __init__(self, console: Console, statements: list[str]) -> None:
        self._store = console.system.store
        self._statements = statements

    def __enter__(self) -> None:
        for verb in self.VERBS:
            setattr(self._store, verb, self._counted(verb, getattr(self._store, verb)))

    def __exit__(self, *_: object) -> None:
        for verb in self.VERBS:
            delattr(self._store, verb)

    def _counted(self, verb, call):
        def counted(*arguments, **options):
            self._statements.append(verb)
            return call(*arguments, **options)

        return counted


async def test_what_was_measured_is_shown(anywhere: Console) -> None:
    """Figures of workflows and tasks, and who owns the shards."""
    figures = Figures()
    workflow = figures.workflow("fan_out")
    workflow.started, workflow.completed = 5, 4
    workflow.took.add([2_000_000] * 4)
    workflow.task("square").completed = 20
    await Keeper(anywhere.system.store, Meter(), "host:1:a").flush(now_us(), figures)
    async with anywhere.http() as http:
        text = (await http.get("/performance?window=15m")).text
        assert "fan_out" in text
        assert "square" in text
        assert "2.0 s" in text
        assert (await http.get("/performance?window=1y")).status_code == 400
        processes = (await http.get("/processes")).text
    assert "4 <small>0, 1, 2, 3</small>" in processes


async def test_workers_are_called_and_say_what_they_do(anywhere: Console) -> None:
    """Over the broker, for they know no store; who has stopped is silent, and then gone."""
    flow.gates.append(threading.Event())
    handle = await anywhere.client.start(flow.held.with_options(id="held"))
    try:
        async with anywhere.http() as http:

            async def says_so() -> bool:
                return ">hold</b>" in (await http.get("/processes")).text

            await asyncio.wait_for(until(says_so), 60)
            assert 'href="/executions/held"' in (await http.get("/processes")).text
    finally:
        flow.gates[-1].set()
    await handle.result()


@pytest.mark.parametrize("told", ["about", "nothing"])
async def test_what_the_broker_does_not_tell_is_no_warning(
    console: Console, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """The pages say so, and show the tasks that nobody has answered."""
    transport = console.system.transport
    features = msgspec.structs.replace(transport.features, lag=False, waiting=told == "about")
    monkeypatch.setattr(transport, "_features", features)
    said = Presence("a", now_us(), 0, [0], 0, 0, 0, unanswered={"edow.tasks.slow": 41})
    await console.system.store.records_put([incidents.here(said)], now_us())
    async with console.http() as http:
        page = (await http.get("/topics")).text
        assert {"about": "tells about how many", "nothing": "does not tell what waits"}[told] in page
        assert ("Partitions, the largest first" in page) == (told == "about")
        assert 'edow.tasks.slow</td><td class="num">41</td>' in page
        overview = (await http.get("/")).text
    assert ("41 tasks not answered" in overview) == (told == "nothing")
    assert not re.search(r'badge warn">warn</span></span><span class="what">(workers|transport)<', overview)
    assert '<span class="what">workers</span>' in overview


async def test_nobody_is_called_while_nobody_looks(console: Console) -> None:
    """The answers are broadcast, so whoever listens would hear them."""
    transport = console.system.transport
    await transport.ensure([TopicSpec(topics.ROLL, ())])
    listener = await transport.subscribe(Subscription(topics=(topics.ROLL,), group="", mode="broadcast"))
    async with console.http() as http:
        await http.get("/")
        await http.get("/executions")
        await started(console)
        assert await listener.receive(10, 0.0) == []
        await http.get("/processes")
        assert len(await listener.receive(10, 30.0)) == 1
    await listener.close()


@pytest.mark.parametrize("role", ["read", "operate"])
async def test_pages_offer_what_the_role_may_do(console: Console, role: Role) -> None:
    """Who may only look finds no form that would be refused, and is told why there is none."""
    await console.client.start(flow.order.with_options(id="waits"), "a", "b")
    await console.client.schedules().create("nightly", Schedule(workflow="order", cron="0 2 * * *"))
    await console.client.start(flow.broken.with_options(id="dead"), "x")

    async def parked() -> bool:
        return bool(await console.client.dead_letters())

    await until(parked)
    [letter] = await console.client.dead_letters()
    token = await console.client.tokens().create("somebody", role)
    acting = {
        "/executions": "bulk",
        "/executions/waits": "/executions/waits/cancel",
        "/schedules": "act-create",
        "/schedules/nightly": "/schedules/nightly/delete",
        f"/dead-letters/one?id={letter.id}": "/dead-letters/one/redrive",
        f"/dead-letters/group?group={letter.fingerprint}": "/dead-letters/group/discard",
    }
    async with console.http() as http:
        for path, form in acting.items():
            page = (await http.get(path, headers={"Authorization": f"Bearer {token}"})).text
            assert (form in page, 'method="post"' in page) == (role != "read", role != "read"), path
            assert ("may look only" in page) == (role == "read"), path
