"""What all tests of transports share."""

from collections.abc import Iterator
from functools import cache

import botocore.session
import pytest
from botocore.loaders import create_loader


@pytest.fixture(scope="session", autouse=True)
def amazon_is_described_once() -> Iterator[None]:
    """Amazon's client reads what its services can do, megabytes of JSON, for each session: for each transport of each
    test again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(create_loader))
        yield
