"""Each scheme against what its owner has published, and against what an attacker would try.

Where the vectors are from:
- Standard Webhooks: github.com/standard-webhooks/standard-webhooks, libraries/python/tests/test_webhooks.py
- GitHub: docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload
  validation"
- Slack: docs.slack.dev/authentication/verifying-requests-from-slack, the request of its step by step guide
- Stripe publishes no whole request; its libraries' shared vectors for the digest (github.com/stripe/stripe-node,
  src/crypto/CryptoProvider.ts and test/crypto/helpers.ts) and the construction in
  docs.stripe.com/webhooks#verify-manually
- HMAC: RFC 4231, test case 2
"""

import hashlib
import hmac
from dataclasses import dataclass

import pytest

from edow.errors import InvalidInput
from edow.trigger.signatures import (
    Hmac,
    Refused,
    Request,
    Scheme,
    check_secret,
    standard_key,
    standard_signature,
    verify,
)

PLAIN = Hmac()


@dataclass(frozen=True)
class Vector:
    """One published request."""

    scheme: Scheme
    secret: bytes
    headers: dict[str, str]
    body: bytes
    at: int
    id: str | None = None
    how: Hmac = PLAIN


STANDARD = Vector(
    "standard-webhooks",
    b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    b'{"test": 2432232314}',
    1614265330,
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
)
GITHUB = Vector(
    "github",
    b"It's a Secret to Everybody",
    {
        "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    },
    b"Hello, World!",
    1,
    "72d3162e-cc78-11e3-81ab-4c9367dc0958",
)
SLACK = Vector(
    "slack",
    b"8f742231b10e8888abcd99yyyzzz85a5",
    {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    },
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
    b".803a0bc887a14d10d2c447fce8b6703c",
    1531420618,
)
RFC4231 = Vector(
    "hmac",
    b"Jefe",
    {"x-signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "x-id": "7"},
    b"what do ya want for nothing?",
    1,
    "7",
    Hmac(id_header="X-Id"),
)
VECTORS = [STANDARD, GITHUB, SLACK, RFC4231]


def stripe(secret: bytes, at: int, body: bytes) -> Vector:
    """As docs.stripe.com says: HMAC-SHA256 of TIMESTAMP.BODY, in hexadecimal."""
    signature = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    header = f"t={at},v1={signature},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    return Vector("stripe", secret, {"stripe-signature": header}, body, at)


STRIPE = stripe(b"whsec_test_secret", 1614265330, b'{"id":"evt_1"}')
TIMED = [STANDARD, SLACK, STRIPE]
ALL = [*VECTORS, STRIPE]


def check(vector: Vector, **other: object) -> str | None:
    """Verify it, with something else than in the vector."""
    headers = other.get("headers", vector.headers)
    request = Request(headers, other.get("body", vector.body), other.get("at", vector.at), 300)  # type: ignore[arg-type]
    return verify(vector.scheme, request, other.get("secrets", [vector.secret]), vector.how)  # type: ignore[arg-type]


def names(vector: Vector) -> str:
    return vector.scheme


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_what_its_owner_has_published_is_accepted(vector):
    """And the delivery's id is found where a header has it."""
    assert check(vector) == vector.id


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("", "f7f9bd47fb987337b5796fdc1fdb9ba221d0d5396814bfcaf9521f43fd8927fd"),
        ('{"obj1":"hello","obj2":"world"}', "bebb1a643997f419b315ddba19e6f5411e1ce7f810ba6d3617ce72823092f363"),
        ("\U0001f600", "837da296d05c4fe31f61d5d7ead035099d9585a5bcde87de952012a78f0b0c43"),
    ],
)
def test_the_digests_are_those_of_stripes_libraries(payload, expected):
    """Stripe's three values for the secret `test_secret`, in EDOW's own computation."""
    request = Request({"x-signature": expected}, payload.encode(), 1, 300)
    assert verify("hmac", request, [b"test_secret"], PLAIN) is None


