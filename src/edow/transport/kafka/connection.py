"""The clients of an open transport, and the thread on which they tell what they have to tell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from edow.errors import InvalidInput
from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.problems import Lines, log, translate
from edow.transport.kafka.publisher import Publisher
from edow.transport.kafka.settings import Clients

PUMP_SECONDS = 0.2


class Connection:
    """Raises InvalidInput for options that librdkafka does not take."""

    def __init__(self, clients: Clients, address: str) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._refused: asyncio.Future[None] = self._loop.create_future()
        self._ending = threading.Event()
        lines = Lines()

        def producer(on_error: Callable[[KafkaError], None]) -> Producer:
            return Producer({**clients.producer, "error_cb": on_error}, logger=lines)

        try:
            self._admin = AdminClient({**clients.admin, "error_cb": self._on_error}, logger=lines)  # type: ignore[dict-item]
            self.cluster = Cluster(self._admin, clients, address)
            self.publisher = Publisher(producer, address, self.cluster.forget)
        except KafkaException as problem:
            raise InvalidInput(f"{address}: {problem.args[0].str()}") from problem
        self._pump = threading.Thread(target=self._poll, name="edow-kafka-reports", daemon=True)
        self._pump.start()

    async def greet(self) -> None:
        """Raises what the first answer is, unless it is a good one."""
        greeting = asyncio.ensure_future(self.cluster.greet())
        await asyncio.wait([greeting, self._refused], return_when=asyncio.FIRST_COMPLETED)
        if not greeting.done():
            greeting.cancel()
            await asyncio.wait([greeting])
            return self._refused.result()
        return await greeting

    async def close(self, seconds: float) -> None:
        """What is being published gets this long."""
        await self.publisher.close(seconds)
        self._ending.set()
        await asyncio.to_thread(self._pump.join)

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self.publisher.poll(PUMP_SECONDS)
                self._admin.poll(0)
            except Exception:  # whatever it is, the next batch's reports must come in
                log.exception("%s: polling failed in an unexpected way", self._address)
                self._ending.wait(PUMP_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        """Called by the pump. Only what is refused before anything else has worked is of interest."""
        trouble = translate(error, f"{self._address}: connecting")
        if isinstance(trouble, InvalidInput) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._refuse, trouble)

    def _refuse(self, trouble: InvalidInput) -> None:
        if not self._refused.done():
            self._refused.set_exception(trouble)
            self._refused.exception()  # that nobody may have asked is no fault
