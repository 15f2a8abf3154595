"""Apache Kafka in KRaft mode: one node that is broker and controller.

The usual port is open to all. The `login` port wants SASL PLAIN (user `edow`, the box's password), so
that credentials can be tried: `server.ports["login"]`.
"""

from __future__ import annotations

import secrets
import socket
import struct
from base64 import urlsafe_b64encode
from pathlib import Path
from subprocess import DEVNULL, STDOUT, run

from .box import USER, Box
from .install import Tools
from .process import Command
from .trouble import Trouble

NAME = "kafka"
TITLE = "Apache Kafka"
VARIABLE = "EDOW_KAFKA"
PORTS = {"main": 9092, "controller": 9093, "login": 9094}
START_SECONDS = 90.0
ACCOUNT = None

_HEAP = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Dlog4j2.level=INFO", "-Djava.awt.headless=true"]
_METADATA = 3  # the request that asks which brokers there are

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT",
    "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
    # One node keeps one copy of everything.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Small: a machine with two cores, shared with the tests.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "num.network.threads": "2",
    "num.io.threads": "4",
    # Quick: tests may ask for short sessions, and none waits for members that never come.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.consumer.min.session.timeout.ms": "100",
    "group.consumer.min.heartbeat.interval.ms": "50",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.share.min.session.timeout.ms": "100",
    "group.share.min.heartbeat.interval.ms": "50",
    "group.share.heartbeat.interval.ms": "1000",
    "group.share.min.record.lock.duration.ms": "1000",
    # After a kill the controller holds the old broker for alive so long, and the new one waits.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # A topic that nobody made does not come to be by a typing error.
    "auto.create.topics.enable": "false",
}


def install(tools: Tools) -> None:
    tools.java()
    tools.jars(NAME)


def command(box: Box) -> Command:
    box.data.mkdir(parents=True, exist_ok=True)
    file = box.folder / "kafka.properties"
    settings = _SETTINGS | _places(box) | dict(box.options)
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    file.chmod(0o600)
    if not (box.data / "meta.properties").exists():
        _format(box, file)
    return Command([*_java(box), "kafka.Kafka", file])


def ready(box: Box) -> bool:
    """It names itself among the brokers that clients may talk to."""
    with socket.create_connection((box.host, box.port), timeout=2) as connection:
        connection.sendall(_request(_METADATA, version=1, body=struct.pack(">i", 0)))
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            _, brokers = struct.unpack(">ii", stream.read(size)[:8])
    return bool(brokers == 1)


def url(box: Box) -> str:
    return f"kafka://{box.host}:{box.port}"


def _places(box: Box) -> dict[str, str]:
    """Where it listens, and where it keeps its logs."""
    mine = f"PLAINTEXT://{box.host}:{box.port},LOGIN://{box.host}:{box.ports['login']}"
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "listeners": f"{mine},CONTROLLER://{box.host}:{box.ports['controller']}",
        "advertised.listeners": mine,
        "controller.quorum.voters": f"1@{box.host}:{box.ports['controller']}",
        "listener.name.login.plain.sasl.jaas.config": f'{module} required user_{USER}="{box.password}";',
        "log.dirs": str(box.data),
    }


def _format(box: Box, settings: Path) -> None:
    cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    arguments = [*_java(box), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={settings}"]
    with box.log.open("wb") as output:
        result = run(arguments, stdin=DEVNULL, stdout=output, stderr=STDOUT, check=False)
    if result.returncode != 0:
        raise Trouble(f"{TITLE}'s data could not be made", log=box.log, remedy="mend what the log tells, then again.")


def _java(box: Box) -> list[str | Path]:
    return [box.tools.java(), *_HEAP, "-cp", f"{box.tools.jars(NAME)}/*"]


def _request(kind: int, version: int, body: bytes) -> bytes:
    client = b"edow"
    head = struct.pack(">hhih", kind, version, 1, len(client)) + client
    return struct.pack(">i", len(head + body)) + head + body