def test_the_standard_signature_is_made_as_it_is_read():
    """The spec's vector, in the other direction."""
    made = standard_signature(standard_key(STANDARD.secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, STANDARD.body)
    assert made == STANDARD.headers["webhook-signature"]


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_one_byte_more_is_refused(vector):
    """The body is signed as it is."""
    with pytest.raises(Refused, match="not one of") as caught:
        check(vector, body=vector.body + b" ")
    assert caught.value.reason == "signature"


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_another_secret_is_refused(vector):
    """Whoever does not know the secret cannot sign."""
    with pytest.raises(Refused, match="not one of"):
        check(vector, secrets=[b"whsec_b3RoZXI="])


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_without_any_secret_nothing_is_accepted(vector):
    """A hook whose secrets cannot be read is shut, not open."""
    with pytest.raises(Refused):
        check(vector, secrets=[])


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_during_a_rotation_either_secret_will_do(vector):
    """In any order."""
    other = b"whsec_b3RoZXI="
    assert check(vector, secrets=[other, vector.secret]) == check(vector, secrets=[vector.secret, other]) == vector.id


@pytest.mark.parametrize("vector", ALL, ids=names)
def test_a_missing_header_is_refused(vector):
    """Each of those that are needed, missing or empty."""
    for name in vector.headers.keys() - {"x-github-delivery", "x-id"}:
        for headers in (
            {each: value for each, value in vector.headers.items() if each != name},
            vector.headers | {name: ""},
        ):
            with pytest.raises(Refused):
                check(vector, headers=headers)


@pytest.mark.parametrize("vector", TIMED, ids=names)
@pytest.mark.parametrize("off", [-300, 300])
def test_within_the_tolerance_it_is_accepted(vector, off):
    """Clocks differ, in both directions."""
    assert check(vector, at=vector.at + off) == vector.id


@pytest.mark.parametrize("vector", TIMED, ids=names)
@pytest.mark.parametrize(("off", "said"), [(301, "too old"), (-301, "future")])
def test_outside_the_tolerance_it_is_refused(vector, off, said):
    """What was recorded cannot be sent again later, nor be prepared."""
    with pytest.raises(Refused, match=said) as caught:
        check(vector, at=vector.at + off)
    assert caught.value.reason == "timestamp"


@pytest.mark.parametrize("vector", TIMED, ids=names)
@pytest.mark.parametrize(
    "written", ["hello", "-1", "+1614265330", " 1", "1e9", "0001614265330", "١٦١٤٢٦٥٣٣٠", "9" * 5000]
)
def test_a_timestamp_that_is_none_is_refused(vector, written):
    """Before anything is computed from it."""
    headers = {name: value.replace(str(vector.at), written) for name, value in vector.headers.items()}
    with pytest.raises(Refused):
        check(vector, headers=headers)


def test_a_newer_timestamp_is_not_covered_by_the_old_signature():
    """The time is signed too."""
    headers = STANDARD.headers | {"webhook-timestamp": str(STANDARD.at + 1)}
    with pytest.raises(Refused, match="not one of"):
        check(STANDARD, headers=headers)


def test_another_id_is_not_covered_by_the_signature():
    """The delivery's id is signed too, so that a replay cannot pass for a new delivery."""
    with pytest.raises(Refused, match="not one of"):
        check(STANDARD, headers=STANDARD.headers | {"webhook-id": "msg_other"})


def test_one_valid_signature_of_several_is_enough():
    """As senders do who rotate; the list is that of the spec's own tests."""
    other = "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    several = f"v1,{other} v2,{other} {STANDARD.headers['webhook-signature']} v1,{other}"
    assert check(STANDARD, headers=STANDARD.headers | {"webhook-signature": several}) == STANDARD.id


@pytest.mark.parametrize("given", ["v1,", "v1", ",", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,é", " "])
def test_nonsense_for_a_signature_is_refused(given):
    """Nothing in the header can raise anything else."""
    with pytest.raises(Refused):
        check(STANDARD, headers=STANDARD.headers | {"webhook-signature": given})


@pytest.mark.parametrize("header", ["", "t=", "v1=", "t=1,t=2,v1=,,=", "t=1614265330", f"v1={'0' * 64}"])
def test_nonsense_for_stripes_header_is_refused(header):
    """Likewise."""
    with pytest.raises(Refused):
        check(STRIPE, headers={"stripe-signature": header})


def test_only_so_many_signatures_are_looked_at():
    """A header cannot be made to cost much."""
    headers = {"stripe-signature": ",".join([f"t={STRIPE.at}", *["v1=0"] * 16, STRIPE.headers["stripe-signature"]])}
    with pytest.raises(Refused):
        check(STRIPE, headers=headers)


def test_the_generic_scheme_takes_what_others_use():
    """Another algorithm, encoding, prefix and a signed timestamp."""
    how = Hmac("X-Shop-Hmac", "sha512", "base64", "sha512:", "X-Shop-Time")
    body = b"{}"
    import base64

    digest = base64.b64encode(hmac.new(b"k", b"1000.{}", hashlib.sha512).digest()).decode()
    headers = {"x-shop-hmac": f"sha512:{digest}", "x-shop-time": "1000"}
    assert verify("hmac", Request(headers, body, 1000, 300), [b"k"], how) is None
    with pytest.raises(Refused, match="too old"):
        verify("hmac", Request(headers, body, 2000, 300), [b"k"], how)


def test_without_a_scheme_everything_is_accepted():
    """Because somebody said so."""
    assert verify("none", Request({}, b"", 1, 300), [], PLAIN) is None


@pytest.mark.parametrize(
    ("scheme", "secret"), [("github", b""), ("standard-webhooks", b"whsec_"), ("standard-webhooks", b"a!b")]
)
def test_what_can_be_no_secret_is_refused_without_showing_it(scheme, secret):
    """An empty key lets everybody sign."""
    with pytest.raises(InvalidInput) as caught:
        check_secret(scheme, secret)
    assert "a!b" not in str(caught.value)
