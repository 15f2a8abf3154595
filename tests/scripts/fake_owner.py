"""A test run that dies with a private server in its hands: prints the server's process id, then waits to be killed."""

import sys

from scripts.servers import private
from tests.scripts.fake import Fake

with private(Fake()) as server:
    running = server.running()
    print(running.pid if running else 0, flush=True)
    sys.stdin.read()
