"""Failure runs: thousands of executions under way on real servers while a process or a server dies, stops or restarts.

`python -m scripts.failures --help`. Nothing may be stuck, lost or applied twice, and the recovery time is printed.
"""
