"""What is told of an exception."""

import msgspec

from edow.workflow.failures import failure_of


def test_a_message_that_is_not_unicode_is_told_all_the_same() -> None:
    """Lone surrogates, as in the name of an undecodable file, are escaped: the failure has a JSON form."""
    failure = failure_of(FileNotFoundError("no file bad\udcff.txt"))
    assert failure.message == "no file bad\\udcff.txt"
    assert b"bad" in msgspec.json.encode(failure)


def test_whatever_an_exception_is_like_it_is_told() -> None:
    """Its text, its arguments and its traceback are an author's code as well, and may fail."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise LookupError

        @property
        def args(self) -> tuple[object, ...]:  # type: ignore[override]
            raise LookupError

    failure = failure_of(Odd())
    assert failure.type.endswith("Odd")
    assert "LookupError" in failure.message
    assert failure.args is None
