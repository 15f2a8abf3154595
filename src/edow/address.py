"""Where a store or a broker is: one URL, its secrets kept out of everything a person might read.

scheme://user:password@host:port,host:port/path?option=value&option=value
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from edow.errors import InvalidInput

Settings = TypeVar("Settings", bound=msgspec.Struct)

_SECRET = re.compile(r"password|passphrase|secret|token|credential|key$|\.pem$|jaas", re.IGNORECASE)
_HIDDEN = "***"
_TOKENS = {"nats"}  # schemes where what stands alone before the @ is no name, but a secret


class Address:
    """A parsed URL. `str()` and `repr()` show no secret; user and password are decoded.

    Raises InvalidInput for what is no URL, or names an option twice.
    """

    def __init__(self, url: str) -> None:
        scheme, mark, rest = url.partition("://")
        if not mark or not scheme:
            raise InvalidInput(
                f"{_without_secrets(url)!r} is not a URL: write SCHEME://HOST, such as redis://localhost"
            )
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if "@" in path or any("@" in part.partition("=")[0] for part in query.split("&")):
            raise InvalidInput(
                f"{scheme}://{_HIDDEN}: there is an @ behind a / or ?; in a password write %2F for / and %3F for ?"
            )
        credentials, at, hosts = authority.rpartition("@")
        user, colon, password = credentials.partition(":")
        self.url = url.replace("#", "%23")  # here it has no meaning, and client libraries would cut there
        self.scheme = scheme.lower()
        self.user = unquote(user) if at else None
        self.password = unquote(password) if colon else None
        self.hosts = [host for host in hosts.split(",") if host]
        self.path = unquote(path) if slash else ""
        self.options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in self.options:
                raise InvalidInput(f"{self}: option {name!r} is given twice")
            self.options[name] = value

    def settings(
        self, kind: type[Settings], passed_on: Callable[[str], bool] = lambda name: False
    ) -> tuple[Settings, dict[str, str]]:
        """The options as a struct, and those (`passed_on` says which) that are the client library's own.

        Raises InvalidInput for an option that nobody knows, or a value of the wrong type.
        """
        others = {name: value for name, value in self.options.items() if passed_on(name)}
        mine = {name: value for name, value in self.options.items() if name not in others}
        known = msgspec.structs.fields(kind)
        for name in mine:
            if name not in {field.encode_name for field in known}:
                names = ", ".join(sorted(field.encode_name for field in known))
                raise InvalidInput(f"{self}: there is no option {name!r}; there are: {names or 'none'}")
        try:
            return msgspec.convert(mine, kind, strict=False), others
        except msgspec.ValidationError as problem:
            raise InvalidInput(f"{self}: {problem}") from problem

    def __str__(self) -> str:
        credentials = ""
        if self.user is not None:
            user = _HIDDEN if self.password is None and self.scheme in _TOKENS else quote(self.user)
            credentials = user + (f":{_HIDDEN}" if self.password is not None else "") + "@"
        options = "&".join(
            f"{name}={_HIDDEN if _SECRET.search(name) else value}" for name, value in self.options.items()
        )
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}://{credentials}{','.join(self.hosts)}{path}{'?' if options else ''}{options}"

    __repr__ = __str__


def _without_secrets(text: str) -> str:
    return f"{_HIDDEN}@{text.rpartition('@')[2]}" if "@" in text else text
