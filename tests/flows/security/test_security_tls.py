"""TLS and mutual TLS between real programs: who is let in, who is not, and what is said."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from collector.cli_source import Place
from collector.client import CollectorClient
from collector.errors import ConfigurationError, Unreachable
from collector.service import Collector
from collector.settings import Settings

pytestmark = pytest.mark.flow

PATIENCE_S = 30.0
LINE = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"orders","message":"hello"}'
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROGRAM = """
import logging, sys, tracing
handle = tracing.configure(service="shop", exporter=sys.argv[1])
logging.getLogger("shop").warning("over TLS")
sys.exit(0 if tracing.flush(float(sys.argv[2])) else 7)
"""


def settings(tmp_path: Path, ours: Any, **more: Any) -> Settings:
    """Of a collector with a certificate."""
    return Settings(
        data_dir=tmp_path / "data",
        port=0,
        store="memory",
        watch=False,
        tls_cert_file=ours.cert_file,
        tls_key_file=ours.key_file,
        **more,
    )


def program(
    tmp_path: Path, url: str, *, exporter: str = "spool", flush_s: float = PATIENCE_S, **files: Path
) -> subprocess.CompletedProcess[str]:
    """A traced program that logs one line and waits until it has arrived; exit status 7: it has not."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, exporter, str(flush_s)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("TRACING_")},
            "TRACING_COLLECTOR_URL": url,
            "TRACING_SPOOL_DIR": str(tmp_path / "spool"),
            **{f"TRACING_{name.upper()}": str(file) for name, file in files.items()},
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_our_authority_is_trusted_and_no_other(tmp_path: Path, authority: Callable[[str], Any]) -> None:
    """By the client, by the commands, and by a traced program; the system's authorities do not know it."""
    ours, other = authority("ours"), authority("other")
    with Collector(settings(tmp_path, ours.sign("collector"))) as running:
        assert running.url.startswith("https://")
        with CollectorClient(running.url, ca_file=ours.ca_file) as client:
            assert client.import_records([("u", LINE)])["stored"] == 1
        for trusted in (other.ca_file, None):
            with (
                CollectorClient(running.url, ca_file=trusted) as client,
                pytest.raises(Unreachable, match="certificate is not trusted"),
            ):
                client.health()
        named = {"BACKTRAIL_URL": running.url, "BACKTRAIL_CA_FILE": str(ours.ca_file)}
        with Place(url=None, data_dir=None, environment=named).answers() as answers:
            assert answers.stats()["wal"]["last_seq"] == 1

        done = program(tmp_path, running.url, ca_file=ours.ca_file)
        assert done.returncode == 0, done.stderr
        stranger = program(tmp_path / "second", running.url, flush_s=1.0, ca_file=other.ca_file)
        assert stranger.returncode == 7, stranger.stderr
        assert running.pipeline.drain(PATIENCE_S)
        with CollectorClient(running.url, ca_file=ours.ca_file) as client:
            assert [record["message"] for record in client.logs("TLS")["records"]] == ["over TLS"]


def test_callers_must_show_a_certificate(tmp_path: Path, authority: Callable[[str], Any]) -> None:
    """One of the authority that the collector names; without one, or with another's, nothing is answered."""
    ours, theirs, strange = authority("ours"), authority("theirs"), authority("strange")
    caller, impostor = theirs.sign("caller"), strange.sign("impostor")
    mutual = settings(tmp_path, ours.sign("collector"), tls_client_ca_file=theirs.ca_file)
    with Collector(mutual) as running:
        with CollectorClient(
            running.url, ca_file=ours.ca_file, cert_file=caller.cert_file, key_file=caller.key_file
        ) as client:
            assert client.import_records([("u", LINE)])["stored"] == 1
        with CollectorClient(running.url, ca_file=ours.ca_file) as client, pytest.raises(Unreachable):
            client.health()
        with (
            CollectorClient(
                running.url, ca_file=ours.ca_file, cert_file=impostor.cert_file, key_file=impostor.key_file
            ) as client,
            pytest.raises(Unreachable),
        ):
            client.health()
        files = {"client_cert_file": caller.cert_file, "client_key_file": caller.key_file}
        done = program(tmp_path, running.url, ca_file=ours.ca_file, **files)
        assert done.returncode == 0, done.stderr
        without = program(tmp_path / "second", running.url, flush_s=1.0, ca_file=ours.ca_file)
        assert without.returncode == 7, without.stderr


def test_the_doctor_reaches_it(tmp_path: Path, authority: Callable[[str], Any]) -> None:
    """With the files that the program itself would use, and not without them."""
    ours, theirs = authority("ours"), authority("theirs")
    caller = theirs.sign("caller")
    files = {
        "TRACING_CA_FILE": str(ours.ca_file),
        "TRACING_CLIENT_CERT_FILE": str(caller.cert_file),
        "TRACING_CLIENT_KEY_FILE": str(caller.key_file),
    }
    mutual = settings(tmp_path, ours.sign("collector"), tls_client_ca_file=theirs.ca_file)
    with Collector(mutual) as running:
        for given, status in ((files, 0), ({}, 1)):
            done = subprocess.run(
                [sys.executable, "-m", "tracing.launch", "doctor", "--url", running.url, "--only", "queues"],
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **given},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == status, done.stdout + done.stderr
            assert ("has taken what the probes wrote" in done.stdout) is bool(given)


