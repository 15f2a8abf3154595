"""The composition root: from two URLs to a running system. Faces (CLI, client, demo, tests) come here; nothing else
does.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from edow.address import Address
from edow.client.job_runner import JobRunner
from edow.client.redriver import Redriver
from edow.errors import InvalidInput, NotFound
from edow.kpi.meter import Meter
from edow.monitor.alerts import nobody
from edow.monitor.monitor import Monitor
from edow.orchestrator import Edges, Orchestrator, OrchestratorConfig
from edow.orchestrator.config import process_name
from edow.sqlite import SqliteFile
from edow.store.contract import Store
from edow.store.sqlite import SqliteStore
from edow.telemetry.spans import Span
from edow.transport.contract import Transport
from edow.transport.sqlite import SqliteTransport
from edow.trigger import schedules
from edow.trigger.addresses import VARIABLE, networks
from edow.trigger.runner import EventRunner
from edow.trigger.sender import Sender
from edow.worker.config import WorkerConfig
from edow.worker.worker import Worker
from edow.workflow.registry import Registry, collect

Emit = Callable[[Sequence[Span]], None]

DEFAULT_STORE = "sqlite:///edow.db"
SQLITE = "sqlite:///"

# By the scheme of a URL: the package whose `connect(address, clock)` makes the driver, and the extra that installs its
# client library. Nothing of it is imported before a URL names it.
STORES = {"postgresql": ("edow.store.postgresql", "postgresql")}
TRANSPORTS = {
    "postgresql": ("edow.transport.postgresql", "postgresql"),
    "kafka": ("edow.transport.kafka", "kafka"),
    "amqp": ("edow.transport.rabbitmq", "rabbitmq"),
    "amqps": ("edow.transport.rabbitmq", "rabbitmq"),
    "nats": ("edow.transport.nats", "nats"),
    "redis": ("edow.transport.redis", "redis"),
    "rediss": ("edow.transport.redis", "redis"),
    "pubsub": ("edow.transport.pubsub", "pubsub"),
    "sqs": ("edow.transport.sqs", "sqs"),
}


def now() -> int:
    """The clock: microseconds since the epoch."""
    return time.time_ns() // 1000


def store_url(given: str | None) -> str:
    """The store to use: as given, else EDOW_STORE, else `sqlite:///edow.db` in the current directory."""
    url = given or os.environ.get("EDOW_STORE") or DEFAULT_STORE
    if Address(url).scheme not in STORES:
        sqlite_path(url, "store")
    return url


def transport_url(given: str | None, store: str) -> str:
    """The transport to use: as given, else EDOW_TRANSPORT, else the store's own database."""
    url = given or os.environ.get("EDOW_TRANSPORT") or store
    if Address(url).scheme not in TRANSPORTS:
        sqlite_path(url, "transport")
    return url


def is_sqlite(url: str) -> bool:
    """Whether it names a file, rather than a server."""
    return Address(url).scheme == "sqlite"


def sqlite_path(url: str, what: str) -> Path:
    """The file an sqlite URL names. Raises InvalidInput for any other URL."""
    if not url.startswith(SQLITE) or len(url) == len(SQLITE):
        others = ", ".join(f"{scheme}://" for scheme in (STORES if what == "store" else TRANSPORTS))
        raise InvalidInput(
            f"{what} {str(Address(url))!r} is not supported: use {SQLITE}FILE (relative), {SQLITE}/PATH (absolute), "
            f"or one of {others}"
        )
    return Path(url[len(SQLITE) :]).absolute()


def connect_store(url: str) -> Store:
    """The store a URL names, not open yet. Raises InvalidInput."""
    address = Address(url)
    if address.scheme in STORES:
        made: Store = _driver(address, *STORES[address.scheme])
        return made
    return SqliteStore(SqliteFile(sqlite_path(url, "store")))


def connect_transport(url: str) -> Transport:
    """The transport a URL names, not open yet. Raises InvalidInput."""
    address = Address(url)
    if address.scheme in TRANSPORTS:
        made: Transport = _driver(address, *TRANSPORTS[address.scheme])
        return made
    return SqliteTransport(SqliteFile(sqlite_path(url, "transport")))


def _driver(address: Address, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package).connect(address, now)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("edow"):
            raise
        raise InvalidInput(
            f"{address} needs the Python package {problem.name!r}, which is not installed: pip install 'edow[{extra}]'"
        ) from problem


def connect(store: str, transport: str) -> tuple[Store, Transport, bool]:
    """Both of them, not open yet, and whether they are joined: in one database, where one transaction covers both."""
    if _place(store) != _place(transport):
        return connect_store(store), connect_transport(transport), False
    both = _joined(store)
    both[0].enlist(both[1])
    return *both, True


def _place(url: str) -> str:
    return url if Address(url).scheme in STORES | TRANSPORTS else str(sqlite_path(url, "store"))


def _joined(url: str) -> tuple[Store, Any]:
    address = Address(url)
    if address.scheme not in STORES:
        file = SqliteFile(sqlite_path(url, "store"))
        return SqliteStore(file), SqliteTransport(file)
    database = _driver(address, "edow.postgresql", "postgresql")
    stores, transports = (importlib.import_module(each[address.scheme][0]) for each in (STORES, TRANSPORTS))
    return stores.PostgresStore(database), transports.PostgresTransport(database)


