"""What is told of an exception."""

import msgspec

from edow.workflow.failures import failure_of


def test_a_message_that_is_not_unicode_is_told_all_the_same() -> None:
    """Lone surrogates, as in the name of an undecodable file, are escaped: the failure has a JSON form."""
    failure = failure_of(FileNotFoundError("no file bad\udcff.txt"))
    assert failure.message == "no file bad\\udcff.txt"
    assert b"bad" in msgspec.json.encode(failure)