def export(address: str, credentials: grpc.ChannelCredentials) -> bytes:
    """One empty OTLP request over gRPC."""
    with grpc.secure_channel(address, credentials) as channel:
        answer: bytes = channel.unary_unary(EXPORT)(b"", timeout=5)
        return answer


def test_grpc_speaks_tls_as_http_does(tmp_path: Path, authority: Callable[[str], Any]) -> None:
    """With the same certificate, and the same demand for one; our own exporter has it, too."""
    ours, theirs, other = authority("ours"), authority("theirs"), authority("other")
    caller = theirs.sign("caller")
    mutual = settings(tmp_path, ours.sign("collector"), grpc_port=0, tls_client_ca_file=theirs.ca_file)
    with Collector(mutual) as running:
        address = f"127.0.0.1:{running.grpc_port}"
        ca, key, cert = (file.read_bytes() for file in (ours.ca_file, caller.key_file, caller.cert_file))
        assert export(address, grpc.ssl_channel_credentials(ca, key, cert)) == b""
        for wrong in (
            grpc.ssl_channel_credentials(ca),
            grpc.ssl_channel_credentials(other.ca_file.read_bytes(), key, cert),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                export(address, wrong)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        done = program(
            tmp_path,
            f"https://{address}",
            exporter="otlp",
            ca_file=ours.ca_file,
            client_cert_file=caller.cert_file,
            client_key_file=caller.key_file,
            otlp_protocol=Path("grpc"),
        )
        assert done.returncode == 0, done.stderr
        assert running.pipeline.drain(PATIENCE_S)
        assert running.pipeline.store.stats().logs == 1


def serial_of(url: str, ca_file: Path) -> int:
    """Of the certificate that a new connection is shown."""
    host, _, port = url.removeprefix("https://").partition(":")
    pem = ssl.get_server_certificate((host, int(port)), ca_certs=str(ca_file))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_a_new_certificate_needs_no_restart(
    tmp_path: Path, authority: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """New connections see it, over HTTP and gRPC; a file that is no certificate changes nothing."""
    ours, later = authority("ours"), authority("later")
    certificate = ours.sign("collector")
    with Collector(settings(tmp_path, certificate, grpc_port=0)) as running:
        before = serial_of(running.url, ours.ca_file)
        tls = running._running.tls
        assert tls is not None
        assert not tls.refresh()
        good = certificate.cert_file.read_bytes()
        certificate.cert_file.write_text("not a certificate")
        assert not tls.refresh()
        assert "stays as it was" in caplog.text
        assert serial_of(running.url, ours.ca_file) == before
        certificate.cert_file.write_bytes(good)
        later.sign("collector")  # under the same names
        assert tls.refresh()
        assert serial_of(running.url, later.ca_file) != before
        address = f"127.0.0.1:{running.grpc_port}"
        assert export(address, grpc.ssl_channel_credentials(later.ca_file.read_bytes())) == b""
        with pytest.raises(grpc.RpcError):
            export(address, grpc.ssl_channel_credentials(ours.ca_file.read_bytes()))


def test_plain_http_on_a_tls_port_is_no_answer_and_no_trouble(
    tmp_path: Path, authority: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And what is refused in the protocol itself is answered over TLS, too."""
    ours = authority("ours")
    with Collector(settings(tmp_path, ours.sign("collector"))) as running:
        with (
            CollectorClient(running.url.replace("https", "http"), timeout_s=5) as client,
            pytest.raises(Unreachable),
        ):
            client.health()
        host, _, port = running.url.removeprefix("https://").partition(":")
        context = ssl.create_default_context(cafile=ours.ca_file)
        with (
            socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000)
            assert secure.recv(12) == b"HTTP/1.1 431"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_files_that_do_not_belong_together_stop_the_start(
    tmp_path: Path, authority: Callable[[str], Any]
) -> None:
    """With their names, for the service, the client and a traced program."""
    ours = authority("ours")
    one, other = ours.sign("one"), ours.sign("other")
    mixed = Settings(
        data_dir=tmp_path / "data", port=0, tls_cert_file=one.cert_file, tls_key_file=other.key_file
    )
    with pytest.raises(ConfigurationError, match=r"tls_key_file .*other\.key"):
        Collector(mixed).start()
    with pytest.raises(ConfigurationError, match=r"absent\.pem"):
        CollectorClient("https://127.0.0.1:1", ca_file=tmp_path / "absent.pem")
    done = program(tmp_path, "https://127.0.0.1:1", ca_file=tmp_path / "absent.pem")
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert "absent.pem" in done.stderr
    for alone in ({"tls_cert_file": one.cert_file}, {"tls_client_ca_file": ours.ca_file}):
        with pytest.raises(ValueError, match="tls_cert_file"):
            Settings(data_dir=tmp_path / "data", **alone)
