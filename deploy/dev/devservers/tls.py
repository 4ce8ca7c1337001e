"""Certificates for servers on loopback: an authority of our own, made with the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devservers.unavailable import ServerUnavailable

_DAYS = "30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files, all PEM."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and a certificate for 127.0.0.1 and localhost that it has signed.

    Raises:
        ServerUnavailable: there is no `openssl` command.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ServerUnavailable("TLS on a test server needs the `openssl` command (Debian: openssl)")
    directory.mkdir(parents=True, exist_ok=True)
    names = directory / "names.cnf"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=backtrail test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", names.name]
    for command in (
        ["req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", _DAYS, *subject],
        ["req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", "-out", "server.crt", "-days", _DAYS, *signed],
    ):
        done = subprocess.run([openssl, *command], cwd=directory, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise ServerUnavailable(f"openssl {command[0]}: {' '.join(done.stderr.split())[-300:]}")
    return Certificates(
        authority=directory / "ca.crt", certificate=directory / "server.crt", key=directory / "server.key"
    )
