"""Messages of an exclusive subscriber that were handed back, and those that wait behind them."""

from __future__ import annotations

from edow.transport.again import Again
from edow.transport.numbered import NumberedDelivery


def delivery(seq: int, key: str | None = "k", topic: str = "t") -> NumberedDelivery:
    return NumberedDelivery(topic, b"", key, 1, seq)


def seqs(deliveries: list[NumberedDelivery]) -> list[int]:
    return [each.seq for each in deliveries]


def test_of_a_key_the_first_comes_again_first_whatever_was_handed_back_before():
    """Each when the one before is done; with the delay of the first, the others wait for it."""
    again = Again[NumberedDelivery]()
    first, second, third = (delivery(seq) for seq in range(3))
    again.put(third, due=0)
    again.put(first, due=5)
    again.put(second, due=0)
    assert again.due == 5
    assert again.take(4, 10) == []
    found = []
    while again:
        for each in again.take(5, 10):
            found.append((each.seq, each.count))
            each.done = True
    assert found == [(0, 2), (1, 2), (2, 2)]


def test_later_messages_of_its_key_wait_and_others_do_not():
    """Also while the one that was handed back is out again; once it is done, nothing holds anything back."""
    again = Again[NumberedDelivery]()
    again.put(delivery(0), due=0)
    assert again.holds_back(delivery(1))
    assert not again.holds_back(delivery(2, "other"))
    assert not again.holds_back(delivery(3, None))
    assert not again.holds_back(delivery(4, topic="other"))
    (first,) = again.take(0, 10)
    assert again.holds_back(delivery(5))
    assert again.take(0, 10) == []
    assert again.due is None
    first.done = True
    (second,) = again.take(0, 10)
    second.done = True
    (third,) = again.take(0, 10)
    assert seqs([first, second, third]) == [0, 1, 5]
    third.done = True
    assert not again.holds_back(delivery(6))


def test_messages_without_a_key_come_again_each_by_itself():
    """And never more than asked for."""
    again = Again[NumberedDelivery]()
    for seq in range(3):
        again.put(delivery(seq, None), due=seq)
    assert seqs(again.take(1, 1)) == [0]
    assert seqs(again.take(1, 10)) == [1]
    assert again.due == 2


def test_what_was_handed_out_before_means_nothing_any_more():
    """The copy is another delivery, with another count."""
    again = Again[NumberedDelivery]()
    old = delivery(0)
    again.put(old, due=0)
    (new,) = again.take(0, 1)
    assert old.done
    assert not new.done
    assert new.count == 2
