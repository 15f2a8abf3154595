"""Hosts of their own on this machine: network namespaces, each with two cables, one to the database's switch and one
to the broker's. A cable is pulled as a hand would pull it: what is sent vanishes, and nobody is told.

Needs root, and `ip`, which is installed. Promises that nothing of it is left behind by whoever closes it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE, STDOUT, run
from typing import Literal

from scripts.servers import Trouble
from scripts.servers.install import Tools
from scripts.servers.services import home

Side = Literal["database", "broker"]
SIDES: tuple[Side, ...] = ("database", "broker")
SERVERS_NUMBER = 1  # of the address at which this machine's own servers are, on either side
FIRST_NUMBER = 10

Ip = Callable[..., None]


class Host:
    """`within` is what a command begins with that is to run there."""

    def __init__(self, ip: Ip, name: str, cables: dict[Side, str], switches: dict[Side, str]) -> None:
        self.name = name
        self.within = ("ip", "netns", "exec", name)
        self._ip = ip
        self._cables = cables
        self._switches = switches

    def unplug(self, side: Side) -> None:
        self._ip("link", "set", self._cables[side], "nomaster")

    def plug(self, side: Side) -> None:
        self._ip("link", "set", self._cables[side], "master", self._switches[side])


class Network:
    """The two switches. `address` is where servers listen so that the hosts can reach them."""

    def __init__(self, ip: Ip) -> None:
        self._ip = ip
        self._token = secrets.token_hex(2)
        # 198.18.0.0/15 is set apart for tests of networks; nobody routes it.
        self._subnet = secrets.randbelow(256)
        self._switches: dict[Side, str] = {side: f"edow{self._token}{side[0]}" for side in SIDES}
        self._hosts: list[str] = []

    def address(self, side: Side, number: int = SERVERS_NUMBER) -> str:
        return f"198.{18 + SIDES.index(side)}.{self._subnet}.{number}"

    def open(self) -> None:
        for side, switch in self._switches.items():
            self._ip("link", "add", switch, "type", "bridge")
            self._ip("address", "add", f"{self.address(side)}/24", "dev", switch)
            self._ip("link", "set", switch, "up")

    def add_host(self) -> Host:
        """One more, with both cables plugged in."""
        number = len(self._hosts)
        name = f"edow-{self._token}-{number}"
        self._ip("netns", "add", name)
        self._hosts.append(name)
        self._ip("-n", name, "link", "set", "lo", "up")
        cables: dict[Side, str] = {side: f"ed{self._token}{side[0]}{number}" for side in SIDES}
        host = Host(self._ip, name, cables, self._switches)
        for side, cable in cables.items():
            self._ip("link", "add", cable, "type", "veth", "peer", "name", side, "netns", name)
            self._ip("-n", name, "address", "add", f"{self.address(side, FIRST_NUMBER + number)}/24", "dev", side)
            self._ip("-n", name, "link", "set", side, "up")
            self._ip("link", "set", cable, "up")
            host.plug(side)
        return host

    def close(self) -> None:
        """A namespace takes its ends of the cables with it, and those the other ends."""
        for name in self._hosts:
            self._ip("netns", "delete", name)
        for switch in self._switches.values():
            self._ip("link", "delete", switch)


@contextmanager
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        raise Trouble("hosts of their own need root", remedy="run it as root, or choose other faults with --fault.")
    program = Tools(home() / "tools").program("ip", "iproute2")

    def ip(*arguments: str) -> None:
        result = run([program, *arguments], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, check=False)
        if result.returncode != 0:
            raise Trouble(f"ip {' '.join(arguments)}: {result.stdout.decode(errors='replace').strip()}")

    made = Network(ip)
    try:
        made.open()
        yield made
    finally:
        made.close()
