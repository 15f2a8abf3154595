"""Layer 1: the pure heart. History + inputs + now -> a decision. No I/O, no clock, nothing made up."""
