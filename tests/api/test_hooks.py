"""Webhooks over HTTP: deliveries need a signature and no token, definitions a token and no signature."""

from __future__ import annotations

import hashlib
import hmac
import json

import httpx
import pytest

from edow.api import Settings
from edow.api.settings import MAX_BODY_BYTES
from edow.client.audit import AuditFilter
from tests.api.serving import ELSEWHERE, Api, serving

HOOK = {
    "name": "gh",
    "scheme": "github",
    "secrets": ["s3cret"],
    "workflow": "build",
    "id": "body.id",
    "input": "{b: body}",
}
BASE = "/api/v1/hooks"


def signed(body: bytes, secret: bytes = b"s3cret", **headers: str) -> dict[str, object]:
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    names = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"} | headers
    return {"content": body, "headers": names}


async def deliver(api: Api, body: bytes, **how: object) -> httpx.Response:
    return await api.http(ELSEWHERE).post("/hooks/gh", **signed(body, **how))  # type: ignore[arg-type]


async def test_a_delivery_from_anywhere_starts_an_execution(api: Api):
    """Without a token; 202 with the execution's id, then 200 for the same one."""
    await api.token("admin")
    admin = api.http(token=await api.token("admin", "maker"))
    assert (await admin.post(BASE, json=HOOK)).status_code == 201
    first = await deliver(api, b'{"id": "b1"}')
    assert (first.status_code, first.json()) == (202, {"status": "started", "execution": "b1"})
    second = await deliver(api, b'{"id": "b1"}')
    assert (second.status_code, second.json()) == (200, {"status": "duplicate", "execution": "b1"})
    assert (await api.client.get("b1").describe()).workflow == "build"


@pytest.mark.parametrize(
    ("body", "how", "status"),
    [
        (b"{}", {"secret": b"other"}, 401),
        (b"{}", {}, 400),
        (b"no", {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b" " * (1024 * 1024 + 1), {}, 413),
    ],
)
async def test_what_is_refused_says_why(api: Api, body, how, status):
    """As all errors of the API: error and message."""
    await api.http().post(BASE, json=HOOK)
    answer = await deliver(api, body, **how)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "message"}


async def test_a_body_over_the_api_s_own_limit_is_not_read(tmp_path):
    """413 from the framework, in the same form."""
    async with serving(tmp_path, settings=Settings(max_body_bytes=1000)) as api:
        answer = await deliver(api, b" " * 2000)
        assert answer.status_code in (404, 413)  # whichever is noticed first; nothing of it is kept
    assert MAX_BODY_BYTES > 1024 * 1024


async def test_a_secret_is_never_answered(api: Api):
    """Neither when it is made nor later, nor in an error, nor in the audit log."""
    http = api.http()
    texts = [
        (await http.post(BASE, json=HOOK)).text,
        (await http.post(BASE, json=HOOK | {"name": "b d"})).text,
        (await http.post(BASE, json=HOOK)).text,
        (await http.get(BASE)).text,
        (await http.get(f"{BASE}/gh")).text,
        (await http.post(f"{BASE}/gh/rotate", json={"secret": "s3cret-2"})).text,
        (await http.delete(f"{BASE}/gh")).text,
        str(await api.client.audit(AuditFilter())),
    ]
    assert not any("s3cret" in text for text in texts)
    shown = json.loads(texts[4])
    assert (shown["secrets"], shown["keep_seconds"]) == (["(kept in the store)"], 86400.0)
    actions = [entry.action for entry in (await api.client.audit(AuditFilter())).entries]
    assert actions == ["hook.delete", "hook.rotate", "hook.create"]


async def test_a_secret_is_rotated_without_a_gap(api: Api):
    """Old and new are accepted until the rotation is finished."""
    http = api.http()
    await http.post(BASE, json=HOOK)

    async def statuses(number: int) -> list[int]:
        answers = [await deliver(api, b'{"id": "%d"}' % number, secret=key) for key in (b"s3cret", b"new")]
        return [answer.status_code for answer in answers]

    assert await statuses(1) == [202, 401]
    await http.post(f"{BASE}/gh/rotate", json={"secret": "new"})
    assert await statuses(2) == [202, 200]
    await http.post(f"{BASE}/gh/rotate", json={})
    assert await statuses(3) == [401, 202]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"scheme": "md5"}, 422),
        ({"secrets": []}, 400),
        ({"id": "("}, 400),
        ({"keep": "soon"}, 400),
        ({"workflow": ""}, 400),
        ({"hmac": {}}, 400),
        ({"name": "a/b"}, 400),
    ],
)
async def test_a_hook_that_cannot_be_is_refused(api: Api, change, status):
    """When it is made."""
    answer = await api.http().post(BASE, json=HOOK | change)
    assert answer.status_code == status, answer.text


async def test_a_hook_is_made_once(api: Api):
    """A second of the same name is 409; one that is not there is 404 for everything."""
    http = api.http()
    assert [(await http.post(BASE, json=HOOK)).status_code for _ in range(2)] == [201, 409]
    assert (await http.delete(f"{BASE}/gh")).status_code == 204
    for answer in (
        await http.delete(f"{BASE}/gh"),
        await http.get(f"{BASE}/gh"),
        await http.post(f"{BASE}/gh/rotate", json={}),
        await deliver(api, b"{}"),
    ):
        assert answer.status_code == 404
