"""Parameters in a URL: those that a route does not know are refused.

A filter that is misspelt and passed over would select everything, for a script that acts on what it has listed.
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from edow.api.problems import Refused, query_names


def refuse_unknown_queries(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard. Raises Refused (422)."""
    known = set(query_names(handler).values())
    for name in connection.query_params:
        if name not in known:
            those = f"known are {', '.join(sorted(known))}" if known else "this route takes none"
            raise Refused(422, f"{name[:100]!r} is no parameter of this URL; {those}")
