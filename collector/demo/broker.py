"""The shop's message queue: Celery on files, so that the demo needs no server."""

from __future__ import annotations

import functools
import time
import uuid
from pathlib import Path
from typing import Any

import celery
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

from collector.demo.premises import QUEUE_FOLDER, directory

POLL_INTERVAL_S = 0.05


class Channel(filesystem.Channel):
    """kombu's channel on files, except that a message is there only once it is whole.

    kombu's own writes into the file under its final name, and a worker that looks at that very moment
    takes half a message away.
    """

    # kombu's own declarations of this method name their arguments differently
    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        file = Path(self.data_folder_out) / f"{time.monotonic_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(dumps(message))
        unfinished.replace(file)


class Transport(filesystem.Transport):
    """kombu's transport on files, with the channel above."""

    Channel = Channel


TRANSPORT_ALIASES["shop"] = f"{__name__}:Transport"


@functools.cache
def queue_app() -> celery.Celery:
    """The Celery application that both the sender and the worker use."""
    folder = directory() / QUEUE_FOLDER
    folder.mkdir(exist_ok=True)
    app = celery.Celery("shop", broker="shop://localhost")
    app.conf.update(
        broker_transport_options={
            "data_folder_in": folder,
            "data_folder_out": folder,
            "control_folder": directory() / f"{QUEUE_FOLDER}-control",
            "polling_interval": POLL_INTERVAL_S,
        },
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
        task_default_queue="payments",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_lost_wait=0.5,  # seconds until a task whose child died is given up; 10 by default
        worker_prefetch_multiplier=1,
    )
    return app
