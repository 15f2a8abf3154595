"""RabbitMQ, with a port mapper (epmd) of its own, so that it meets no other Erlang on the machine.

`control(box, "list_queues")` is rabbitmqctl on exactly this one. The option `plugins` names
what to enable, with commas.
"""

from __future__ import annotations

import socket
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

from .box import USER, Box
from .install import Tools
from .ports import HOST
from .process import Command
from .trouble import Trouble

NAME = "rabbitmq"
TITLE = "RabbitMQ"
VARIABLE = "EDOW_RABBITMQ"
PORTS = {"main": 5672, "cluster": 25672, "mapper": 4370}
START_SECONDS = 90.0
ACCOUNT = None
PLUGINS = "plugins"

# Debian's own /usr/sbin/rabbitmq-server insists on the system's one instance; this is the real one.
_FOLDERS = ["/usr/lib/rabbitmq/bin"]

_SETTINGS = {
    "default_user": USER,
    "loopback_users": "none",
    "log.console": "true",
    "log.file": "false",
    "disk_free_limit.absolute": "100MB",
    "vm_memory_high_watermark.absolute": "1GB",
}

_MAIN = 'epmd -port "$ERL_EPMD_PORT" & exec "$0"'


def install(tools: Tools) -> None:
    tools.program("rabbitmq-server", "rabbitmq-server", also_in=_FOLDERS)


def command(box: Box) -> Command:
    box.data.mkdir(parents=True, exist_ok=True)
    listener = {"listeners.tcp.1": f"{box.host}:{box.port}", "default_pass": box.password}
    settings = _SETTINGS | listener | dict(box.options)
    plugins = settings.pop(PLUGINS, "")
    file = box.folder / "rabbitmq.conf"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    file.chmod(0o600)
    (box.folder / "plugins").write_text(f"[{plugins}].\n")
    return Command(["/bin/sh", "-c", _MAIN, _program(box, "rabbitmq-server")], _environment(box))


def ready(box: Box) -> bool:
    with socket.create_connection((box.host, box.port), timeout=2) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        # A method frame on channel 0 whose method is connection.start: it lets clients in.
        head = connection.recv(11)
    return head[:3] == b"\x01\x00\x00" and head[7:] == b"\x00\x0a\x00\x0a"


def url(box: Box) -> str:
    return f"amqp://{USER}:{box.password}@{box.host}:{box.port}/"


def control(box: Box, *arguments: str) -> str:
    """What rabbitmqctl says to these arguments. Raises Trouble if it refuses."""
    asked: list[str | Path] = [_program(box, "rabbitmqctl"), *arguments]
    result = run(asked, env=_environment(box), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, check=False)
    answer = result.stdout.decode(errors="replace")
    if result.returncode != 0:
        raise Trouble(f"rabbitmqctl {' '.join(arguments)}: {answer}")
    return answer


def _program(box: Box, name: str) -> Path:
    return box.tools.program(name, "rabbitmq-server", also_in=_FOLDERS)


def _environment(box: Box) -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(box.folder),  # where Erlang keeps the cookie that its nodes know each other by
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(box.ports["mapper"]),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_CONF_ENV_FILE": str(box.folder / "no-such-file"),
        "RABBITMQ_CONFIG_FILE": str(box.folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(box.folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(box.data),
        "RABBITMQ_LOG_BASE": str(box.folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_NODENAME": f"{USER}@localhost",
        "RABBITMQ_DIST_PORT": str(box.ports["cluster"]),
        # Two schedulers: its many threads would spin on a small machine that others share.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
