"""Calls to SQS and SNS: the clients, their errors in the words of a transport, and how many are made at once."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal

import msgspec
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # type: ignore[import-untyped]

from edow.address import Address
from edow.errors import InvalidInput, TransportUnavailable
from edow.transport.sqs.options import Options

BATCH = 10  # entries of a request, Amazon's limit
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # that an answer may take, besides what a poll waits
CONNECTIONS = 1000  # most of them polls
ATTEMPTS = 3  # at a request, with growing pauses, while the service does not answer or has too much to do

Api = Literal["sqs", "sns"]

_SILENCE = (HTTPClientError, ConnectionError, OSError, ValueError)  # the last: no answer of such a service
_THROTTLED = re.compile("Throttl|TooManyRequests|RequestLimit|SlowDown|OverLimit|KmsThrottled")
_MISSING = re.compile("NonExistentQueue|QueueDoesNotExist|NotFound|DeletedRecently")
_UNFIT = re.compile("InvalidParameter|ParameterValueInvalid|InvalidMessageContents|TooLong")
_DENIED = re.compile("AccessDenied|Authoriz|Auth|Token|Signature|AccessKey|InvalidSecurity|Credential|OptInRequired")
_REMEDY = "check the credentials (URL, environment, profile or role) and that its policy allows sqs:* here"


class Rejected(TransportUnavailable):
    """The service said no, and would again."""


class Missing(Rejected):
    """There is no such queue or topic."""


class Fault(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry of a batch that was not done. `sender_fault`: trying again does not help, unless a right is missing."""

    id: str
    code: str = ""
    message: str = ""
    sender_fault: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it is the message that is wrong: the queue will never take it."""
        return self.sender_fault and _UNFIT.search(self.code) is not None


class Service:
    """Both services at one place."""

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._options = options
        self._stack = AsyncExitStack()
        self._clients: dict[Api, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(options.concurrency))  # by verb

    async def open(self, prefix: str) -> None:
        """`prefix`: of names that we may list. Raises InvalidInput for credentials or rights that are missing,
        TransportUnavailable when nobody answers.
        """
        try:
            session = AioSession(profile=self._options.profile or None)
            self._clients["sqs"] = await self._client(session, "sqs")
            await self.call("sqs", "list_queues", QueueNamePrefix=prefix or "edow", MaxResults=1)
            if self._options.sns != "none":
                self._clients["sns"] = await self._client(session, "sns")
                await self.call("sns", "list_topics")
        except BaseException as problem:
            without = "" if "sns" not in self._clients else "; or write sns=none to go without SNS and broadcasts"
            await self.close()
            if isinstance(problem, Rejected | BotoCoreError):
                raise InvalidInput(f"{self._address}: {_first_line(problem)}{without}") from problem
            raise

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._clients = {}
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it in the background; when we are closed it is broken off."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, api: Api, verb: str, **parameters: object) -> dict[str, Any]:
        """One request, when it is its turn among those of its verb: a lease that waits to be prolonged behind all that
        is to be published is lost. Raises TransportUnavailable, Rejected and Missing.
        """
        async with self._slots[verb]:
            return await self.poll(api, verb, **parameters)

    async def poll(self, api: Api, verb: str, **parameters: object) -> dict[str, Any]:
        """One request, at once, however many are under way."""
        client = self._clients.get(api)
        if client is None:
            raise TransportUnavailable(f"{self._address} is closed")
        try:
            answer: dict[str, Any] = await getattr(client, verb)(**parameters)
        except ClientError as problem:
            raise self._translate(verb, problem) from problem
        except _SILENCE as problem:
            raise TransportUnavailable(f"{self._address} does not answer: {_first_line(problem)}") from problem
        except BotoCoreError as problem:
            raise Rejected(f"{_first_line(problem)}: {_REMEDY}") from problem
        return answer

    async def pages(self, api: Api, verb: str, **parameters: object) -> AsyncIterator[dict[str, Any]]:
        """One request after the other, until there is no more."""
        token: dict[str, object] = {}
        while True:
            answer = await self.call(api, verb, **parameters, **token)
            yield answer
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    async def batch(self, verb: str, where: str, entries: Sequence[Mapping[str, object]]) -> list[Fault]:
        """A request with entries for the queue (URL) or SNS topic (ARN); those that were not done."""
        if where.startswith("arn:"):
            answer = await self.call("sns", verb, TopicArn=where, PublishBatchRequestEntries=entries)
        else:
            answer = await self.call("sqs", verb, QueueUrl=where, Entries=entries)
        return msgspec.convert(answer.get("Failed", []), list[Fault])

    async def _client(self, session: AioSession, api: Api) -> Any:
        options, address = self._options, self._address
        config = AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=options.poll + ANSWER_SECONDS,
            max_pool_connections=CONNECTIONS,
            parameter_validation=False,  # a tenth of a request's processor time
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            tcp_keepalive=True,
        )
        return await self._stack.enter_async_context(
            session.create_client(
                api,
                region_name=address.hosts[0],
                endpoint_url=options.endpoint or None,
                aws_access_key_id=address.user,
                aws_secret_access_key=address.password,
                aws_session_token=options.session_token or None,
                config=config,
            )
        )

    def _translate(self, verb: str, problem: ClientError) -> TransportUnavailable:
        error = problem.response.get("Error", {})
        code = str(error.get("Code", ""))
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        text = f"{verb} was answered with {code}: {_first_line(error.get('Message', ''))}"
        if _THROTTLED.search(code) or status >= 500:
            return TransportUnavailable(f"{self._address}: {text}")
        if _MISSING.search(code):
            return Missing(text)
        return Rejected(f"{text}: {_REMEDY}" if _DENIED.search(code) or status in (401, 403) else text)


def _first_line(problem: object) -> str:
    """Amazon's words on a wrong signature go on with the whole request."""
    return next(iter(str(problem).splitlines()), "")
