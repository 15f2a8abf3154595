"""Which workflow `FILE_OR_MODULE:WORKFLOW` means, and how a JSON value becomes its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

from edow.errors import InvalidInput, NotFound, SignatureMismatch
from edow.workflow import codec
from edow.workflow.definition import Workflow
from edow.workflow.registry import Registry
from edow.workflow.signature import Arguments

AnyWorkflow = Workflow[..., Any]


def load_target(target: str) -> tuple[Registry, AnyWorkflow]:
    """`shop.py:fulfil`, `package.module:fulfil`, or just the module when it has one workflow."""
    module, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    if not module:
        raise InvalidInput(f"{target!r} names no workflow; write FILE.py:WORKFLOW or package.module:WORKFLOW")
    registry = load_code([module])
    return registry, registry.workflows[name] if name in registry.workflows else _find(registry, module, name)


def load_code(targets: Sequence[str]) -> Registry:
    """Tasks and workflows of files and modules. Raises NotFound, InvalidInput."""
    from edow.app import load_registry

    try:
        return load_registry(targets)
    except SystemExit as problem:
        raise InvalidInput(
            f"{', '.join(map(repr, targets))} cannot be imported: it ends the process (exit code {problem.code}); "
            'put what it does when run as a program under `if __name__ == "__main__":`'
        ) from problem


def _find(registry: Registry, module: str, name: str) -> AnyWorkflow:
    """By the function's name, or the only one there is."""
    found = list(registry.workflows.values())
    if name:
        found = [each for each in found if each.fn.__name__ == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(registry.workflows)) or "none"
    if name:
        raise NotFound(f"there is no workflow {name!r} in {module!r}; it has {known}")
    raise InvalidInput(f"{module!r} has {len(registry.workflows)} workflows; name one as {module}:NAME out of {known}")


def bind(workflow: AnyWorkflow, value: Any) -> Arguments:
    """An object is parameters by name, an array is positional; what is neither is the only parameter there has to be.

    Raises SignatureMismatch naming what does not fit.
    """
    parameters = inspect.signature(workflow.fn).parameters
    required = [name for name, parameter in parameters.items() if parameter.default is Parameter.empty]
    only = required[0] if len(required) == 1 else next(iter(parameters)) if len(parameters) == 1 else None
    named = _named(list(parameters), value)
    if only is None:
        if named is None:
            raise SignatureMismatch(f"{value!r:.60} does not fit {workflow.signature}; give a JSON object by name")
        return _typed(workflow, named)
    try:
        return _typed(workflow, {only: value} if named is None else named)
    except SignatureMismatch:
        if named is None or (isinstance(value, dict) and only in value):
            raise
    return _typed(workflow, {only: value})


def _named(names: list[str], value: Any) -> dict[str, Any] | None:
    """The value as parameters by name, if it is an object or an array."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) <= len(names):
        return dict(zip(names, value, strict=False))
    return None


def _typed(workflow: AnyWorkflow, values: dict[str, Any]) -> Arguments:
    return workflow.signature.decode_args(codec.encode(values, f"the input of {workflow.what}"))


def topic_names(modules: Sequence[str] | None) -> list[str]:
    """The task topics that these modules declare, and the default one."""
    if not modules:
        return ["default"]
    return sorted({"default"} | {task.policy.topic for task in load_code(modules).tasks.values()})
