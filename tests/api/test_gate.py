"""Who is let in: every route for every role, tokens, and clients on the same machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litestar import Litestar

from edow.api import application
from edow.client.actor import ROLES
from tests.api.serving import ELSEWHERE, Api

UNREAL = "no-such-thing"  # whatever the routes ask for


def routes(app: Litestar) -> Iterator[tuple[str, str, str]]:
    """(method, path, access) of everything that the application answers."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                path = route.path_format
                for parameter in route.path_parameters.values():
                    path = path.replace(f"{{{parameter.name}}}", UNREAL)
                yield method, path, handler.opt["access"]


TABLE = sorted(routes(application("sqlite:///unused.db")))


def test_the_table_holds_the_routes_that_there_are():
    """The table is made from the application: what it does not find is not served."""
    assert ("GET", "/health", "public") in TABLE
    assert ("GET", f"/api/v1/executions/{UNREAL}", "read") in TABLE
    assert {access for _, _, access in TABLE} <= {"public", *ROLES}
    assert all(access != "public" for _, path, access in TABLE if path.startswith("/api/v1"))


@pytest.mark.parametrize(("method", "path", "access"), TABLE)
async def test_every_route_for_every_role(api: Api, method, path, access):
    """A route answers 403 to the roles below its own, 401 to nobody and to a wrong token, and lets in the others."""
    allowed = ROLES if access == "public" else ROLES[ROLES.index(access) :]
    tokens = {role: await api.token(role, f"test-{role}") for role in ROLES}
    for role, token in tokens.items():
        answer = await api.http(ELSEWHERE, token).request(method, path)
        assert (answer.status_code == 403) == (role not in allowed), (role, answer.text)
        assert answer.status_code not in (401, 500, 405), (role, answer.text)
    for nobody in (None, "edow_test-admin.wrong", "nonsense", f"{tokens['admin']}x"):
        answer = await api.http(ELSEWHERE, nobody).request(method, path)
        assert (answer.status_code == 401) == (access != "public"), answer.text
        assert ("WWW-Authenticate" in answer.headers) == (access != "public")


async def test_without_tokens_clients_on_the_machine_are_served(api: Api):
    """While there is no token, loopback addresses need none, and all others are refused."""
    path = f"/api/v1/executions/{UNREAL}"
    for address, status in {"127.0.0.1": 404, "127.9.9.9": 404, "::1": 404, ELSEWHERE: 401, "10.0.0.1": 401}.items():
        assert (await api.http(address).get(path)).status_code == status, address
    await api.token("read")
    assert (await api.http().get(path)).status_code == 401


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_a_proxy_on_the_machine_does_not_make_its_clients_local(api: Api, header):
    """What a proxy passes on came from elsewhere: it needs a token."""
    answer = await api.http().get(f"/api/v1/executions/{UNREAL}", headers={header: "127.0.0.1"})
    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.7:8080", ""])
async def test_a_name_that_points_to_this_machine_is_refused(api: Api, host):
    """DNS rebinding: without a token, the Host must be localhost."""
    answer = await api.http().get(f"/api/v1/executions/{UNREAL}", headers={"Host": host})
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:99", "[::1]", "[::1]:8080"])
async def test_the_machine_s_own_names_are_served(api: Api, host):
    """Whatever the port."""
    answer = await api.http().get(f"/api/v1/executions/{UNREAL}", headers={"Host": host})
    assert answer.status_code == 404, answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_another_site_is_refused(api: Api, headers):
    """CSRF: without a token, and with a cookie, requests that other sites' pages cause are not served."""
    path = f"/api/v1/executions/{UNREAL}"
    assert (await api.http().get(path, headers=headers)).status_code == 403
    token = await api.token("admin")
    cookie = {"Cookie": f"edow_token={token}"}
    assert (await api.http().get(path, headers=headers | cookie)).status_code == 403
    assert (await api.http().get(path, headers={"Origin": "http://localhost"} | cookie)).status_code == 404
    assert (await api.http(token=token).get(path, headers=headers)).status_code == 404
