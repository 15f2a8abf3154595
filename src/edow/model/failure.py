"""Why something failed, in a form that survives the wire and a year in a database."""

from __future__ import annotations

import msgspec

from edow.model.raw import OptionalRaw


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failure: `type` is the exception's qualified name, `kind` tells how it came about."""

    type: str
    message: str
    kind: str = "error"  # error | schedule_to_start | start_to_close | schedule_to_close | heartbeat
    #                      | poison | discarded | cancelled | terminated
    stack: str = ""
    args: OptionalRaw = None  # the exception's own arguments, where they have a JSON form
    retryable: bool = True
    step: str = ""
