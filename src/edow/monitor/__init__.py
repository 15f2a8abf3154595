"""Layer 3: watches the system. Keeps its figures, evaluates objectives, raises alerts and tells incidents.

Any orchestrator may run it, beside others; it is needed for nothing that an execution does.
"""
