"""Hosts of their own, as failure runs cut them off."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from scripts.failures.network import Host, network

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root, and iproute2")

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.5)"


def reaches(host: Host, server: socket.socket) -> bool:
    address, port = server.getsockname()
    asked = [*host.within, sys.executable, "-c", CONNECT, address, str(port)]
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_a_cable_that_is_pulled_cuts_off_one_host_from_one_side() -> None:
    """The other side, and other hosts, are reached all the same; once it is back in, so is this side."""
    with network() as made:
        here, there = made.add_host(), made.add_host()
        with (
            socket.create_server((made.address("database"), 0)) as database,
            socket.create_server((made.address("broker"), 0)) as broker,
        ):
            assert reaches(here, database)
            here.unplug("broker")
            assert not reaches(here, broker)
            assert reaches(here, database)
            assert reaches(there, broker)
            here.plug("broker")
            assert reaches(here, broker)


def test_nothing_is_left_behind() -> None:
    """Neither hosts nor switches."""
    with network() as made:
        name = made.add_host().name
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert name not in shown
    links = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    assert name.split("-")[1] not in links
