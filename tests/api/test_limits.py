"""Requests that are too large or too many, and bodies that are not what they should be."""

from __future__ import annotations

import pytest

from edow.api import Settings
from edow.api.limits import MOST_CLIENTS, RateLimit
from edow.errors import InvalidInput
from tests.api.serving import ELSEWHERE, serving

EXECUTIONS = "/api/v1/executions"


async def test_a_body_over_the_limit_is_refused(tmp_path):
    """413, whether its length was announced or not, and nothing is started."""
    async with serving(tmp_path, settings=Settings(max_body_bytes=1000)) as api:
        http = api.http()
        large = {"workflow": "w", "id": "large", "input": {"text": "x" * 1000}}
        answer = await http.post(EXECUTIONS, json=large)
        assert (answer.status_code, answer.json()["error"]) == (413, "RequestEntityTooLarge")

        async def pieces():
            for _ in range(100):
                yield b" " * 100

        answer = await http.post(EXECUTIONS, content=pieces(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert (await http.get(f"{EXECUTIONS}/large")).status_code == 404


@pytest.mark.parametrize(
    ("url", "said", "remedy"),
    [
        ("/api/v1/executions?stat=failed", "'stat' is no parameter of this URL", "known are attribute, "),
        ("/api/v1/dead-letters?limit=3&sate=raised", "'sate' is no parameter of this URL", "known are aside, "),
        ("/api/v1/redrives?state=done", "'state' is no parameter of this URL", "this route takes none"),
    ],
)
async def test_a_parameter_that_is_not_known_is_refused(api, url, said, remedy):
    """A filter that is misspelt must not select everything."""
    answer = await api.http().get(url)
    assert (answer.status_code, answer.json()["message"]) == (422, said)
    assert answer.json()["remedy"].startswith(remedy)


async def test_a_parameter_is_named_as_it_is_in_the_url(api):
    """Whatever the code calls it."""
    answer = await api.http().get("/api/v1/dead-letters?state=odd")
    assert answer.json()["message"] == (
        "state: Invalid enum value 'odd', use one of parked, raised, redriven, discarded, any"
    )


async def test_a_payload_over_its_own_limit_is_refused(tmp_path):
    """An input that fits the request and not an execution is 413 too, and says what to do."""
    async with serving(tmp_path) as api:
        answer = await api.http().post(EXECUTIONS, json={"workflow": "w", "input": {"text": "x" * 2_200_000}})
        assert (answer.status_code, answer.json()["error"]) == (413, "PayloadTooLarge")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b"\xff", 400),
        (b'{"workflow": 7}', 422),
        (b'{"workflow": "w", "other": 1}', 422),
        (b'{"workflow": "w", "id": ""}', 400),
        (b'{"workflow": "w", "id": "a/b"}', 400),
        (b'{"workflow": "a#b"}', 400),
        (b"[" * 100_000, 400),
    ],
)
async def test_a_body_that_is_not_right_is_told(api, body, status):
    """400 or 422 with the same form of answer, never a 5xx."""
    answer = await api.http().post(EXECUTIONS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, set(answer.json()) >= {"error", "message"}) == (status, True), answer.text


async def test_too_many_requests(tmp_path):
    """429 and Retry-After for the token or address that asks too often, and for no other."""
    async with serving(tmp_path, settings=Settings(rate=0.001, burst=3)) as api:
        http = api.http()
        statuses = [(await http.get(EXECUTIONS)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await http.get(EXECUTIONS)
        assert int(answer.headers["Retry-After"]) > 100
        assert (await api.http("127.0.0.2").get(EXECUTIONS)).status_code == 200
        token = await api.token("read")
        assert (await api.http(token=token).get(EXECUTIONS)).status_code == 200


async def test_guessing_tokens_is_limited(tmp_path):
    """Wrong tokens count for the address that they come from."""
    async with serving(tmp_path, settings=Settings(rate=0.001, burst=3)) as api:
        await api.token("read", "real")
        guesses = [api.http(ELSEWHERE, f"edow_real.guess{number}") for number in range(4)]
        assert [(await guess.get(EXECUTIONS)).status_code for guess in guesses] == [401, 401, 401, 429]


def test_a_bucket_fills_up_steadily():
    """After `burst` at once, `rate` a second; of more clients than fit, the longest unheard of is forgotten."""
    now = 0.0
    limit = RateLimit(2.0, 4, lambda: now)
    assert [limit.wait_seconds("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now = 0.5
    assert [limit.wait_seconds("a"), limit.wait_seconds("a")] == [0, 0.5]
    now = 100.0
    assert [limit.wait_seconds("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    for number in range(MOST_CLIENTS):
        limit.wait_seconds(str(number))
    assert limit.wait_seconds("a") == 0


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"burst": -1}, {"max_body_bytes": 0}, {"longest_wait_seconds": 0}])
def test_no_limit_can_be_switched_off(wrong):
    """Each has to be above 0."""
    with pytest.raises(InvalidInput, match="above 0"):
        Settings(**wrong).checked()
