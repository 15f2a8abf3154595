"""Incoming webhooks as operators make them and see them: flat, with durations as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edow.client.definitions import Definitions
from edow.client.link import Link
from edow.errors import InvalidInput
from edow.trigger import references
from edow.trigger.action import Action, Mode
from edow.trigger.hooks import HOOKS, OUTCOMES, REASONS, Hook
from edow.trigger.signatures import Hmac, Scheme
from edow.trigger.tally import Recent, latest, shown, totals
from edow.workflow.duration import seconds


class ActionSpec(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be done. `id`, `input` and `value` are JMESPath expressions; durations are like "30s", "1d"."""

    mode: Mode = "start"
    workflow: str = ""
    signal: str = ""
    id: str = ""
    input: str = "body"
    value: str = "body"
    singleton: bool = False
    keep: str = "1d"

    def action(self) -> Action:
        """Raises InvalidInput."""
        return Action(
            mode=self.mode,
            workflow=self.workflow,
            signal=self.signal,
            id=self.id,
            input=self.input,
            value=self.value,
            singleton=self.singleton,
            keep=seconds(self.keep, "keep"),
        )


class ActionView(msgspec.Struct, kw_only=True, frozen=True):
    """The same as it is shown."""

    mode: Mode
    workflow: str
    signal: str
    id: str
    input: str
    value: str
    singleton: bool
    keep_seconds: float


def of_action(action: Action) -> dict[str, object]:
    """The fields of an ActionView."""
    found: dict[str, object] = {name: getattr(action, name) for name in action.__struct_fields__ if name != "keep"}
    return found | {"keep_seconds": action.keep}


class HookSpec(ActionSpec, kw_only=True, frozen=True):
    """A hook to be made. `secrets`: env:NAME, file:/PATH, or the secret itself; any of them is accepted."""

    name: str
    scheme: Scheme
    secrets: list[str] = []
    filter: str = ""
    delivery: str = ""
    hmac: Hmac | None = None
    tolerance: str = "5m"
    remember: str = "7d"

    def hook(self) -> Hook:
        """Raises InvalidInput."""
        if self.hmac is not None and self.scheme != "hmac":
            raise InvalidInput(f"hook {self.name!r} has the scheme {self.scheme}; only the scheme hmac has settings")
        return Hook(
            name=self.name,
            scheme=self.scheme,
            action=self.action(),
            secrets=tuple(self.secrets),
            filter=self.filter,
            delivery=self.delivery,
            hmac=self.hmac or Hmac(),
            tolerance=seconds(self.tolerance, "tolerance"),
            remember=seconds(self.remember, "remember"),
        ).checked()


class HookView(ActionView, kw_only=True, frozen=True):
    """A hook as it is shown: where its secrets are, not what they are; and what its deliveries came to."""

    name: str
    scheme: Scheme
    secrets: list[str]
    filter: str
    delivery: str
    hmac: Hmac | None
    tolerance_seconds: float
    remember_seconds: float
    counts: dict[str, int]


class Hooks:
    """The incoming webhooks of one store."""

    def __init__(self, link: Link) -> None:
        self._store = link.store
        self._all = Definitions(link, HOOKS, "hook", Hook)

    async def create(self, spec: HookSpec) -> HookView:
        """Raises InvalidInput, AlreadyExists."""
        hook = spec.hook()
        await self._all.make(hook.name, hook, {"scheme": hook.scheme, "mode": hook.action.mode})
        return _view(hook, {})

    async def list(self) -> list[HookView]:
        """All of them, by name."""
        counts = await totals(self._store, "hooks")
        return [_view(hook, counts.get(hook.name, {})) for hook in await self._all.list()]

    async def get(self, name: str) -> HookView:
        """Raises NotFound."""
        hook = await self._all.get(name)
        return _view(hook, (await totals(self._store, "hooks", name)).get(name, {}))

    async def rotate(self, name: str, secret: str | None = None) -> HookView:
        """With a new `secret`: it is accepted beside the newest of those there are. Without: only the newest from now
        on. Raises NotFound, InvalidInput.
        """

        def change(hook: Hook) -> Hook:
            if not hook.secrets:
                raise InvalidInput(f"hook {name!r} has the scheme none, and so no secret to rotate")
            kept = (secret, hook.secrets[0]) if secret is not None else hook.secrets[:1]
            return msgspec.structs.replace(hook, secrets=kept).checked()

        hook = await self._all.change(name, change, "rotate", {"finished": secret is None})
        return _view(hook, (await totals(self._store, "hooks", name)).get(name, {}))

    async def recent(self, name: str | None = None) -> Mapping[str, Sequence[Recent]]:
        """What its last deliveries came to, the newest first, by name; of all, or of one."""
        return await latest(self._store, "hooks", name)

    async def delete(self, name: str) -> None:
        """From now on it is not found. Raises NotFound."""
        await self._all.delete(name)


def _view(hook: Hook, counts: Mapping[str, int]) -> HookView:
    return HookView(
        **of_action(hook.action),  # type: ignore[arg-type]
        name=hook.name,
        scheme=hook.scheme,
        secrets=[references.shown(secret) for secret in hook.secrets],
        filter=hook.filter,
        delivery=hook.delivery,
        hmac=hook.hmac if hook.scheme == "hmac" else None,
        tolerance_seconds=hook.tolerance,
        remember_seconds=hook.remember,
        counts=shown(counts, (*OUTCOMES, *REASONS)),
    )
