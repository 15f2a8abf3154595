"""Layer 3: runs tasks. A worker is stateless: it takes task events from a transport and answers with result events.

Two threads share the work. The I/O loop (the caller's) talks to the broker, renews leases and watches the time; user
code runs elsewhere: on the task loop, in threads or in processes. So nothing a task does can stop a renewal.
"""
