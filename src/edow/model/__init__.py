"""The vocabulary: frozen facts and legal transitions that every other package speaks in. No I/O, no clock.

Times are integers, microseconds since the Unix epoch, UTC, and are named `at`, `due` or `..._at`.
Payloads are JSON bytes (`msgspec.Raw`) that only their author's and reader's types give a meaning.
"""
