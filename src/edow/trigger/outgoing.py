"""Outgoing webhooks: what ended is told to endpoints, signed by Standard Webhooks, for days if need be.

That an execution has ended is written down in the transaction that ends it, as a message for each endpoint that wants
to know; so no crash comes between the end and the message. A message is sent until the endpoint takes it: the next
attempt is written down before each, so a process that dies while it sends loses nothing, and two processes do not send
at once. After the last attempt it becomes a dead letter, from which it can be sent again. The id of a message is the
same at every attempt.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from edow.errors import InvalidInput, NotFound
from edow.model.execution import Execution
from edow.model.failure import Failure
from edow.model.times import rfc3339
from edow.store.contract import Put, Store
from edow.trigger import addresses, references, signatures
from edow.trigger.action import digest
from edow.trigger.hooks import MAX_SECRETS, NAME, checked_name
from edow.workflow import codec

OUTGOING = "outgoing"  # kind of records
ENDPOINTS = "endpoint/"  # keys: definitions,
MESSAGES = "message/"  # what is to be sent,
DUE = "due/"  # and when, as an index
STATUSES = ("completed", "failed", "cancelled", "terminated")
OUTCOMES = ("delivered", "failed_attempt", "dead_letter")
# Seconds before each attempt but the first: three days in all.
BACKOFF = (5, 30, 120, 600, 1800, 3600, 7200, 18_000, 36_000, 50_400, 64_800, 79_200)
LONGEST_US = 4 * 86_400 * 1_000_000
MAX_BODY = 256 * 1024

_json = msgspec.json.encode


class Retiring(msgspec.Struct, frozen=True):
    """A secret that has been replaced, and signs beside the new one until then."""

    secret: str
    until: int


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A definition. `workflows` and `statuses`: of which ends it is told; of none if it is for alerts alone."""

    name: str
    url: str
    secrets: tuple[str, ...]
    workflows: tuple[str, ...] = ("*",)  # names, or a beginning with * behind it
    statuses: tuple[str, ...] = STATUSES
    results: bool = False  # whether results are sent, too
    retiring: tuple[Retiring, ...] = ()

    def checked(self) -> Endpoint:
        """Itself, if it can be. Raises InvalidInput, without repeating a secret."""
        checked_name(self.name, "endpoint")
        addresses.checked(self.url)
        count = len(self.secrets) + len(self.retiring)
        if not self.secrets or count > MAX_SECRETS:
            raise InvalidInput(f"endpoint {self.name!r} needs 1 to {MAX_SECRETS} secrets, not {count}")
        for secret in self.secrets:
            references.checked(secret)
            if not references.is_elsewhere(secret):
                signatures.check_secret("standard-webhooks", secret.encode())
        for status in self.statuses:
            if status not in STATUSES:
                raise InvalidInput(f"status {status!r} is no end of an execution: use {', '.join(STATUSES)}")
        return self

    def rotated(self, secret: str, now: int, keep_us: int) -> Endpoint:
        """With a new secret, which those that there were sign beside for so long. Raises InvalidInput."""
        old = [each for each in self.retiring if each.until > now]
        if keep_us:
            old += [Retiring(each, now + keep_us) for each in self.secrets]
        return msgspec.structs.replace(self, secrets=(secret,), retiring=tuple(old)).checked()

    def wants(self, row: Execution) -> bool:
        """Whether it is told of this end."""
        return row.status in self.statuses and any(_fits(pattern, row.workflow) for pattern in self.workflows)


class Sending(msgspec.Struct, frozen=True):
    """A message on its way. `id`: what the receiver knows it by."""

    id: str
    endpoint: str
    type: str
    body: msgspec.Raw
    due_at: int
    attempts: int = 0
    created_at: int = 0

    @property
    def key(self) -> str:
        return MESSAGES + self.id

    @property
    def index(self) -> str:
        return f"{DUE}{self.due_at:020d}/{self.id}"

    def puts(self) -> list[Put]:
        """What writes it down."""
        return [Put(OUTGOING, self.key, _json(self)), Put(OUTGOING, self.index, b"")]


