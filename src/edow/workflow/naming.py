"""Names that authors give: of tasks, workflows, steps and ids. Refuses those that could be mistaken for made-up ones.

Step keys are made as `name`, `name#2` and `parent~1/name`; so those three signs are the engine's.
"""

from __future__ import annotations

from edow.errors import InvalidInput

MAX_NAME = 200
MAX_ID = 200
MAX_CHILD_ID = 10_000  # a child's id that was made up holds its parents' ids


def definition_name(name: object, what: str) -> str:
    """Of a task or workflow."""
    text = _text(name, what)
    _refuse(text, "#~/", what)
    if text.startswith("<"):
        raise InvalidInput(f"{what} {text!r} has no name of its own: use `async def` or give name=")
    return text


def step_name(name: object) -> str:
    """An explicit `step=`."""
    text = _text(name, "step")
    _refuse(text, "#~", "step")
    return text


def execution_id(value: object, limit: int = MAX_ID) -> str:
    """`value` itself, if it may name an execution. Never with a `/`, because step keys are `execution/run/step`."""
    if not isinstance(value, str):
        raise InvalidInput(f"execution id must be a string, not {type(value).__name__} ({value!r:.80})")
    if not value:
        raise InvalidInput("execution id '' is empty; give a name, or leave it out to get one made up")
    if len(value) > limit:
        raise InvalidInput(f"execution id {value[:40]!r}… has {len(value)} characters; the limit is {limit}")
    if "/" in value:
        raise InvalidInput(
            f"execution id {value!r} contains '/', which separates execution, run and step; use another character"
        )
    if value in (".", ".."):
        raise InvalidInput(f"execution id {value!r} is a step in a path, which browsers leave out; use another name")
    if not value.isprintable():
        raise InvalidInput(f"execution id {value!r} contains control characters; use printable ones")
    return value


def _text(name: object, what: str) -> str:
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable():
        return name
    raise InvalidInput(f"{what} name {name!r}: give a printable text of 1 to {MAX_NAME} characters")


def _refuse(text: str, signs: str, what: str) -> None:
    if found := [sign for sign in signs if sign in text]:
        raise InvalidInput(f"{what} name {text!r} holds {found[0]!r}, which EDOW uses to number steps")
