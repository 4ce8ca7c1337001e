"""The client for programs with an event loop: the waiting one, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from collector.client.events import ChangeClient, FindingClient
from collector.client.letters import DeadLetterClient
from collector.client.sync import CollectorClient
from collector.client.wire import DEFAULT_URL, Item, Stream

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class AsyncCollectorClient:
    """`CollectorClient` with `async` methods; arguments, results and errors are the same.

    Calls of one instance run one after the other, as its one connection has it; a stream has a thread
    and a connection of its own. A call that is cancelled goes on in its thread until its answer is there.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        ingest_token: str | None = None,
        admin_token: str | None = None,
        ca_file: Path | str | None = None,
        cert_file: Path | str | None = None,
        key_file: Path | str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._client = CollectorClient(
            url,
            token=token,
            ingest_token=ingest_token,
            admin_token=admin_token,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            timeout_s=timeout_s,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backtrail-client")
        self.dead_letters = AsyncDeadLetterClient(self._client.dead_letters, self._thread)
        self.changes = AsyncChangeClient(self._client.changes, self._thread)
        self.findings = AsyncFindingClient(self._client.findings, self._thread)
        client = self._client
        # Each is the method of the same name, with its signature and its documentation.
        self.trace = self._awaited(client.trace)
        self.traces = self._awaited(client.traces)
        self.logs = self._awaited(client.logs)
        self.facets = self._awaited(client.facets)
        self.root_cause = self._awaited(client.root_cause)
        self.context_losses = self._awaited(client.context_losses)
        self.services = self._awaited(client.services)
        self.operations = self._awaited(client.operations)
        self.rates = self._awaited(client.rates)
        self.service_rates = self._awaited(client.service_rates)
        self.templates = self._awaited(client.templates)
        self.topology = self._awaited(client.topology)
        self.stats = self._awaited(client.stats)
        self.ledger = self._awaited(client.ledger)
        self.health = self._awaited(client.health)
        self.wait_for_trace = self._awaited(client.wait_for_trace)
        self.import_records = self._awaited(client.import_records)
        self.delete = self._awaited(client.delete)
        self.export = _drawn(client.export)
        self.export_trace = _drawn(client.export_trace)
        self.tail = _drawn(client.tail)

    @property
    def url(self) -> str:
        """Of the collector, in full."""
        return self._client.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connection and the thread go, once the call that is under way is over."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._client.close)
        self._thread.shutdown(wait=False)

    def _awaited(
        self, method: Callable[Arguments, Result]
    ) -> Callable[Arguments, Coroutine[None, None, Result]]:
        return _in_thread(self._thread, method)


class AsyncChangeClient:
    """`ChangeClient` with `async` methods; `AsyncCollectorClient` makes it."""

    def __init__(self, client: ChangeClient, thread: ThreadPoolExecutor) -> None:
        self.list = _in_thread(thread, client.list)
        self.record = _in_thread(thread, client.record)


class AsyncFindingClient:
    """`FindingClient` with `async` methods; `AsyncCollectorClient` makes it."""

    def __init__(self, client: FindingClient, thread: ThreadPoolExecutor) -> None:
        self.list = _in_thread(thread, client.list)


class AsyncDeadLetterClient:
    """`DeadLetterClient` with `async` methods; `AsyncCollectorClient` makes it."""

    def __init__(self, client: DeadLetterClient, thread: ThreadPoolExecutor) -> None:
        self.list = _in_thread(thread, client.list)
        self.show = _in_thread(thread, client.show)
        self.replay = _in_thread(thread, client.replay)
        self.drop = _in_thread(thread, client.drop)


def _in_thread(
    thread: ThreadPoolExecutor, method: Callable[Arguments, Result]
) -> Callable[Arguments, Coroutine[None, None, Result]]:
    async def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, partial(method, *args, **kwargs))

    call.__doc__ = method.__doc__
    return call


def _drawn(
    method: Callable[Arguments, Stream[Item]],
) -> Callable[Arguments, AsyncGenerator[Item, None]]:
    async def stream(*args: Arguments.args, **kwargs: Arguments.kwargs) -> AsyncGenerator[Item, None]:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="backtrail-client-stream")
        items = method(*args, **kwargs)
        try:
            while (item := await loop.run_in_executor(thread, next, items, None)) is not None:
                yield item
        finally:
            items.close()  # wakes the thread if it still waits
            thread.shutdown(wait=False)

    stream.__doc__ = method.__doc__
    return stream
