"""`fileConfig` with our names in it, in a process that has imported nothing of ours before."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest

from tracing.line import decode
from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

FILE = """
    [loggers]
    keys = root,shop
    [handlers]
    keys = out,trace
    [formatters]
    keys = json
    [logger_root]
    level = WARNING
    handlers =
    [logger_shop]
    level = INFO
    qualname = shop
    handlers = out,trace
    [handler_out]
    class = StreamHandler
    formatter = json
    args = (sys.stdout,)
    [handler_trace]
    class = tracing.LogHandler
    level = INFO
    args = ()
    [formatter_json]
    class = tracing.JsonFormatter
    format = %(message)s
"""

PROGRAM = """
    import logging, logging.config, sys

    early = logging.getLogger("early")
    configure_first = sys.argv[2] == "configure first"
    if configure_first:
        import tracing
        tracing.configure(service="shop", spool_dir=sys.argv[3], ship=False)
    logging.config.fileConfig(sys.argv[1])
    logging.getLogger("shop").info("order %d", 7)
    early.error("of a logger that the configuration has disabled")
    logging.getLogger("late").warning("of one that it does not name")
"""


@pytest.mark.flow
@pytest.mark.parametrize("how", ["configure first", "the handler configures"])
def test_file_config(how: str, tmp_path: Path) -> None:
    """Formatter and handler by their names; with the capture the handler doubles nothing."""
    (tmp_path / "logging.ini").write_text(textwrap.dedent(FILE))
    root = tmp_path / "spool"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "logging.ini"), how, str(root)],
        env={
            "HOME": str(tmp_path),
            "TRACING_SERVICE": "shop",
            "TRACING_SPOOL_DIR": str(root),
            "TRACING_SHIP": "false",
        },
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shown = decode(done.stdout.encode())
    assert (shown["message"], shown["service"]) == ("order 7", "shop")
    lines = [orjson.loads(line) for path in spools(root / "shop") for _, line in read_lines(path)]
    messages = [line["message"] for line in lines if "kind" not in line]
    # A disabled logger's records never come out of it; the capture sees all others, a handler its own.
    late = ["of one that it does not name"] if how == "configure first" else []
    assert messages == ["order 7", *late]
