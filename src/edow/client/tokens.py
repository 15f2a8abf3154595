"""Bearer tokens: `edow_NAME.SECRET`, of which the store keeps the name, the role and a hash of the secret.

A token that has expired stays in the list until it is revoked: were the last one to vanish by itself, clients on
the same machine would be served without one again, and nobody had decided that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

import msgspec

from edow.client.actor import ROLES, Role
from edow.client.link import Link
from edow.errors import AlreadyExists, InvalidInput, NotFound, RecordChanged
from edow.model.times import rfc3339
from edow.store.contract import Put, Record, RecordFilter

KIND = "token"
PREFIX = "edow_"
SECRET_BYTES = 32
MOST = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Times in microseconds; `digest`: SHA-256 of the secret, which has 256 random bits and so needs no salt."""

    name: str
    role: Role
    digest: str
    created_at: int
    created_by: str = ""
    expires_at: int | None = None


_decoder = msgspec.json.Decoder(Token)
_NOBODY = hashlib.sha256(b"").hexdigest()


class Tokens:
    """The tokens of one store."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def create(self, name: str, role: Role, lasts_us: int | None = None) -> str:
        """Make a token and answer its text, which is nowhere else. Raises InvalidInput, AlreadyExists."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"token name {name!r}: give 1 to 64 letters, digits, - and _, a letter or digit first")
        if role not in ROLES:
            raise InvalidInput(f"role {role!r} is unknown: use {', '.join(ROLES)}")
        if len(await self.list()) >= MOST:
            raise InvalidInput(f"there are {MOST} tokens already: revoke those that nobody needs")
        secret, now = secrets.token_urlsafe(SECRET_BYTES), self._link.clock()
        token = Token(
            name=name,
            role=role,
            digest=_digest(secret),
            created_at=now,
            created_by=self._link.actor.name if self._link.actor else "",
            expires_at=None if lasts_us is None else now + lasts_us,
        )
        put = Put(KIND, name, msgspec.json.encode(token), if_version=0)
        try:
            until = None if token.expires_at is None else rfc3339(token.expires_at)
            await self._link.act("token.create", name, {"role": role, "expires_at": until}, puts=[put])
        except RecordChanged as problem:
            raise AlreadyExists(f"token {name!r} exists already; revoke it first, or choose another name") from problem
        return f"{PREFIX}{name}.{secret}"

    async def list(self) -> Sequence[Token]:
        """All of them, by name, also those that have expired."""
        return [_token(each) for each in await self._link.store.records_list(RecordFilter(KIND, limit=MOST))]

    async def revoke(self, name: str) -> None:
        """From now on it is not valid. Raises NotFound."""
        [record] = await self._link.store.records_get(KIND, [name])
        if record is None:
            raise NotFound(f"there is no token {name!r}; `edow token list` shows what there is")
        await self._link.act("token.revoke", name, {}, puts=[Put(KIND, name, None)])

    async def check(self, text: str) -> Token | None:
        """The token of this text, if it is valid now. Takes as long for a wrong secret as for a right one."""
        name, _, secret = text.removeprefix(PREFIX).partition(".")
        record = None
        if text.startswith(PREFIX) and _NAME.fullmatch(name):
            [record] = await self._link.store.records_get(KIND, [name])
        token = None if record is None else _token(record)
        right = hmac.compare_digest(_digest(secret), token.digest if token else _NOBODY)
        if token is None or not right:
            return None
        return token if token.expires_at is None or self._link.clock() < token.expires_at else None

    async def any(self) -> bool:
        """Whether there are tokens, be they valid or not."""
        return bool(await self._link.store.records_list(RecordFilter(KIND, limit=1)))


def _token(record: Record) -> Token:
    return _decoder.decode(record.body)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
