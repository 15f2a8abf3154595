"""JSON that may be absent. Decoding leaves it alone: only its author's and reader's types give it a meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    OptionalRaw = msgspec.Raw | None
else:
    # msgspec takes `Raw | None` for `None` and refuses everything else. With a default of None and `omit_defaults`, a
    # plain `Raw` does what is meant: absent is None, and `null` is a value like any other.
    OptionalRaw = msgspec.Raw
