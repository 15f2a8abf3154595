"""Amazon SQS, with SNS where a message goes to many. See docs/brokers/sqs.md."""

from collections.abc import Callable

from edow.address import Address
from edow.transport.contract import Transport
from edow.transport.sqs.options import read_options
from edow.transport.sqs.transport import SqsTransport

__all__ = ["SqsTransport", "connect"]


def connect(address: Address, clock: Callable[[], int]) -> Transport:
    """The transport of an `sqs://REGION?option=value` URL, not open yet. `clock`: microseconds since the epoch.

    Raises InvalidInput for a region or an option that cannot be.
    """
    return SqsTransport(address, read_options(address), clock)
