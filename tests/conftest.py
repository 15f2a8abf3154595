"""What every test shares."""

import signal

import pytest

# The shared suites are not named test_*.py, and their asserts should explain themselves too.
pytest.register_assert_rewrite("tests.conformance")


def pytest_configure() -> None:
    """Processes that tests start are interrupted by Ctrl-C, also where the tests run in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
