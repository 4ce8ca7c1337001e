"""arq: jobs at once, deferred, tried again and aborted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import arq
import context_side
from arq.connections import RedisSettings
from arq.worker import Worker
from context_hop import CONTEXTS, DEADLINE_S, AsyncErrand, Hop, Wait, Way, Work

BROKER = "redis"
JOBS = 300

errands: dict[str, AsyncErrand] = {}


async def work_on(_: Any, name: str, tag: str) -> None:
    """What the others do as well, by its name."""
    await asyncio.sleep(0)
    try:
        getattr(context_side, name)(tag)
    finally:
        errands[tag].done.set()


async def second_time(context: Any, name: str, tag: str) -> None:
    """Do it when tried again."""
    if context["job_try"] == 1:
        raise arq.Retry(defer=0.01)
    await work_on(context, name, tag)


async def sleep(_: Any, tag: str) -> None:
    """Until somebody aborts it."""
    errands[tag].done.set()
    await asyncio.sleep(DEADLINE_S)


def _hop(function: Callable[..., Any], **options: Any) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])
        pool = await arq.create_pool(settings)
        await pool.flushdb()
        worker = Worker(
            [work_on, second_time, sleep],
            redis_settings=settings,
            allow_abort_jobs=True,
            poll_delay=0.02,
            max_jobs=100,
            handle_signals=False,
        )
        serving = asyncio.create_task(worker.async_run())
        senders: set[asyncio.Task[Any]] = set()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = AsyncErrand(work, tag)
            sender = asyncio.create_task(pool.enqueue_job(function.__name__, work.__name__, tag, **options))
            senders.add(sender)
            sender.add_done_callback(senders.discard)
            return errand.wait

        def cancel(tag: str) -> Wait:
            errand = errands[tag] = AsyncErrand(None, tag)
            sender = asyncio.create_task(pool.enqueue_job("sleep", tag))

            async def aborted() -> None:
                job = await sender
                await errand.wait()
                assert await job.abort(timeout=DEADLINE_S, poll_delay=0.02)

            return aborted

        yield Way(go, cancel)
        await asyncio.gather(*worker.tasks.values(), return_exceptions=True)  # what follows the job itself
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await worker.close()
        await pool.aclose()

    return opened


HOPS = [
    Hop("arq", _hop(work_on), asyncio.run, contexts=CONTEXTS),
    Hop("arq, deferred", _hop(work_on, _defer_by=0.05), asyncio.run, contexts=JOBS),
    Hop("arq, Retry", _hop(second_time), asyncio.run, contexts=JOBS),
]
