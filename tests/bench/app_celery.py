"""The Celery worker that `tests.bench.apps` lets work.

`python -m tests.bench.app_celery WAY DIRECTORY BROKER QUEUE`. One task, ten log lines; the ways are those of
`tests.bench.app_asgi`. Each task that is done adds a byte to a file, which is how it is counted.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

from tests.bench import library

LINES: Final = 10
DONE: Final = "done"  # name of that file

log = logging.getLogger("shop.orders")


def _leave_logging_alone(**_: object) -> None:
    """A receiver of this signal is all that it takes."""


def make_app(directory: Path, broker: str, queue: str) -> tuple[Any, Any]:
    """The Celery application and its task; whoever orders tasks makes it without any telemetry."""
    from celery import Celery
    from celery.signals import setup_logging

    setup_logging.connect(_leave_logging_alone)  # else Celery's own handler would print every line
    app = Celery("bench", broker=broker)
    app.conf.update(task_default_queue=queue, task_ignore_result=True)
    done = os.open(directory / DONE, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    @app.task(name="bench.order")
    def order(number: int) -> None:
        for step in range(LINES):
            log.info("order %s: step %d of %d", number, step, LINES)
        os.write(done, b".")

    return app, order


def main() -> None:
    """Work until the end."""
    way, directory, broker, queue = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    log.setLevel(logging.INFO)
    if way == "silent":
        logging.getLogger().addHandler(logging.NullHandler())
    elif way == "file":
        library.add_file_handler(directory)
    elif way == "ours":
        import tracing

        logging.getLogger().addHandler(logging.NullHandler())
        library.configure(directory)
        tracing.instrument()
    app, _ = make_app(directory, broker, queue)
    if way == "otel":
        from celery.signals import worker_process_init
        from opentelemetry.instrumentation.celery import CeleryInstrumentor

        @worker_process_init.connect(weak=False)
        def begin(**_: object) -> None:
            library.add_otel_handler()
            CeleryInstrumentor().instrument(tracer_provider=library.otel_provider())

    app.worker_main(["worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"])


if __name__ == "__main__":
    main()
