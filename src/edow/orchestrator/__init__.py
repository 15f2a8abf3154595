"""Layer 3, the orchestrator: takes inputs in batches, lets the engine decide, commits once, publishes what was
committed.
"""

from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.edges import Edges
from edow.orchestrator.orchestrator import Orchestrator

__all__ = ["Edges", "Orchestrator", "OrchestratorConfig"]