def load_registry(targets: Sequence[str]) -> Registry:
    """Import each target (`shop.py` or `package.module`) and collect its tasks and workflows.

    Raises NotFound when there is no such file or module, InvalidInput when it cannot be imported or holds no task or
    workflow.
    """
    return collect([load_module(target) for target in targets])


def load_module(target: str) -> ModuleType:
    """Import a file or module by name; the current directory counts as on the path."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    name, path = _locate(target)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name == name or name.startswith(f"{problem.name}."):
            raise NotFound(
                f"module {target!r} was not found: give a .py file or a module importable from here"
            ) from None
        raise InvalidInput(f"module {target!r} cannot be imported: {problem}") from problem
    except Exception as problem:
        where = f" ({path})" if path else ""
        raise InvalidInput(
            f"module {target!r}{where} cannot be imported: {type(problem).__name__}: {problem}"
        ) from problem


def _locate(target: str) -> tuple[str, Path | None]:
    """Module name of a target; a file's directory joins the path, so that processes and pools find it by name too."""
    if not target.endswith(".py"):
        return target, None
    path = Path(target).absolute()
    if not path.is_file():
        raise NotFound(f"file {target!r} was not found: give a .py file or a module name")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    return path.stem, path


class System:
    """Everything one process needs, opened and closed together. `transport` None: the store's own database."""

    def __init__(
        self,
        store: str | None = None,
        transport: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.store_url = store_url(store)
        self.transport_url = transport_url(transport, self.store_url)
        self.registry = registry if registry is not None else Registry()
        self.store, self.transport, self.joined = connect(self.store_url, self.transport_url)
        self.emit: Emit | None = None  # gets the spans of what is traced

    def __str__(self) -> str:
        store = str(Address(self.store_url))
        return store if self.joined else f"{store}, {Address(self.transport_url)}"

    async def __aenter__(self) -> Self:
        await self.store.open()
        try:
            await self.transport.open()
        except BaseException:
            await self.store.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.transport.close()
        finally:
            await self.store.close()

    def orchestrator(self, **config: Any) -> Orchestrator:
        """An orchestrator for the registry's workflows; `config` as OrchestratorConfig."""
        edges = Edges(self.store, self.transport, now, self.joined)
        return Orchestrator(edges, self.registry, OrchestratorConfig(**config), self.emit)

    def redriver(self) -> Redriver:
        """What goes on with redrives in stages; beside each orchestrator."""
        return Redriver(self.store, now)

    def jobs(self) -> JobRunner:
        """What goes on with bulk jobs; beside each orchestrator and API."""
        return JobRunner(self.store, now)

    def monitor(
        self, orchestrator: Orchestrator, sender: Sender | None = None, events: EventRunner | None = None
    ) -> Monitor:
        """Keeps what the orchestrator measures. To be started before it and stopped after it. With a sender, endpoints
        are told of alerts; with events, the topics of triggers are looked at, too.
        """
        announce = sender.announced if sender is not None else nobody
        monitor = Monitor(self.store, self.transport, orchestrator, now, process_name(), announce)
        if events is not None:
            monitor.more_topics = lambda: events.topics
        return monitor

    def schedules(self, orchestrator: Orchestrator | None = None) -> schedules.Runner:
        """What starts executions at the times of the store's schedules; beside each orchestrator, which measures it."""
        return schedules.Runner(self.store, now, None if orchestrator is None else orchestrator.meter)

    def events(self, orchestrator: Orchestrator | None = None) -> EventRunner:
        """What applies messages of the store's event triggers; beside each orchestrator, which measures them."""
        meter = Meter() if orchestrator is None else orchestrator.meter
        return EventRunner(self.store, self.transport, connect_transport, now, secrets.token_hex(4), meter)

    def sender(self, orchestrator: Orchestrator) -> Sender:
        """What tells endpoints of the orchestrator's ends. To be started before it and stopped after it."""
        allowed = networks(os.environ.get(VARIABLE, ""))
        sender = Sender(self.store, now, secrets.token_hex(4), allowed)
        orchestrator.tell_ends(sender.ended)
        return sender

    def worker(self, **config: Any) -> Worker:
        """A worker for the registry's tasks; `config` as WorkerConfig."""
        return Worker(self.transport, self.registry, WorkerConfig(**config), now, self.emit)


class Workplace:
    """What a process of workers needs: a transport, and no store."""

    def __init__(self, transport: str, registry: Registry) -> None:
        """Raises InvalidInput for a URL that nobody knows."""
        self.registry = registry
        self.transport = connect_transport(transport)
        self.emit: Emit | None = None  # gets the spans of what is traced
        self._address = Address(transport)

    def __str__(self) -> str:
        return str(self._address)

    async def __aenter__(self) -> Self:
        await self.transport.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.transport.close()

    def worker(self, **config: Any) -> Worker:
        """A worker for the registry's tasks; `config` as WorkerConfig."""
        return Worker(self.transport, self.registry, WorkerConfig(**config), now, self.emit)
