"""The way to the collector: ships what the probes wrote, and asks for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from tracing.doctor.findings import Finding
from tracing.errors import ConfigurationError, RetryableExportError
from tracing.settings import NO_TLS_FILES, TlsFiles
from tracing.spool import ShipperLimits, drain
from tracing.spool.tls import context_for
from tracing.spool.transport import Transport

SHIP_TIMEOUT_S: Final = 15.0
SHIP_FAILURES_MAX: Final = 3
ASK_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.1
CLOCK_OFF_S_MAX: Final = 2.0  # HTTP's Date has whole seconds, so a smaller difference proves nothing


class Collector:
    """One collector, asked as any reader asks it.

    Args:
        url: of the collector.
        token: bearer token, where it wants one.
        tls_files: what its certificate is checked by, and what is shown to it.

    Raises:
        ConfigurationError: a file cannot be read, or they do not belong together.
    """

    def __init__(self, url: str, token: str | None, tls_files: TlsFiles = NO_TLS_FILES) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._tls_files = tls_files
        # A collector is a neighbour, never behind a proxy.
        tls = HTTPSHandler(context=context_for(self.url, tls_files))
        self._opener = build_opener(ProxyHandler({}), tls)

    def ship(self, spool_dir: Path) -> Finding:
        """Bring in all that lies under a spool directory."""
        failures: list[RetryableExportError] = []
        try:
            carrier = Transport(self.url, self._token, ShipperLimits(), self._tls_files)
            is_done = drain(
                spool_dir,
                carrier,
                timeout_s=SHIP_TIMEOUT_S,
                failures_max=SHIP_FAILURES_MAX,
                tell=failures.append,
            )
        except ConfigurationError as error:
            return Finding(state="bad", what=str(error), advice="--url http://HOST:4318")
        if is_done:
            return Finding(state="good", what=f"the collector at {self.url} has taken what the probes wrote")
        why = f"{failures[-1]}" if failures else f"not within {SHIP_TIMEOUT_S:.0f} s"
        return Finding(
            state="bad",
            what=f"the collector at {self.url} did not take what the probes wrote: {why}",
            advice="`backtrail check` on its machine; TRACING_COLLECTOR_URL says where it is",
        )

    def found(self, trace_ids: Iterable[str], timeout_s: float) -> dict[str, bool]:
        """Whether each trace can be asked for, once the time is up at the latest.

        Raises:
            PermissionError: the token may not read.
        """
        deadline_s = time.monotonic() + timeout_s
        found = dict.fromkeys(trace_ids, False)
        while missing := [trace_id for trace_id, there in found.items() if not there]:
            for trace_id in missing:
                found[trace_id] = self._has(trace_id)
            if all(found.values()) or time.monotonic() > deadline_s:
                break
            time.sleep(POLL_S)
        return found

    def clock(self) -> Finding | None:
        """A finding when its clock and ours are apart."""
        try:
            before = time.time()
            with self._ask("/readyz") as answer:
                date = answer.headers.get("Date")
            now = (before + time.time()) / 2
        except (URLError, OSError):
            return None  # whoever ships says so
        if date is None:
            return None
        off_s = now - parsedate_to_datetime(date).timestamp() - 0.5  # its seconds are cut, half on average
        if abs(off_s) <= CLOCK_OFF_S_MAX:
            return None
        return Finding(
            state="note",
            what=f"this machine's clock is {off_s:+.0f} s off the collector's",
            advice="chains are corrected for it; an NTP client on both machines makes that unnecessary",
        )

    def _has(self, trace_id: str) -> bool:
        try:
            with self._ask(f"/api/v1/traces/{trace_id}") as answer:
                return bool(json.load(answer).get("records"))
        except HTTPError as error:
            if error.code in (401, 403):
                raise PermissionError(f"{self.url} does not let this token read traces") from None
            return False
        except (URLError, OSError, ValueError):
            return False

    def _ask(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return self._opener.open(Request(self.url + path, headers=headers), timeout=ASK_TIMEOUT_S)
