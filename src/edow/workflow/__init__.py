"""Layer 1: what authors write with. Tasks, workflows, sagas, retries and the functions available inside a workflow."""
