"""Every transport that can be reached, for tests of the whole system on each of them."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.servers import server_url

SERVERS = ("POSTGRES", "REDIS", "RABBITMQ", "NATS", "KAFKA", "PUBSUB", "SQS", "ELASTICMQ")
BROKERS = tuple(name for name in SERVERS if name != "ELASTICMQ")  # each driver once
OPTION = {"POSTGRES": "schema"}  # what sets a part of the server apart


def url_of(name: str, folder: Path) -> str:
    """A transport of this test's own; the test is skipped where the server is not up."""
    if name == "SQLITE":
        return f"sqlite:///{folder / 'transport.db'}"
    url = server_url(f"EDOW_{name}")
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{OPTION.get(name, 'prefix')}=t{uuid4().hex[:8]}{'' if name in OPTION else '.'}"


each_transport = pytest.mark.parametrize("name", ["SQLITE", *SERVERS])
