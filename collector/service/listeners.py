"""What a service listens to beside HTTP and gRPC: syslog and files, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping

from collector.intake import Intake
from collector.settings import Settings


class Listeners:
    """Syslog and files; each only where it is asked for.

    Args:
        intake: is given what they hear.
        settings: say which there are.
    Raises:
        ConfigurationError: the syslog address cannot be listened on.
    """

    def __init__(self, intake: Intake, settings: Settings) -> None:
        self.syslog = None
        self.files = None
        if settings.syslog_port is not None:
            from collector.listen.syslog import SyslogServer  # each is loaded only when it is wanted

            self.syslog = SyslogServer(intake, host=settings.syslog_host, port=settings.syslog_port)
        if settings.tail_files:
            from collector.listen.tail import FileTail, TailSource

            named = [pattern.rpartition("=") for pattern in settings.tail_files]
            sources = [TailSource(pattern=path, service=service or None) for service, _, path in named]
            self.files = FileTail(intake, sources)

    def start(self) -> None:
        """Begin to listen."""
        for listener in (self.syslog, self.files):
            if listener is not None:
                listener.start()

    def stop(self) -> None:
        """Take nothing more; what was heard is in the log afterwards."""
        for listener in (self.syslog, self.files):
            if listener is not None:
                listener.stop()

    def stats(self) -> dict[str, Mapping[str, float]]:
        """Counts by the room's name in the metrics."""
        found: dict[str, Mapping[str, float]] = {}
        if self.syslog is not None:
            found["syslog"] = self.syslog.stats()
        if self.files is not None:
            found["files"] = self.files.stats()
        return found
