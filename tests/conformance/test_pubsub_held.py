"""What a Pub/Sub subscriber holds: which message may be handed out when, with nothing around it."""

from __future__ import annotations

from edow.transport.pubsub.held import Held, PubsubDelivery


def delivery(body: str, key: str | None = None, ack_id: str = "") -> PubsubDelivery:
    """Its id is its body."""
    place = None if key is None else ("path", key)
    return PubsubDelivery(
        "topic", body.encode(), key, 1, ack_id or body, path="path", id=body, place=place, served_until=0.0
    )


def holding(*deliveries: PubsubDelivery) -> Held:
    held = Held()
    held.admit(deliveries)
    return held


def names(deliveries: list[PubsubDelivery]) -> str:
    return " ".join(each.id for each in deliveries)


def test_one_of_a_key_at_a_time() -> None:
    """Shared: others of other keys and of none pass by; the next comes when the first is done with."""
    held = holding(delivery("a1", "a"), delivery("a2", "a"), delivery("x"), delivery("b1", "b"))
    taken = held.take(9, 1.0)
    assert names(taken) == "a1 x b1"
    assert held.take(9, 1.0) == []
    held.done(taken)
    assert names(held.take(9, 1.0)) == "a2"


def test_what_arrives_later_stays_behind() -> None:
    """However the two mix: arrivals, and what was kept back."""
    held = holding(delivery("a1", "a"), delivery("a2", "a"), delivery("a3", "a"))
    order: list[PubsubDelivery] = []
    for late in ("a4", "a5", "a6", "a7"):
        order += (taken := held.take(9, 1.0))
        held.admit([delivery(late, "a")])
        held.done(taken)
    while taken := held.take(9, 1.0):
        order += taken
        held.done(taken)
    assert names(order) == "a1 a2 a3 a4 a5 a6 a7"
    assert (len([*held]), held.waiting) == (0, 0)


def test_giving_one_up_takes_its_followers_along() -> None:
    """They must come again behind it, wherever that is."""
    held = holding(delivery("a1", "a"), delivery("a2", "a"), delivery("b1", "b"), delivery("a3", "a"))
    a1, b1 = held.take(9, 1.0)
    held.admit([delivery("a4", "a")])
    assert names(held.give_up([a1])) == "a1 a2 a3 a4"
    assert held.mine([a1, b1]) == [b1]
    assert (len([*held]), held.waiting) == (1, 0)
    held.admit([delivery("a1", "a")])
    assert names(held.take(9, 1.0)) == "a1"


def test_a_message_that_we_are_given_again_is_the_same() -> None:
    """When the service took it back unheard and gave it to us again, whoever works on it goes on under the new name."""
    held = holding(delivery("x"))
    (x,) = held.take(1, 1.0)
    held.admit([delivery("x", ack_id="new")])
    assert held.take(1, 1.0) == []
    assert (x.ack_id, held.mine([x])) == ("new", [x])
    assert held.give_up([delivery("x", ack_id="new")]) == []  # not the one that we hold


def test_a_follower_that_is_lost_takes_only_those_behind_it() -> None:
    """Whoever works on the first goes on."""
    a1, a2, a3 = deliveries = delivery("a1", "a"), delivery("a2", "a"), delivery("a3", "a")
    held = holding(*deliveries)
    assert held.take(9, 1.0) == [a1]
    assert held.give_up([a2]) == [a2, a3]
    held.admit([delivery("a2", "a")])
    assert (held.mine([a1]), held.take(9, 1.0)) == ([a1], [])
    held.done([a1])
    assert names(held.take(9, 1.0)) == "a2"


def test_only_what_may_be_handed_out_is_ready() -> None:
    """Not what stands behind a message in hand: given back, it would overtake."""
    held = holding(delivery("a1", "a"), delivery("a2", "a"), delivery("x"), delivery("y"), delivery("c1", "c"))
    assert names(held.take(2, 1.0)) == "a1 x"
    assert names([*held.ready]) == "y c1"
    held.give_up([*held.ready][:1])
    assert names([*held.ready]) == "c1"
