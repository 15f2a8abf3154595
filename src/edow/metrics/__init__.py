"""Layer 4: what is measured, for Prometheus. Each metric is one line of a table; nothing else may be told."""
