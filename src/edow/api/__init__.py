"""Layer 4, the HTTP API: one module of routes per resource, put together by `application`.

It acts through the client alone, so that what may be done by HTTP is what may be done at all. Every route says who may
use it (`edow.api.routes.allows`); one that says nothing is served to nobody.
"""

from edow.api.application import application
from edow.api.settings import Settings

__all__ = ["Settings", "application"]
