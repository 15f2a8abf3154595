"""A command's spans go to the collector that the environment names, if it names one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edow.telemetry import exporter


@contextmanager
def traced(what: str) -> Iterator[exporter.Exporter | None]:
    """For as long as it lasts; what is left is sent at the end. Raises InvalidInput without the extra `edow[otel]`."""
    if not exporter.is_wanted():
        yield None
        return
    connected = exporter.connect(f"edow-{what.replace(' ', '-')}")
    try:
        yield connected
    finally:
        connected.close()
