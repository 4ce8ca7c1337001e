"""Charges cards: a Celery worker with forked children."""

from __future__ import annotations

import logging
import random
import time

from celery.signals import worker_ready

import tracing
from collector.demo.broker import queue_app
from collector.demo.faults import spoiled
from collector.demo.premises import publish_address

logger = logging.getLogger("shop.payments")

CHILDREN = 2


def charge(order_id: str, total_cents: int) -> str:
    """Take the money and write the receipt; the receipt's number is the result."""
    euros = total_cents / 100
    logger.info("%s: charging %.2f euros", order_id, euros)
    code = authorise(order_id, euros)
    return write_receipt(order_id, code)


@tracing.traced("authorise card")
def authorise(order_id: str, euros: float) -> str:
    """Ask the bank, which answers with a code."""
    logger.info("%s: asking the bank for %.2f euros", order_id, euros)
    time.sleep(random.uniform(0.008, 0.015))
    code = spoiled("payments.bank", order_id, f"{random.getrandbits(24):06x}")
    logger.info("%s: authorised, code %s", order_id, code)
    return code


@tracing.traced("write receipt")
def write_receipt(order_id: str, code: str) -> str:
    """Keep the proof of the payment."""
    time.sleep(random.uniform(0.002, 0.004))
    receipt = f"{order_id}/{spoiled('payments.code', order_id, code)}"
    logger.info("%s: receipt %s written", order_id, receipt)
    return receipt


def main() -> None:
    """Work until told to stop."""
    tracing.configure(service="payments", level="INFO")
    tracing.instrument()
    app = queue_app()
    app.task(charge, name="payments.charge")

    worker_ready.connect(lambda **_: publish_address("payments", "queue"), weak=False)
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")  # there is nobody to talk to
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={CHILDREN}", "--loglevel=INFO", *quiet])


if __name__ == "__main__":
    main()
