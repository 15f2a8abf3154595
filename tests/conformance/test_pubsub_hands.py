"""What a Pub/Sub subscriber holds: which message may be handed out when, with nothing around it."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import pytest

from edow.transport.pubsub.hands import Hands, PubsubDelivery


class Subscription(msgspec.Struct):
    """As much of a queue as hands look at."""

    number: int = 0


QUEUE: Any = Subscription()


def delivery(body: str, key: str | None = None, ack_id: str = "") -> PubsubDelivery:
    """Its id is its body."""
    place = None if key is None else (0, key)
    return PubsubDelivery("topic", body.encode(), key, 1, ack_id or body, queue=QUEUE, id=body, place=place)


def hands(*deliveries: PubsubDelivery, shared: bool) -> Hands:
    made = Hands(shared, 4.0)
    made.admit(deliveries)
    return made


def names(deliveries: list[PubsubDelivery]) -> str:
    return " ".join(each.id for each in deliveries)


def test_one_of_a_key_at_a_time() -> None:
    """Shared: others of other keys and of none pass by; the next comes when the first is done with."""
    held = hands(delivery("a1", "a"), delivery("a2", "a"), delivery("x"), delivery("b1", "b"), shared=True)
    taken = held.take(9, 1.0)
    assert names(taken) == "a1 x b1"
    assert held.take(9, 1.0) == []
    held.done(taken)
    assert names(held.take(9, 1.0)) == "a2"


def test_what_arrives_later_stays_behind() -> None:
    """However the two mix: arrivals, and what was kept back."""
    held = hands(delivery("a1", "a"), delivery("a2", "a"), delivery("a3", "a"), shared=True)
    order: list[PubsubDelivery] = []
    for late in ("a4", "a5", "a6", "a7"):
        order += (taken := held.take(9, 1.0))
        held.admit([delivery(late, "a")])
        held.done(taken)
    while taken := held.take(9, 1.0):
        order += taken
        held.done(taken)
    assert names(order) == "a1 a2 a3 a4 a5 a6 a7"
    assert (len(held), held.waiting) == (0, 0)


def test_giving_one_up_takes_its_followers_along() -> None:
    """They must come again behind it, wherever that is."""
    held = hands(delivery("a1", "a"), delivery("a2", "a"), delivery("b1", "b"), delivery("a3", "a"), shared=True)
    a1, b1 = held.take(9, 1.0)
    held.admit([delivery("a4", "a")])
    assert names(held.give_up([a1])) == "a1 a2 a3 a4"
    assert held.mine([a1, b1]) == [b1]
    assert (len(held), held.waiting) == (1, 0)
    held.admit([delivery("a1", "a")])
    assert names(held.take(9, 1.0)) == "a1"


def test_a_message_that_we_are_given_again_is_the_same() -> None:
    """When the service took it back unheard and gave it to us again, whoever works on it goes on under the new name."""
    held = hands(delivery("x"), shared=True)
    (x,) = held.take(1, 1.0)
    held.admit([delivery("x", ack_id="new")])
    assert held.take(1, 1.0) == []
    assert (x.ack_id, held.mine([x])) == ("new", [x])


def test_only_what_nobody_works_on_is_unwanted() -> None:
    """Not what stands behind a message in hand: it would overtake."""
    held = hands(
        delivery("a1", "a"), delivery("a2", "a"), delivery("x"), delivery("y"), delivery("c1", "c"), shared=True
    )
    assert names(held.take(2, 1.0)) == "a1 x"
    assert names(held.unwanted()) == "y c1"


def test_exclusive_hands_out_all_in_order() -> None:
    """Nothing waits for an acknowledgement."""
    held = hands(*(delivery(f"a{n}", "a") for n in range(5)), shared=False)
    assert names(held.take(3, inf)) == "a0 a1 a2"
    assert names(held.take(3, inf)) == "a3 a4"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_exclusive_hands_out_again_in_order(order: tuple[int, ...]) -> None:
    """Whatever the order in which they were given back, the first comes first and holds back the others."""
    held = hands(*(delivery(f"a{n}", "a") for n in range(3)), shared=False)
    first = held.take(3, inf)
    for number in order:
        held.again(first[number], due=5.0)
    held.admit([delivery("a3", "a"), delivery("b0", "b")])
    assert names(held.take(9, inf)) == "b0"
    seen: list[PubsubDelivery] = []
    for _ in range(4):
        for each in held.plan(6.0, 1.0).due:
            held.let_again(each)
        seen += (taken := held.take(9, inf))
        held.done(taken)
    assert names(seen) == "a0 a1 a2 a3"
    assert held.mine(first) == []


def test_leases_end_and_the_rest_is_kept() -> None:
    """What has to be done at a moment: leases that ended, delays that are over, what the service would take back."""
    held = hands(delivery("ended"), delivery("delayed"), delivery("new"), delivery("waiting"), shared=True)
    _, delayed = held.take(2, 10.0)
    (new,) = held.take(1, 12.0)
    new.served_until = 12.0
    delayed.state, delayed.due = "delayed", 10.0
    plan = held.plan(10.0, 60.0)
    assert (names(plan.ended), names(plan.due), names(plan.renew)) == ("ended", "delayed", "waiting")
    assert plan.at == 12.0
    new.until = 20.0
    assert names(held.plan(10.0, 60.0).renew) == "new waiting"
