"""The API's limits and their defaults."""

from __future__ import annotations

import msgspec

from edow.errors import InvalidInput

MAX_BODY_BYTES = 4 * 1024 * 1024  # twice what one payload may take


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` and `burst`: requests per second, and at once, of one token or (without one) of one address."""

    max_body_bytes: int = MAX_BODY_BYTES
    rate: float = 100.0
    burst: int = 200
    longest_wait_seconds: float = 60.0  # of a request for a result
    most_waiting: int = 1000  # such requests at once, in one process
    hosts: tuple[str, ...] = ()  # names besides localhost under which clients on this machine may come without a token

    def checked(self) -> Settings:
        """Itself, if every limit is above zero. Raises InvalidInput."""
        limits = {name: getattr(self, name) for name in self.__struct_fields__ if name != "hosts"}
        for name, value in limits.items():
            if value <= 0:
                raise InvalidInput(f"{name} {value!r} must be above 0: every limit holds, none can be switched off")
        return self
