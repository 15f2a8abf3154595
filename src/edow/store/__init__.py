"""Layer 2, state: what is remembered. `contract` says what every store promises; each driver is a folder."""
