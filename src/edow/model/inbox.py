"""What clients and other executions ask of an execution, as stored in the inbox until its shard's owner has acted on
it.
"""

from __future__ import annotations

import msgspec

from edow.model.failure import Failure
from edow.model.raw import OptionalRaw


class Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", kw_only=True):
    """Base of all inbox commands. The execution they are for is a column of its own."""


class Start(Command, frozen=True, tag="start"):
    """The execution's row and its first history segment are stored; begin. `continued`: the run before has ended by
    itself; otherwise it was replaced, and workers may still be busy with it.
    """

    run: int = 1
    continued: bool = False


class Signal(Command, frozen=True, tag="signal"):
    name: str
    payload: msgspec.Raw
    sender: str = ""  # the execution that sent it

    def unheard(self, why: str) -> str:
        """What is said of a signal that nobody can hear."""
        sender = f" from execution {self.sender!r}" if self.sender else ""
        return f"signal {self.name!r}{sender} is dropped: {why}"


class Cancel(Command, frozen=True, tag="cancel"):
    reason: str = ""


class Terminate(Command, frozen=True, tag="terminate"):
    reason: str = ""


class Redrive(Command, frozen=True, tag="redrive"):
    """Run the step of a dead letter again, with other arguments when `args` is given."""

    run: int
    step: str
    args: OptionalRaw = None


class Discard(Command, frozen=True, tag="discard"):
    """Answer the step of a dead letter with an error."""

    run: int
    step: str
    reason: str = ""


class Pause(Command, frozen=True, tag="pause"):
    """Park the execution until it is resumed."""

    reason: str = ""


class Resume(Command, frozen=True, tag="resume"):
    """Go on with an execution that is parked or paused, with today's code."""


class ChildEnded(Command, frozen=True, tag="child_ended"):
    run: int  # of the parent
    step: str
    result: OptionalRaw = None
    failure: Failure | None = None


LASTING = Signal | Cancel | Terminate | Pause
"""Commands that name no run: what comes after continue-as-new is for the next."""
AnyCommand = Start | Signal | Cancel | Terminate | Redrive | Discard | Pause | Resume | ChildEnded

encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
decode = _decoder.decode
