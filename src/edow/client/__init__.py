"""Layer 4, the client: starts executions and talks to them through the store alone.

It promises that what it reports as accepted is on disk, and knows no workflow code
beyond the signature it is handed.
"""

from edow.client.client import Client
from edow.client.handle import Handle

__all__ = ["Client", "Handle"]
