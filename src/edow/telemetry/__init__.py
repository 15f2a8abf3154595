"""One trace from whoever starts an execution through every broker and worker to its result.

Spans have ids that are computed from what they are about (an execution, a step, an attempt). So processes that never
talk to each other agree on them, nothing has to be remembered for them, and what is said twice is one span.
"""
