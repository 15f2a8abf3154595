"""Failures of one kind have one fingerprint, whatever the case at hand was."""

from __future__ import annotations

import pytest

from edow.model.failure import fingerprint, normalised


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("order 17 was declined after 2.5 s", "order 4711 was declined after 0.25 s"),
        ("no user 'ada'", "no user 'grace'"),
        ('key "a b" is missing', 'key "" is missing'),
        ("cannot open /srv/in/a-1.txt", "cannot open /tmp/b.txt"),
        ("GET https://api.example/pay?id=1: 503", "GET https://api.example/refund: 503"),
        ("mail to ada@example.org bounced", "mail to grace.h@example.com bounced"),
        (
            "row 0b9d3c1e-7c7b-4f0f-8a3e-7b2f6f1a9c01 is locked",
            "row 5f2d9e60-11aa-4b6c-9d8e-0c1b2a394857 is locked",
        ),
        ("at 0x7f8787fed6d0", "at 0x7f878c482140"),
        ("two\n  lines", "two lines"),
    ],
)
def test_particulars_do_not_count(first: str, second: str) -> None:
    """Numbers, quoted text, paths, addresses and ids."""
    assert normalised(first) == normalised(second)
    assert fingerprint("pay", "E", first) == fingerprint("pay", "E", second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("pay", "E", "declined"), ("ship", "E", "declined")),
        (("pay", "E", "declined"), ("pay", "F", "declined")),
        (("pay", "E", "card declined"), ("pay", "E", "card expired")),
        (("pay", "E", "face is bad"), ("pay", "E", "fade is bad")),
    ],
)
def test_what_was_done_and_what_went_wrong_count(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    """Task, type of error, and the words of the message."""
    assert fingerprint(*first) != fingerprint(*second)


def test_any_text_has_a_fingerprint() -> None:
    """Of sixteen signs, in time that does not grow with the message."""
    for text in ("", "\ud800", "'" * 100_000, "/" * 100_000, "a-" * 100_000, "1" * 100_000):
        assert len(fingerprint("t", "E", text)) == 16
