"""Layer 1, pure: what the system measures of itself. Figures that can be added up, in any order and by anybody.

Nothing here reads a clock or a store: the orchestrator hands over what it has committed, the monitor keeps it.
"""
