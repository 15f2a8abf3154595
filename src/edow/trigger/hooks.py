"""Incoming webhooks: `POST /hooks/NAME` starts a workflow or signals an execution, once for each delivery.

The order of things: the hook, the size, the signature and its age, the payload, the delivery's id, the mapping; then
one transaction with the delivery's record and the start or signal. Whatever is refused is counted by reason; no secret
and no payload is logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

import msgspec

from edow.errors import InvalidInput, NotFound, RecordChanged
from edow.store.contract import Put, Store
from edow.trigger import references, signatures
from edow.trigger.action import DAY, Action, Applier, Beside, Claim, Intent, Plan, Result, digest
from edow.trigger.mapping import Expression
from edow.trigger.signatures import SCHEMES, Hmac, Refused, Request, Scheme
from edow.trigger.tally import Tally
from edow.workflow import codec

log = logging.getLogger("edow.trigger")

HOOKS = "hook"  # kinds of records
DELIVERIES = "delivery"
MAX_BODY = 1024 * 1024
MAX_DELIVERY_ID = 1000
MAX_SECRETS = 8
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
OUTCOMES = ("started", "attached", "signalled", "kept", "unmatched", "duplicate", "ignored", "challenge")
REASONS = ("signature", "timestamp", "payload", "mapping", "too_large", "media_type", "secret")

# What the scheme's senders call a delivery, where it is not in a header.
_IDS: Mapping[Scheme, str] = {"stripe": "body.id", "slack": "body.event_id || body.trigger_id"}


class Hook(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A definition. `secrets` are references or the secrets themselves; any of them is accepted."""

    name: str
    scheme: Scheme
    action: Action
    secrets: tuple[str, ...] = ()
    filter: str = ""  # an expression: deliveries for which it does not hold are answered, and do nothing
    delivery: str = ""  # an expression for the delivery's id; "": what the scheme has, else the body's digest
    hmac: Hmac = Hmac()
    tolerance: float = 300.0  # seconds that a signed timestamp may be off
    remember: float = 7 * DAY  # seconds for which a delivery's id is known

    def checked(self) -> Hook:
        """Itself, if it can be. Raises InvalidInput, without repeating a secret."""
        what = f"hook {self.name!r}"
        checked_name(self.name, "hook")
        if self.scheme not in SCHEMES:
            raise InvalidInput(f"scheme {self.scheme!r} of {what} is unknown: use {', '.join(SCHEMES)}")
        if self.scheme == "none" and self.secrets:
            raise InvalidInput(f"{what} has the scheme none, which looks at no secret; leave the secrets out")
        if self.scheme != "none" and not 1 <= len(self.secrets) <= MAX_SECRETS:
            raise InvalidInput(f"{what} needs 1 to {MAX_SECRETS} secrets, not {len(self.secrets)}")
        for secret in self.secrets:
            references.checked(secret)
            if not references.is_elsewhere(secret):
                signatures.check_secret(self.scheme, secret.encode())
        if not 1 <= self.tolerance <= DAY:
            raise InvalidInput(f"tolerance of {what} must be from 1 s to a day, not {self.tolerance:g} s")
        if not self.tolerance < self.remember <= 366 * DAY:
            raise InvalidInput(f"remember of {what} must be from tolerance to 366 days, not {self.remember:g} s")
        self.action.check(what)
        for name, text in (("filter", self.filter), ("delivery id", self.delivery)):
            if text:
                Expression(text, f"the {name} of {what}")
        return self

    def shown(self) -> dict[str, Any]:
        """For people and programs: without its secrets."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["secrets"] = [references.shown(secret) for secret in self.secrets]
        return found


class HookAnswer(msgspec.Struct, frozen=True):
    """What the sender is told."""

    status: int
    body: dict[str, object]
    outcome: str  # counted


class _No(Exception):
    """The answer is no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class HookDesk:
    """Receives deliveries, for as many processes as there are; what they know is in the store."""

    def __init__(self, store: Store, clock: Callable[[], int], process: str) -> None:
        """`clock` gives microseconds; `process` tells this one's counts from those of others."""
        self._store = store
        self._applier = Applier(store, clock)
        self.tally = Tally(store, clock, "hooks", process)

    async def receive(self, name: str, headers: Mapping[str, str], body: bytes, now: int) -> HookAnswer:
        """Names of headers in any case. Raises Unavailable when the store cannot be reached: the sender tries again."""
        headers = {key.lower(): value for key, value in headers.items()}
        [record] = await self._store.records_get(HOOKS, [name]) if NAME.fullmatch(name) else [None]
        if record is None:
            self.tally.add("?", "unknown")
            return _refusal(404, "NotFound", f"there is no hook {name[:100]!r}", "unknown")
        hook = decode(record.body)
        try:
            answer = await self._admit(hook, headers, body, now)
        except _No as no:
            self.tally.add(name, no.reason)
            log.warning("hook %s: refused with %d (%s)", name, no.status, no.reason)
            return _refusal(no.status, no.reason, str(no), no.reason)
        self.tally.add(name, answer.outcome, str(answer.body.get("execution", "")))
        return answer

    async def _admit(self, hook: Hook, headers: Mapping[str, str], body: bytes, now: int) -> HookAnswer:
        if len(body) > MAX_BODY:
            raise _No(413, "too_large", f"the body has more than {MAX_BODY:,} bytes")
        id = _verified(hook, Request(headers, body, now // 1_000_000, int(hook.tolerance)))
        payload = _decoded(headers.get("content-type", ""), body)
        if (answer := _greeting(hook, headers, payload)) is not None:
            return answer
        context: dict[str, object] = {"body": payload, "headers": headers, "digest": sha256(body).hexdigest()}
        try:
            if hook.filter and not Expression(hook.filter, f"the filter of hook {hook.name!r}").holds(context):
                return HookAnswer(200, {"status": "ignored"}, "ignored")
            plan = Plan(hook.action, f"hook {hook.name!r}")
            delivery = _delivery_id(hook, id, context)
            key = f"{hook.name}/{digest(delivery)}"
            made_up = f"{hook.action.workflow}-{digest(hook.name, delivery)[:20]}"
            execution = plan.key(context | {"delivery": delivery}) or made_up
            intent = plan.intent(context | {"delivery": delivery}, execution, _trace(headers))
        except InvalidInput as problem:
            raise _No(400, "mapping", str(problem)) from None
        claim = Claim("hooks", hook.name, DELIVERIES, key, now + round(hook.remember * 1_000_000))
        return _accepted(await self._once(intent, claim, _twin(hook, id, claim, body)))

    async def _once(self, intent: Intent, claim: Claim, twin: Claim | None) -> Result:
        """Neither if the delivery has been here, nor if its body has under another id."""
        if twin is None:
            return await self._applier.apply(intent, claim)
        result = msgspec.json.encode(Result("duplicate", intent.execution))
        put = Put(twin.kind, twin.key, result, 0, twin.expires_at, quiet=True)
        try:
            return await self._applier.apply(intent, claim, Beside([put]))
        except RecordChanged:
            if (done := await self._applier.done(twin)) is None:
                raise
            return done


def decode(body: bytes) -> Hook:
    """A record's body."""
    return msgspec.json.decode(body, type=Hook)


def checked_name(name: str, what: str) -> str:
    """Of a hook or a trigger: it becomes a part of URLs and of keys."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {name!r:.120}: use 1 to 100 letters, digits, dots, - and _, a letter or digit first"
        )
    return name


def _verified(hook: Hook, request: Request) -> str | None:
    secrets: list[bytes] = []
    missing: list[str] = []
    for reference in hook.secrets:
        try:
            secret = references.read(reference)
            signatures.check_secret(hook.scheme, secret)
            secrets.append(secret)
        except (NotFound, InvalidInput) as problem:
            missing.append(str(problem))
    if missing:
        log.error("hook %s: %s", hook.name, "; ".join(missing))
    if not secrets and hook.scheme != "none":
        raise _No(503, "secret", "no secret of this hook can be read here; the server's log says which")
    try:
        return signatures.verify(hook.scheme, request, secrets, hook.hmac)
    except Refused as problem:
        raise _No(401, problem.reason, str(problem)) from None


def _decoded(content_type: str, body: bytes) -> object:
    """JSON, or a form: GitHub and Slack send JSON in a form's field `payload`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM:
        return _form(body)
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise _No(415, "media_type", f"send application/json or {FORM}, not {kind:.100}")
    return _json(body)


def _form(body: bytes) -> object:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise _No(400, "payload", "the body is not a form in UTF-8") from None
    if list(fields) == ["payload"]:
        return _json(fields["payload"][0].encode())
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _json(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except (*codec.DECODE_ERRORS, UnicodeDecodeError):
        raise _No(400, "payload", "the body is not JSON") from None


def _greeting(hook: Hook, headers: Mapping[str, str], payload: object) -> HookAnswer | None:
    """What senders ask only to see whether somebody is there."""
    if hook.scheme == "github" and headers.get("x-github-event") == "ping":
        return HookAnswer(200, {"status": "pong"}, "challenge")
    if hook.scheme == "slack" and isinstance(payload, dict) and payload.get("type") == "url_verification":
        return HookAnswer(200, {"challenge": payload.get("challenge")}, "challenge")
    return None


def _delivery_id(hook: Hook, of_header: str | None, context: Mapping[str, object]) -> str:
    expression = hook.delivery or _IDS.get(hook.scheme, "")
    found = of_header if not hook.delivery else None
    if not found and expression:
        found = Expression(expression, f"the delivery id of hook {hook.name!r}").text_of(context)
        if not found and hook.delivery:
            raise InvalidInput(f"the delivery id of hook {hook.name!r} ({hook.delivery!r:.80}) finds nothing")
    if found and len(found) > MAX_DELIVERY_ID:
        raise InvalidInput(f"the delivery id has {len(found)} characters; the limit is {MAX_DELIVERY_ID}")
    return found or str(context["digest"])


def _twin(hook: Hook, of_header: str | None, claim: Claim, body: bytes) -> Claim | None:
    """Of what was signed, where neither a time nor the id is: whoever has recorded a request can send it again under
    another id. Not if the operator has said what tells deliveries apart.
    """
    timeless = hook.scheme == "github" or (hook.scheme == "hmac" and not hook.hmac.timestamp_header)
    if not timeless or of_header is None or hook.delivery:
        return None
    return msgspec.structs.replace(claim, key=f"{hook.name}/{digest('body', body)}")


def _trace(headers: Mapping[str, str]) -> str:
    given = headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else ""


def _accepted(result: Result) -> HookAnswer:
    """202: done now, and for the first time."""
    status = 200 if result.outcome in ("duplicate", "unmatched") else 202
    return HookAnswer(status, {"status": result.outcome, "execution": result.execution}, result.outcome)


def _refusal(status: int, error: str, message: str, outcome: str) -> HookAnswer:
    return HookAnswer(status, {"error": error, "message": message}, outcome)
