"""Who acts, as the audit log remembers it, and what the roles may do."""

from __future__ import annotations

import getpass
from typing import Literal, get_args

import msgspec

Role = Literal["read", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may


class Actor(msgspec.Struct, frozen=True):
    """`name`: `cli:USER`, `token:NAME`, or `local` for whoever is on the same machine and needs no token."""

    name: str
    role: Role = "admin"
    address: str = ""

    def may(self, role: Role) -> bool:
        """Whether what needs this role is allowed."""
        return ROLES.index(self.role) >= ROLES.index(role)


def command_line() -> Actor:
    """Whoever is at the terminal."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        user = "unknown"
    return Actor(f"cli:{user}")
