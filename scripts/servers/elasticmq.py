"""ElasticMQ: SQS alone, stricter about its rules than moto. It remembers nothing over a restart."""

from __future__ import annotations

from pathlib import Path

from .box import Box
from .install import Tools
from .ports import HOST, answers_http
from .process import Command

NAME = "elasticmq"
TITLE = "ElasticMQ"
VARIABLE = "EDOW_ELASTICMQ"
PORTS = {"main": 9324}
START_SECONDS = 60.0
ACCOUNT = None
REGION = "eu-west-1"

_HEAP = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]

_SETTINGS = """\
node-address {{ protocol = http, host = "{host}", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-hostname = "{host}", bind-port = {port}, sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = {region}, accountId = 000000000000 }}
"""


def install(tools: Tools) -> None:
    tools.java()
    tools.jars(NAME)


def command(box: Box) -> Command:
    file = box.folder / "elasticmq.conf"
    extra = "".join(f"{name} = {value}\n" for name, value in box.options.items())
    file.write_text(_SETTINGS.format(host=HOST, port=box.port, region=REGION) + extra)
    java: list[str | Path] = [box.tools.java(), *_HEAP, f"-Dconfig.file={file}", "-cp", f"{box.tools.jars(NAME)}/*"]
    return Command([*java, "org.elasticmq.server.Main"])


def ready(box: Box) -> bool:
    return answers_http(box.port, "/?Action=ListQueues")


def url(box: Box) -> str:
    return f"sqs://edow:edow-development@{REGION}?sns=none&endpoint=http://{HOST}:{box.port}"
