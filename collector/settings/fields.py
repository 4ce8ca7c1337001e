"""The settings themselves: every field with its type, its default, and what it is for."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ByteSize, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from collector.errors import ConfigurationError

ENV_PREFIX: Final = "BACKTRAIL_"
_MIB: Final = 1024 * 1024


def default_data_dir() -> Path:
    """Where the collector keeps its data unless told otherwise (XDG base directories, "state")."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "backtrail" / "collector"


class Settings(BaseSettings):
    """How the service runs. Building one reads no environment and no file; `load` does.

    Sizes take units (`512MiB`), durations are in seconds.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_ignore_empty=True
    )

    # ---- where ----
    data_dir: Path = Field(default_factory=default_data_dir, description="directory of all that is kept")
    store: str = Field(
        default="embedded",
        description="`embedded`, `memory` (keeps nothing over a restart; for tests and tiny runs), or the"
        " URL of an Elasticsearch cluster, `https://one:9200,two:9200`",
    )
    store_api_key: SecretStr | None = Field(
        default=None, description="how we sign in to Elasticsearch; else user and password in its URL"
    )
    store_ca_file: Path | None = Field(
        default=None, description="PEM file of the authority that signed Elasticsearch's certificate"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on; beyond loopback needs tokens")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=4318, description="HTTP port, OTLP's own by default; 0 picks a free one"
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="OTLP/gRPC port, by convention 4317; 0 picks a free one; unset: none"
    )
    syslog_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="syslog, UDP and TCP, by convention 514; 0 picks a free one; unset: none"
    )
    syslog_host: str = Field(
        default="127.0.0.1",
        description="address of the syslog port; beyond loopback anybody can write, syslog knows no tokens",
    )
    tail_files: tuple[str, ...] = Field(
        default=(),
        description="log files to read on for ever, paths or globs; `orders=/var/log/o.log` names a service",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="further names under which a reader without a token may call us, besides loopback's own",
    )

    # ---- who ----
    ingest_token: SecretStr | None = Field(default=None, description="bearer token that senders must show")
    read_token: SecretStr | None = Field(default=None, description="bearer token that readers must show")
    admin_token: SecretStr | None = Field(
        default=None, description="bearer token for deleting; unset: deleting is off over HTTP"
    )
    tokens_file: Path | None = Field(
        default=None,
        description="where `backtrail tokens` keeps further ones, hashed; where it is there, every call needs"
        " a token; unset: `tokens.json` in the data directory",
    )
    serve_anybody_without_token: bool = Field(
        default=False, description="listen beyond loopback although anybody there can read and write"
    )
    metrics_without_token: bool = Field(
        default=False, description="`/metrics` for everybody, as some scrapers can show no token"
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="PEM file of our certificate and its chain: HTTPS, and gRPC over TLS; unset: neither",
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file of its private key")
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority whose certificates callers must show; unset: they need none",
    )

    # ---- how much ----
    body_bytes_max: ByteSize = Field(
        default=ByteSize(16 * _MIB),
        ge=1024,
        description="longest request body; OTLP senders stay below 4 MiB",
    )
    unpacked_bytes_max: ByteSize = Field(
        default=ByteSize(64 * _MIB), ge=1024, description="longest request body once it is unpacked"
    )
    in_flight_bytes_max: ByteSize = Field(
        default=ByteSize(64 * _MIB), ge=1024, description="all request bodies that are held in memory at once"
    )
    ingest_threads_max: int = Field(
        default=4, ge=1, le=64, description="threads that append; they share one fsync, so few are enough"
    )
    query_threads_max: int = Field(default=4, ge=1, le=64, description="threads that answer questions")
    waiting_requests_max: int = Field(
        default=256, ge=1, description="requests that may wait for a thread, each kind; beyond: 503"
    )
    sender_requests_per_s_max: float | None = Field(
        default=None,
        gt=0,
        description="requests of one token, or else of one address, on average over ten seconds; beyond: 429",
    )
    sender_bytes_per_s_max: ByteSize | None = Field(
        default=None, ge=1024, description="bodies of one token, or else of one address, alike; beyond: 429"
    )
    query_cost_max: int = Field(
        default=2_000,
        ge=1,
        description="dearest search: its terms, a wildcard as 20, times the days it asks of; beyond: 422",
    )
    query_timeout_s: float = Field(
        default=25.0, gt=0, description="time that a question may take before it is given up with 503"
    )
    wal_bytes_max: ByteSize = Field(
        default=ByteSize(1024 * _MIB), ge=4 * _MIB, description="write-ahead log; when full, senders get 503"
    )
    disk_free_bytes_min: ByteSize = Field(
        default=ByteSize(128 * _MIB),
        ge=0,
        description="room that is left to the store; with less on the disk senders get 503",
    )
    trace_records_max: int = Field(
        default=120_000, ge=1, description="records of one trace that are read; more is said to be cut"
    )

    # ---- when ----
    commit_interval_s: float = Field(
        default=1.0, gt=0, le=60, description="time between commits of the store: how late a record is seen"
    )
    ready_stall_s: float = Field(
        default=30.0, gt=0, description="`/readyz` turns red when records wait longer without any progress"
    )
    shutdown_timeout_s: float = Field(
        default=10.0, gt=0, description="time that running requests get to finish after SIGTERM"
    )
    retention_days: float | None = Field(
        default=None, gt=0, description="age at which records go; unset: never"
    )
    watch: bool = Field(
        default=True,
        description="look at every minute, learn what is normal, and tell as a finding what is not",
    )
    canary_interval_s: float | None = Field(
        default=None,
        ge=0.1,
        description="time between two records that the service writes and reads back itself; unset: none",
    )
    retention_bytes_max: ByteSize | None = Field(
        default=None, ge=_MIB, description="size of the store beyond which its oldest part goes; unset: none"
    )
    shed_free_bytes_min: ByteSize | None = Field(
        default=None,
        ge=_MIB,
        description="room on the disk below which the embedded store's DEBUG records go, oldest first, and"
        " then its oldest day; more than disk_free_bytes_min; unset: none go, senders get 503",
    )

    scrub_interval_s: float = Field(
        default=86_400.0,
        gt=0,
        description="time between two readings of every file of the embedded store, in search of damage",
    )
    keep_records: bool = Field(
        default=True,
        description="keep each record once more beside the embedded store's index, to build it anew from"
        " when it is damaged: a quarter more disk",
    )

    # ---- its own voice ----
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="of its own log"
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="of its own log, on standard error"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed and nothing else: only `load` looks around."""
        return (init_settings,)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("tokens_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file")
    @classmethod
    def _of_home(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value in ("embedded", "memory") or value.startswith(("http://", "https://")):
            return value
        raise ValueError("'embedded', 'memory' or the URL of an Elasticsearch cluster expected")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.in_flight_bytes_max < self.body_bytes_max:
            raise ValueError("in_flight_bytes_max must be at least body_bytes_max, or no long body gets in")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: name both, or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file: without TLS nobody shows a certificate")
        if self.shed_free_bytes_min is not None and self.shed_free_bytes_min <= self.disk_free_bytes_min:
            raise ValueError(
                "shed_free_bytes_min must be more than disk_free_bytes_min, or senders are refused before"
                " anything is shed"
            )
        return self

    @property
    def tokens_path(self) -> Path:
        """Where the tokens are that `backtrail tokens` makes, or would be."""
        return self.tokens_file or self.data_dir / "tokens.json"


def check_reach(settings: Settings) -> None:
    """Check that a port which other machines can reach asks for tokens, or that its openness was asked for.

    Raises:
        ConfigurationError: it does not; the message says what to do.
    """
    asks = (settings.ingest_token and settings.read_token) or settings.tokens_path.is_file()
    if not (is_loopback(settings.host) or asks or settings.serve_anybody_without_token):
        raise ConfigurationError(
            f"host {settings.host!r} can be reached from other machines, so tokens are needed: make some with"
            f" `backtrail tokens create`, or both ingest_token and read_token must be set"
            " (BACKTRAIL_INGEST_TOKEN, BACKTRAIL_READ_TOKEN), or listen on 127.0.0.1; if everybody there may"
            " read and write, say so with serve_anybody_without_token"
        )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach the address; a name other than localhost: no."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
