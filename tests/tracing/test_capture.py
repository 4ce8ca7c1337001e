"""`configure()` sees every record of every logger, and the program's own output stays as it was."""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tracing
from tracing.line import decode
from tracing.logs import capture
from tracing.testing import Captured, capturing

log = logging.getLogger("app.orders")


def test_loggers_that_do_not_propagate_are_seen(tracing_capture: Captured) -> None:
    """Handlers at the root would miss them."""
    quiet = logging.getLogger("quiet")
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    try:
        quiet.warning("hello")
    finally:
        quiet.propagate = True
        quiet.handlers.clear()
    assert tracing_capture.messages == ["hello"]


def test_replaced_handlers_change_nothing(tracing_capture: Captured) -> None:
    """`dictConfig` and frameworks replace all handlers; the capture is none of them."""
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}})
    log.warning("hello")
    assert tracing_capture.messages == ["hello"]


def test_a_logger_s_own_level_and_filters_count(tracing_capture: Captured) -> None:
    """What the program does not log is not recorded."""
    own = logging.getLogger("filtered")
    own.setLevel(logging.ERROR)
    own.addFilter(lambda record: "secret" not in record.getMessage())
    try:
        own.warning("too low")
        own.error("a secret")
        own.error("seen")
    finally:
        own.setLevel(logging.NOTSET)
        own.filters.clear()
    assert tracing_capture.messages == ["seen"]


def test_removal_puts_everything_back() -> None:
    """The method, and the root's level."""
    before = logging.Logger.callHandlers
    level = logging.getLogger().level
    with capturing(level="DEBUG"):
        assert logging.Logger.callHandlers is not before
        assert logging.getLogger().level == logging.DEBUG
    assert logging.Logger.callHandlers is before
    assert logging.getLogger().level == level


def test_somebody_else_s_wrapper_survives_our_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentry wraps the same method; whoever came later is not thrown out, and nothing is doubled after."""
    seen: list[str] = []
    with capturing() as captured:
        ours = logging.Logger.callHandlers

        def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            ours(self, record)

        monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
        log.warning("both")
        assert captured.messages == ["both"]
    log.warning("they alone")
    assert seen == ["both", "they alone"]
    with capturing() as captured:
        log.warning("again")
        assert captured.messages == ["again"]
    monkeypatch.undo()
    capture.remove()


def test_the_level_that_was_asked_for_is_for_the_record_only() -> None:
    """Handlers of the program get what they got without us, until the program itself says otherwise."""
    shown: list[str] = []

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())

    root, handler = logging.getLogger(), Shown()
    before = root.level
    root.setLevel(logging.WARNING)
    root.addHandler(handler)
    talkative = logging.getLogger("talkative")
    talkative.setLevel(logging.DEBUG)
    try:
        with capturing(level="INFO") as captured:
            log.info("info")
            log.warning("warning")
            talkative.debug("their own debug")
            assert shown == ["warning", "their own debug"]
            root.setLevel(logging.INFO)  # the program's own word
            log.info("wanted by the program")
            assert captured.messages == ["info", "warning", "their own debug", "wanted by the program"]
        assert shown == ["warning", "their own debug", "wanted by the program"]
        assert root.level == logging.INFO, "the program's level is not taken back"
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        talkative.setLevel(logging.NOTSET)


PROGRAM = """
import logging, sys, warnings
{configure}
log = logging.getLogger("app")
log.warning("before any handler: lastResort")
log.info("not shown")
logging.debug("module level function: calls basicConfig when there is no handler")
logging.basicConfig(format="%(levelname)s %(name)s %(message)s %(funcName)s", level=logging.INFO)
log.info("shown by basicConfig's handler")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
log.warning("%d", "a message that cannot be formatted")
child = logging.getLogger("app.child")
child.addHandler(logging.StreamHandler(sys.stdout))
child.propagate = False
child.warning("on stdout")
logging.captureWarnings(True)
warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
class Own(logging.Logger):
    pass
logging.setLoggerClass(Own)
logging.getLogger("own").error("of a subclass")
logging.config
logging.shutdown()
print("level", logging.getLogger().level, logging.getLogger().getEffectiveLevel())
"""


@pytest.mark.parametrize("level", ["", ', level="DEBUG"'])
def test_the_program_s_output_is_byte_equal(tmp_path: Path, level: str) -> None:
    """With and without us: stdout, stderr, exit status."""

    def run(configure: str) -> tuple[bytes, bytes, int]:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.replace("{configure}", configure))
        env = {**os.environ, "TRACING_SPOOL_DIR": str(tmp_path / "spool"), "TRACING_SHIP": "false"}
        done = subprocess.run(
            [sys.executable, program], env=env, capture_output=True, timeout=60, check=False
        )
        return done.stdout.replace(b"program.py", b""), done.stderr, done.returncode

    filler = "import logging.config"  # so that line numbers in tracebacks are the same
    without = run(filler)
    ours = run(f"import logging.config, tracing; tracing.configure(service='app'{level})")
    if level:  # the level of the root is what was asked for; everything that is shown is the same
        assert ours[0].rpartition(b"level")[0] == without[0].rpartition(b"level")[0]
    else:
        assert ours[0] == without[0]
    assert ours[1:] == without[1:]
    [segment] = (tmp_path / "spool" / "app").glob("*/*.ndjson")
    written = [decode(line) for line in segment.read_bytes().splitlines()[1:]]
    messages = [line.get("message") for line in written]
    for message in ("before any handler: lastResort", "failed", "on stdout", "of a subclass", "%d"):
        assert message in messages
    assert ("not shown" in messages) is bool(level)


def test_uninstall_and_configure_again_double_nothing(tracing_capture: Captured) -> None:
    """However often."""
    before = tracing.stats()["hook_off"]
    for _ in range(3):
        with capturing() as captured:
            log.warning("once")
            assert captured.messages == ["once"]
    assert tracing.stats()["hook_off"] == before
