"""Certificates: ours, whose files may be replaced while we run, and those that callers show.

TLS 1.2 is the oldest version that is spoken, which is the `ssl` module's own default.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from collector.errors import ConfigurationError

if TYPE_CHECKING:
    from collector.settings import Settings

logger = logging.getLogger(__name__)

_ADVICE: Final = "PEM files are wanted, the certificate's chain in one of them and its key without a password"


class Pem(NamedTuple):
    """What is in the files, as gRPC takes it."""

    key: bytes
    chain: bytes
    client_ca: bytes | None


class ServerTls:
    """Our certificate, and whose certificates callers must show. Any thread.

    The certificate and its key are read again once their files have changed: connections that are made
    afterwards see the new one. The authority of the callers' certificates is read once: taking an authority
    away needs a restart, since connections that it let in would stay anyway.

    Args:
        cert_file: PEM, our certificate first, then its chain.
        key_file: PEM, its private key.
        client_ca_file: PEM, the authorities whose certificates callers must show; `None`: they need none.
    Raises:
        ConfigurationError: a file cannot be read, or they do not belong together.
    """

    def __init__(self, cert_file: Path, key_file: Path, client_ca_file: Path | None = None) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._client_ca_file = client_ca_file
        self._lock = threading.Lock()
        self._trouble: str | None = None  # told once
        try:
            self._stamps = self._stamped()
            self.context = self._read()
            self.pem = self._read_pem()
        except (OSError, ValueError) as error:  # an `ssl.SSLError` is an `OSError`
            raise ConfigurationError(
                f"tls_cert_file {cert_file}, tls_key_file {key_file}: {_said(error)}; {_ADVICE}"
            ) from None

    @classmethod
    def of(cls, settings: Settings) -> ServerTls | None:
        """What the settings say; `None`: no TLS.

        Raises:
            ConfigurationError: as the class does.
        """
        if settings.tls_cert_file is None or settings.tls_key_file is None:
            return None
        return cls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)

    @property
    def asks_callers(self) -> bool:
        """Whether callers must show a certificate."""
        return self._client_ca_file is not None

    def refresh(self) -> bool:
        """Take the files' new content over, if they have changed; return whether that was done.

        What cannot be used is said in the log, and the certificate stays as it was.
        """
        with self._lock:
            try:
                stamps = self._stamped()
                if stamps == self._stamps:
                    return False
                self._read()  # first elsewhere: half a change would leave a certificate without its key
                self.context.load_cert_chain(self._cert_file, self._key_file)
                self.pem = self._read_pem()
            except (OSError, ValueError) as error:
                if str(error) != self._trouble:
                    logger.error("the certificate stays as it was: %s", _said(error))
                self._trouble = str(error)
                return False
            self._stamps, self._trouble = stamps, None
        logger.info("read the certificate again")
        return True

    def _stamped(self) -> list[tuple[int, int, int]]:
        found = [file.stat() for file in (self._cert_file, self._key_file)]
        return [(one.st_ino, one.st_mtime_ns, one.st_size) for one in found]

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        if self._client_ca_file is not None:
            context.load_verify_locations(self._client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _read_pem(self) -> Pem:
        client_ca = None if self._client_ca_file is None else self._client_ca_file.read_bytes()
        return Pem(self._key_file.read_bytes(), self._cert_file.read_bytes(), client_ca)


class TlsFiles(NamedTuple):
    """What a client checks a collector's certificate by, and what it shows itself; all PEM, all optional."""

    ca_file: Path | None = None  # authorities that may have signed it; None: the system's
    cert_file: Path | None = None  # our certificate, with its key unless that has a file of its own
    key_file: Path | None = None


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A client's side of TLS.

    Raises:
        ConfigurationError: a file cannot be read, or they do not belong together.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.cert_file is not None:
            context.load_cert_chain(files.cert_file, files.key_file, password=_no_password)
    except (OSError, ValueError) as error:
        named = ", ".join(str(file) for file in files if file is not None)
        raise ConfigurationError(f"{named}: {_said(error)}; {_ADVICE}") from None
    return context


def _no_password() -> str:
    """Without this OpenSSL would ask for one on the terminal, and wait."""
    raise ValueError("the key has a password")


def _said(error: Exception) -> str:
    """Without the file and line of OpenSSL's own source."""
    return str(getattr(error, "strerror", None) or error).split(" (_ssl.c")[0]
