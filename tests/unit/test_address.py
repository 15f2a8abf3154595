"""URLs of stores and brokers: what a person may read of them holds no secret, whatever the secret is made of."""

from __future__ import annotations

import pytest

from edow.address import Address
from edow.errors import InvalidInput
from edow.postgresql.settings import settings_of


@pytest.mark.parametrize("password", ["hush/hush", "hush?hush", "hush/?hush", "/hush"])
@pytest.mark.parametrize("scheme", ["postgresql", "redis", "amqp", "sqs", "kafka"])
def test_a_password_that_is_not_encoded_is_refused_and_not_repeated(scheme: str, password: str) -> None:
    """Otherwise a part of it would be taken for a host, and told."""
    with pytest.raises(InvalidInput, match="write %2F for /") as told:
        Address(f"{scheme}://user:{password}@host/path?option=1")
    assert "hush" not in str(told.value)


def test_encoded_it_is_the_password() -> None:
    """An @ in it, or in an option's value, needs no care."""
    address = Address("redis://user:a%2Fb@c@host?client=me@home")
    assert (address.password, address.hosts, address.options) == ("a/b@c", ["host"], {"client": "me@home"})
    assert str(address) == "redis://user:***@host?client=me@home"


def test_a_token_is_not_shown() -> None:
    """With NATS, what stands alone is one; with others it is a user's name."""
    assert str(Address("nats://hush@host:4222")) == "nats://***@host:4222"
    assert str(Address("nats://user:hush@host")) == "nats://user:***@host"
    assert str(Address("postgresql://user@host/db")) == "postgresql://user@host/db"


@pytest.mark.parametrize(
    "option", ["ssl.key.pem", "sasl.oauthbearer.assertion.private.key.passphrase", "ssl.key.password", "tls_key"]
)
def test_an_option_that_is_a_secret_is_not_shown(option: str) -> None:
    """Whatever a client library calls it."""
    assert str(Address(f"kafka://host?{option}=hush&timeout=3")) == f"kafka://host?{option}=***&timeout=3"


def test_a_hash_is_a_part_of_the_password() -> None:
    """Also for client libraries that would take what is behind it for a fragment."""
    address = Address("postgresql://user:a#b@host/db")
    assert address.password == "a#b"
    assert settings_of(address)[1].startswith("postgresql://user:a%23b@host/db")
