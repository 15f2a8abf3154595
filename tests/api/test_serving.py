"""The application as others run it: on a port, over an address that is not this machine's own, and mounted."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

import edow
from edow.api import application
from edow.api.server import Server
from edow.errors import InvalidInput
from tests.api.serving import ELSEWHERE, Api

EXECUTIONS = "/api/v1/executions"


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address besides loopback")
    return address


async def test_over_an_address_that_is_not_loopback(api: Api):
    """Nobody is served there without a token, and with one everybody is."""
    server = Server(api.app, "0.0.0.0", 0)
    await server.start()
    port = server.url.rpartition(":")[2]
    url = f"http://{own_address()}:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/health/live")).json() == {"live": True}
            assert (await http.get(EXECUTIONS)).status_code == 401
            token = await api.token("operate")
            headers = {"Authorization": f"Bearer {token}"}
            started = await http.post(EXECUTIONS, json={"workflow": "w", "id": "far"}, headers=headers)
            assert started.status_code == 201
            assert (await http.get(f"{EXECUTIONS}/far", headers=headers)).json()["status"] == "running"
            assert (await http.get("/api/v1/tokens", headers=headers)).status_code == 403
            await api.client.tokens().revoke("operate")
            assert (await http.get(EXECUTIONS, headers=headers)).status_code == 401
    finally:
        await server.stop()


async def test_a_port_that_is_taken_is_told(api: Api):
    """With the remedy, and before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidInput, match="choose another --port"):
        await Server(api.app, "127.0.0.1", taken.getsockname()[1]).start()


async def test_stopping_twice(api: Api):
    """Start, stop, stop; the port is free again."""
    server = Server(api.app, "127.0.0.1", 0)
    await server.start()
    await server.stop()
    await server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)


async def test_mounted_in_another_application(tmp_path: Path):
    """Under a path of its own, and without a lifespan: the store is opened by the first request. Clients elsewhere
    need a token there too, also when the other application is on this machine's address.
    """
    url = f"sqlite:///{tmp_path}/store.db"
    inner: Any = application(url)

    async def outer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        """As every framework mounts: the path without the prefix, which goes into root_path."""
        assert scope["path"].startswith("/workflows")
        path = scope["path"].removeprefix("/workflows")
        inside = dict(scope, path=path, raw_path=path.encode(), root_path="/workflows")
        await inner(inside, receive, send)

    local = httpx.ASGITransport(outer, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=local, base_url="http://localhost/workflows") as http:
        assert (await http.get("/health")).json()["ready"] is True
        assert (await http.post(EXECUTIONS, json={"workflow": "w", "id": "m"})).status_code == 201
        assert (await http.get(f"{EXECUTIONS}/m")).json()["id"] == "m"
        assert "/api/v1/executions" in (await http.get("/openapi.json")).json()["paths"]
    far = httpx.ASGITransport(outer, client=(ELSEWHERE, 1))
    async with httpx.AsyncClient(transport=far, base_url="http://localhost/workflows") as http:
        assert (await http.get(EXECUTIONS)).status_code == 401
        async with edow.Client(url) as client:
            token = await client.tokens().create("far", "read")
        headers = {"Authorization": f"Bearer {token}"}
        assert (await http.get(EXECUTIONS, headers=headers)).status_code == 200
    lifespan = inner.lifespan()
    async with lifespan:  # closes what the first request has opened
        pass
