"""The service's own log: lines on standard error, in our own format or as plain text.

It goes to standard error and nowhere else: a collector that shipped its log to itself would answer every
trouble with more of it.
"""

from __future__ import annotations

import logging
import sys

from collector.settings import Settings
from tracing import JsonFormatter

SERVICE_NAME = "backtrail-collector"
# Loggers of the service: ours, and the server's complaints.
_OURS = "collector"
_OTHERS = ("uvicorn.error", "asyncio")


def set_up(settings: Settings) -> None:
    """Make the service's loggers write as the settings say; calling again replaces what was set up.

    Only these loggers are touched, so that a program which runs a collector keeps its own logging.
    """
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter(service=SERVICE_NAME))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.set_name(SERVICE_NAME)
    for name in (_OURS, *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers = [old for old in logger.handlers if old.get_name() != SERVICE_NAME] + [handler]
        logger.propagate = False
        # The server's own notes of starting and stopping say nothing that ours do not.
        logger.setLevel(settings.log_level if name == _OURS else logging.WARNING)
