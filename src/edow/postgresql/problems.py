"""What PostgreSQL and the way to it complain of, said as one of our errors with the remedy.

What the driver decides upon itself comes as errors of the server, too, under codes of ours that begin with ED.
"""

from __future__ import annotations

import ssl
from typing import cast

import asyncpg
from asyncpg import exceptions as said

from edow.errors import Bug, Closed, EdowError, InvalidInput, StoreUnavailable, StoreUnusable

LEASES_LOST = "ED001"
TOPICS_CHANGED = "ED002"
APPLIED_BEFORE = "ED003"
OVERTAKEN = "ED004"
RECORD_CHANGED = "ED005"
LETTER_CHANGED = "ED006"

NOT_APPLIED = "nothing of this call was applied"
IN_DOUBT = "whether this call was applied is not known"

# Transactions that the server has ended to let another one pass: to be tried again at once.
COLLISIONS = (said.DeadlockDetectedError, said.SerializationError)
# The connection is of no use any more, or the server is not.
BROKEN = (
    OSError,
    TimeoutError,
    said.InterfaceError,
    said.InternalClientError,
    said.PostgresConnectionError,
    said.OperatorInterventionError,
    said.ReadOnlySQLTransactionError,  # what was the primary is a standby now
)

# Transactions that ended by a limit which somebody has set for the role or the database: lock_timeout,
# idle_in_transaction_session_timeout and transaction_timeout (that of statements is among those above), or by a disk.
_CUT_SHORT = frozenset({"55P03", "25P03", "25P04", "58030"})

_ACCESS = (
    said.InvalidAuthorizationSpecificationError,
    said.InvalidCatalogNameError,
    said.InsufficientPrivilegeError,
)
_ABSENT = (
    said.UndefinedTableError,
    said.UndefinedFunctionError,
    said.UndefinedColumnError,
    said.InvalidSchemaNameError,
)
_UNPREPARED = (said.InvalidSQLStatementNameError, said.DuplicatePreparedStatementError)
_VALUES = (said.DataError, said.ProgramLimitExceededError)


def code_of(problem: BaseException) -> str:
    """The server's five signs, or nothing."""
    return cast(str, getattr(problem, "sqlstate", None) or "")


def is_ours(problem: BaseException) -> bool:
    """Whether one of our functions has raised it, for its caller to understand."""
    return code_of(problem).startswith("ED")


def translate(problem: BaseException, place: str, what: str = IN_DOUBT) -> BaseException:
    """Our error for a failure at the database; ours, and anything that is not the database's, stay as they are.

    `what` became of the call, when the connection was lost.
    """
    if isinstance(problem, EdowError):
        return problem
    if isinstance(problem, said.ClientConfigurationError):
        return InvalidInput(f"{place} cannot be used: {problem}")
    if isinstance(problem, asyncpg.DataError | said.DataError | UnicodeEncodeError):
        return InvalidInput(f"a value cannot be kept by PostgreSQL: {_told(problem)}")
    if isinstance(problem, asyncpg.PostgresError):
        return _of_server(problem, place, what)
    if isinstance(problem, ssl.SSLCertVerificationError):
        trust = "give its authority with sslrootcert=, or name the host that its certificate is for"
        return StoreUnusable(f"{place} has a certificate that is not trusted: {_told(problem)}; {trust}")
    if isinstance(problem, BROKEN):
        return StoreUnavailable(f"{place} does not answer: {_told(problem)}; {what}")
    return problem


def _of_server(problem: asyncpg.PostgresError, place: str, what: str) -> EdowError:
    said_ = _told(problem)
    if isinstance(problem, _ACCESS):
        return StoreUnusable(f"{place} refuses: {said_}; {_remedy(problem)}")
    if isinstance(problem, _UNPREPARED):
        return StoreUnusable(f"{place} keeps no prepared statements: {said_}; behind a pooler write prepare=false")
    if isinstance(problem, _ABSENT):
        return StoreUnusable(f"{place} is not as it was: {said_}; open it again, or restore it from a backup")
    if isinstance(problem, _VALUES):
        return InvalidInput(f"a value cannot be kept by PostgreSQL: {said_}")
    if isinstance(problem, said.InsufficientResourcesError):
        return StoreUnavailable(f"{place} has no room: {said_}; {_room(problem)}; {NOT_APPLIED}")
    if isinstance(problem, BROKEN):
        return StoreUnavailable(f"{place} does not answer: {said_}; {what}")
    if isinstance(problem, COLLISIONS) or code_of(problem) in _CUT_SHORT:
        return StoreUnavailable(f"{place}: {said_}; {NOT_APPLIED}")
    return Bug(f"{place}: {type(problem).__name__} {code_of(problem)}: {said_}")


def _remedy(problem: asyncpg.PostgresError) -> str:
    if isinstance(problem, said.InvalidCatalogNameError):
        return "create the database, or name another one in the URL"
    if isinstance(problem, said.InsufficientPrivilegeError):
        return "grant the role what it lacks"
    return "correct user and password in the URL, or pg_hba.conf on the server"


def _room(problem: asyncpg.PostgresError) -> str:
    if isinstance(problem, said.TooManyConnectionsError):
        return "lower `connections` in the URL, raise max_connections, or put a pooler in between"
    return "free disk space or memory on the server"


def _told(problem: BaseException) -> str:
    text = str(problem).strip().replace("\n", "; ")
    return text or type(problem).__name__


def closed(place: str) -> Closed:
    """For calls after the last close."""
    return Closed(f"{place} is closed")
