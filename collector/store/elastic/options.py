"""Which cluster, how to sign in, and every limit of the Elasticsearch store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from collector.errors import ConfigurationError
from collector.settings import without_password

_DEFAULT_PORT: Final = 9200
_MIB: Final = 1024 * 1024


class ElasticOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that is asked of the user, and what is better left alone. Sizes in bytes, times in seconds."""

    hosts: tuple[str, ...]  # `https://host:9200`, several for one cluster; never sniffed for more
    api_key: str | None = None  # as Elasticsearch prints it under `encoded`
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None  # PEM; the system's authorities when not given
    dataset: str = "backtrail"
    namespace: str = "default"
    # ---- what templates say ----
    shards: int = 1
    replicas: int | None = None  # None: the server's own default, one
    retention_days: float | None = None  # None: nothing is ever deleted
    rollover_bytes: int = 50 * 1024 * _MIB  # of one primary shard; Elastic's own advice
    rollover_age_s: int = 86_400
    fields_max: int = 1_000  # of one index; Elasticsearch's default for total_fields.limit
    new_keys_per_hour_max: int = 500  # attribute keys that get a field of their own; the rest overflows
    # ---- how bulks are sent ----
    bulk_bytes: int = 2 * _MIB + _MIB // 2  # uncompressed; 1 to 5 MiB is where servers are fastest
    bulk_records_max: int = 5_000
    bulks_in_flight_min: int = 1
    bulks_in_flight_start: int = 2
    bulks_in_flight_max: int = 8
    bulk_slow_s: float = 5.0  # a bulk slower than this asks for fewer at once
    request_timeout_s: float = 60.0
    query_timeout_s: float = 30.0
    backoff_s: float = 0.1  # doubled up to `backoff_s_max`, each time a random part of it
    backoff_s_max: float = 2.0
    # After so long without success an append gives up, keeps what is undecided in mind, and raises.
    patience_s: float = 8.0
    # ---- how much is read at once ----
    page_records: int = 2_000  # of an internal scan; below index.max_result_window
    dead_letters_bytes_max: int = 256 * _MIB

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ConfigurationError("store: no host; write https://host:9200")
        if self.api_key and self.username:
            raise ConfigurationError("store: give an API key or a user, not both")

    @classmethod
    def from_url(cls, url: str, **more: Any) -> Self:
        """Read `https://user:password@one:9200,two:9200?ca_file=…&namespace=…`.

        Args:
            url: hosts divided by commas share scheme and user. Query parameters are this class's fields.
            more: fields by name; they go before those of the URL, `None` means not given.
        Raises:
            ConfigurationError: what cannot be understood, and what would be.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError(f"store {without_password(url)!r}: write https://host:9200")
        user, _, places = parts.netloc.rpartition("@")
        hosts = []
        for place in places.split(","):
            host, separator, port = place.rpartition(":")
            if not separator or place.endswith("]"):  # no port, or an IPv6 address without one
                host, port = place, str(_DEFAULT_PORT)
            hosts.append(f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}")
        given: dict[str, Any] = dict(parse_qsl(parts.query))
        unknown = sorted(set(given) - set(cls.__struct_fields__))
        if unknown:
            raise ConfigurationError(f"store: no such option: {', '.join(unknown)}")
        if user:
            name, _, password = user.partition(":")
            given |= {"username": unquote(name), "password": unquote(password)}
        given |= {key: value for key, value in more.items() if value is not None}
        given["hosts"] = tuple(hosts)
        try:
            return msgspec.convert(given, cls, strict=False, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"store: {error}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise TypeError(f"{kind.__name__} expected, got {value!r}")
