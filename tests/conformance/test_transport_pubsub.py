"""Google Pub/Sub against the suite.

EDOW_PUBSUB is the URL of a server; Google's emulator, where PUBSUB_EMULATOR_HOST names it, comes before that. Neither
the emulator nor `pstest` does all that the service does: scenarios are skipped by what the server there cannot do.
"""

from __future__ import annotations

import pytest

from tests.conformance.pubsub_tools import kind_of, own_prefix, transport_at
from tests.conformance.transport_suite import TransportSuite
from tests.servers import server_url

pubsub = transport_at

BEHIND = "the emulator delivers a nacked message behind its key's later ones; the service and pstest before them"
NOT_GONE = "the emulator gives messages to requests of killed processes, for ten seconds"

CANNOT = {
    "pstest": {},
    "emulator": {
        "test_a_key_in_hand_holds_back_its_followers_from_every_member": BEHIND,
        "test_order_by_key_survives_nack": BEHIND,
        "test_order_by_key_survives_a_lost_lease": BEHIND,
        "test_exclusive_delivers_again_after_nack": BEHIND,
        "test_a_killed_process_loses_nothing": NOT_GONE,
    },
    "service": {},
}


class TestPubsub(TransportSuite):
    factory = "tests.conformance.test_transport_pubsub:pubsub"
    kinds: dict[str, str] = {}  # noqa: RUF012 - what has been found out about servers, by URL

    @pytest.fixture
    async def kind(self) -> str:
        url = server_url("EDOW_PUBSUB")
        if url not in self.kinds:
            self.kinds[url] = await kind_of(url)
        return self.kinds[url]

    @pytest.fixture(autouse=True)
    def within_what_the_server_can_do(self, kind: str, request: pytest.FixtureRequest) -> None:
        if (why := CANNOT[kind].get(request.function.__name__)) is not None:
            pytest.skip(why)

    @pytest.fixture
    def address(self, kind: str) -> str:
        return own_prefix(server_url("EDOW_PUBSUB"))