def new_secret() -> str:
    """For an endpoint whose receiver has none yet."""
    return signatures.PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def message(endpoint: str, type: str, data: object, now: int, id: str | None = None) -> list[Put]:
    """What enqueues a message, to be written in the transaction of whatever it tells of. The same `id` is the same
    message. Raises NotEncodable, PayloadTooLarge.
    """
    body = codec.encode({"type": type, "timestamp": rfc3339(now), "data": data}, f"the webhook {type!r}")
    if len(bytes(body)) > MAX_BODY:
        raise InvalidInput(f"the webhook {type!r} takes {len(bytes(body)):,} bytes; the limit is {MAX_BODY:,}")
    name = "msg_" + (digest(endpoint, id) if id is not None else secrets.token_hex(16))
    return Sending(name, endpoint, type, body, now, 0, now).puts()


async def enqueue(store: Store, endpoint: str, type: str, data: object, now: int, id: str | None = None) -> None:
    """Send it, from now on, by whichever orchestrator comes first. Raises NotFound."""
    if not await is_endpoint(store, endpoint):
        raise NotFound(f"there is no endpoint {endpoint!r}; `edow endpoint list` shows what there is")
    await store.records_put(message(endpoint, type, data, now, id), now)


async def is_endpoint(store: Store, name: str) -> bool:
    """Whether an operator has made it."""
    [record] = await store.records_get(OUTGOING, [ENDPOINTS + name]) if NAME.fullmatch(name) else [None]
    return record is not None


def of_end(row: Execution, endpoints: Sequence[Endpoint], now: int) -> list[Put]:
    """What tells the endpoints that want to know, and the one that the start has named, that this run has ended: a part
    of the commit that ends it.
    """
    told = {endpoint.name: endpoint.results for endpoint in endpoints if endpoint.wants(row)}
    if row.notify:  # known here or not: one that is not there by then is a dead letter, and no silence
        told[row.notify] = any(endpoint.results for endpoint in endpoints if endpoint.name == row.notify)
    puts: list[Put] = []
    for name, results in told.items():
        id = f"{row.id}/{row.run}"
        kind = f"execution.{row.status}"
        try:
            puts += message(name, kind, _data(row, results), now, id)
        except InvalidInput:
            puts += message(name, kind, _data(row, False), now, id)
    return puts


def headers(sending: Sending, keys: Sequence[bytes], at: int) -> dict[str, str]:
    """Signed with each of the keys: the receiver knows at least one of them. `at`: seconds."""
    body = bytes(sending.body)
    signed = [signatures.standard_signature(key, sending.id, at, body) for key in keys]
    return {
        "Content-Type": "application/json",
        "User-Agent": "edow",
        "webhook-id": sending.id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signed),
    }


def next_attempt(sending: Sending, now: int) -> Sending | None:
    """The same after one more attempt; None: there is none left, or it waits for too long, because others wait, too.
    Spread by up to a tenth, each message its own way.
    """
    if sending.attempts >= len(BACKOFF) or (sending.created_at and now - sending.created_at > LONGEST_US):
        return None
    spread = 1 + int(digest(sending.id)[:4], 16) / 0xFFFF / 10
    due_at = now + round(BACKOFF[sending.attempts] * spread * 1_000_000)
    return msgspec.structs.replace(sending, attempts=sending.attempts + 1, due_at=due_at)


def _data(row: Execution, results: bool) -> Mapping[str, object]:
    data: dict[str, object] = {
        "id": row.id,
        "workflow": row.workflow,
        "run": row.run,
        "status": row.status.value,
        "correlation": row.correlation,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at) if row.ended_at is not None else None,
    }
    if row.failure is not None:
        failure = msgspec.json.decode(row.failure, type=Failure)
        data["failure"] = {"type": failure.type, "message": failure.message, "step": failure.step}
    if results and row.result is not None:
        data["result"] = row.result
    return data


def _fits(pattern: str, workflow: str) -> bool:
    return workflow.startswith(pattern[:-1]) if pattern.endswith("*") else workflow == pattern
