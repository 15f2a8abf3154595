"""moto: Amazon's SNS and SQS together, in memory. It remembers nothing over a restart, and takes any credentials."""

from __future__ import annotations

from pathlib import Path

from .box import Box
from .install import Tools
from .ports import HOST, answers_http
from .process import Command

NAME = "moto"
TITLE = "moto (SNS and SQS)"
VARIABLE = "EDOW_SQS"
PORTS = {"main": 5566}
START_SECONDS = 60.0
ACCOUNT = None
REGION = "eu-west-1"

_PROGRAM = Path(__file__).parent / "moto_server" / "main.py"


def install(tools: Tools) -> None:
    tools.python(NAME)


def command(box: Box) -> Command:
    python = box.tools.python(NAME) / "python"
    return Command([python, _PROGRAM, "--host", HOST, "--port", str(box.port)], box.options)


def ready(box: Box) -> bool:
    return answers_http(box.port, "/moto-api/")


def url(box: Box) -> str:
    return f"sqs://edow:edow-development@{REGION}?endpoint=http://{HOST}:{box.port}"
