"""Charges cards: a Celery worker with forked children."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from typing import Any

from celery.signals import worker_ready

import tracing
from collector.demo.broker import queue_app
from collector.demo.premises import broken, end_with_parent, publish_address

logger = logging.getLogger("shop.payments")

CHILDREN = 2


def charge(order_id: str, total_cents: int) -> str:
    """Take the money and write the receipt; the receipt's number is the result."""
    logger.info("%s: charging %d cents", order_id, total_cents)
    code = authorise(order_id, total_cents)
    return write_receipt(order_id, code)


@tracing.traced("authorise card")
def authorise(order_id: str, total_cents: int) -> str:
    """Ask the bank, which answers with a code."""
    logger.info("%s: asking the bank for %d cents", order_id, total_cents)
    time.sleep(random.uniform(0.008, 0.015))
    if broken("crash", order_id):
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    code = f"{random.getrandbits(24):06x}"
    logger.info("%s: authorised, code %s", order_id, code)
    return code


@tracing.traced("write receipt")
def write_receipt(order_id: str, code: str) -> str:
    """Keep the proof of the payment."""
    time.sleep(random.uniform(0.002, 0.004))
    receipt = f"{order_id}/{code}"
    logger.info("%s: receipt %s written", order_id, receipt)
    return receipt


def main() -> None:
    """Work until told to stop."""
    tracing.configure(service="payments", level="INFO")
    tracing.instrument()
    app = queue_app()
    app.task(charge, name="payments.charge")

    @worker_ready.connect(weak=False)
    def announce(**_: Any) -> None:
        publish_address("payments", "queue")

    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")  # there is nobody to talk to
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={CHILDREN}", "--loglevel=INFO", *quiet])


if __name__ == "__main__":
    end_with_parent()
    main()
