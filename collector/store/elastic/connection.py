"""One way to talk to the cluster: bytes in, bytes out, and every failure as one of ours.

The official client does the talking. Its transport is asked to leave bodies alone: bulks are encoded
beforehand and answers are read by msgspec, several times faster than dictionaries are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from elastic_transport import ConnectionTimeout, Serializer, TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch

from collector.errors import CollectorError, ConfigurationError, StoreFailed
from collector.store.elastic.options import ElasticOptions

Result = TypeVar("Result")

# Both 8 and 9 understand version 8 of the interface, whichever client is installed: 9's own would
# ask for version 9, which an 8 refuses.
JSON: Final = "application/vnd.elasticsearch+json; compatible-with=8"
NDJSON: Final = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
_QUOTED_MAX: Final = 500
_READ_PATIENCE_S: Final = 10.0  # a stream that has just been made has no shard to ask for a moment
_READ_PAUSE_S: Final = 0.1


class Unavailable(StoreFailed, OSError):
    """The cluster cannot be reached, or it asks to be left alone; the same request may succeed later.

    Attributes:
        reason: a word of `sender.RETRY_REASONS`, fit for a counter.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(StoreFailed, OSError):
    """The cluster refuses our credentials or one of their privileges: a person must act, nothing is lost."""


class Rejected(CollectorError):
    """The cluster understood the request and will never do it.

    Attributes:
        status: the HTTP status.
        kind: Elasticsearch's own word for it, for instance `index_not_found_exception`.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class _Untouched(Serializer):
    """Bytes as they are."""

    def loads(self, data: bytes) -> bytes:
        return data

    def dumps(self, data: Any) -> bytes:
        return data if isinstance(data, bytes) else msgspec.json.encode(data)


def untouched() -> dict[str, Serializer]:
    """For a client of Elastic's: every type of body as the bytes that it is."""
    trees = ("application/", "application/vnd.elasticsearch+")
    kinds = [f"{tree}{form}" for tree in trees for form in ("json", "x-ndjson")]
    return dict.fromkeys([*kinds, "text/plain"], _Untouched())


class Connection:
    """A pool of connections to the hosts of one cluster; safe to use from several threads."""

    def __init__(self, options: ElasticOptions) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigurationError: the authority's file cannot be read, or a host is not a URL.
        """
        secure: dict[str, Any] = {}
        if options.ca_file is not None:
            if not options.ca_file.is_file():
                raise ConfigurationError(f"store: ca_file {options.ca_file}: no such file")
            secure["ca_certs"] = str(options.ca_file)
        if options.api_key:
            secure["api_key"] = options.api_key
        elif options.username:
            secure["basic_auth"] = (options.username, options.password or "")
        try:
            self._client = Elasticsearch(
                list(options.hosts),
                serializers=untouched(),
                connections_per_node=options.bulks_in_flight_max + 8,
                max_retries=0,  # the outcome of a bulk that timed out is not known; `sender` decides
                retry_on_timeout=False,
                request_timeout=options.query_timeout_s,
                http_compress=False,
                **secure,
            )
        except ValueError as error:
            raise ConfigurationError(f"store: {error}") from None
        self._hosts = ", ".join(options.hosts)
        self._hosts_count = len(options.hosts)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Ask, and return the answer's bytes.

        Args:
            method: of HTTP.
            path: with a slash in front.
            body: bytes are sent as lines of JSON, anything else is written as JSON.
            params: of the query string.
            timeout_s: instead of the options' `query_timeout_s`.
        Raises:
            Unavailable: nobody answered, or 429 or 5xx.
            Forbidden: 401 or 403.
            Rejected: any other answer that is not 2xx.
        """
        headers = {"accept": JSON}
        if body is not None:
            headers["content-type"] = NDJSON if isinstance(body, bytes) else JSON
        client = self._client if timeout_s is None else self._client.options(request_timeout=timeout_s)
        try:
            answer = client.perform_request(method, path, params=params, headers=headers, body=body)
        except ApiError as error:
            raise _failure(error.meta.status, error.body) from None
        except TlsError as error:
            raise Unavailable("tls", f"{self._hosts}: no secure connection: {_short(error)}") from None
        except ConnectionTimeout as error:
            raise Unavailable("timeout", f"{self._hosts}: no answer in time: {_short(error)}") from None
        except TransportError as error:
            raise Unavailable("connection", f"{self._hosts}: cannot be reached: {_short(error)}") from None
        content = answer.body
        return content if isinstance(content, bytes) else b""

    def read(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None
    ) -> bytes:
        """Ask what may be asked again: a cluster that is not ready is given a moment; see `request`."""
        return self.patiently(lambda: self.request(method, path, body, params=params))

    def patiently(self, ask: Callable[[], Result]) -> Result:
        """What a question gives that may be asked again, once the cluster is ready for it.

        A host that cannot be reached is left out by the client for a while, so that another is asked then.

        Raises:
            Unavailable: it has not been for too long, or no host can be reached.
        """
        deadline = time.monotonic() + _READ_PATIENCE_S
        other_hosts = self._hosts_count - 1
        while True:
            try:
                return ask()
            except Unavailable as error:
                if error.reason == "connection" and other_hosts > 0:
                    other_hosts -= 1
                    continue
                if error.reason not in ("busy", "server_error") or time.monotonic() > deadline:
                    raise
            time.sleep(_READ_PAUSE_S)

    def ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask, and read the answer as a JSON object; see `request`. A GET may be asked again."""
        request = self.read if method == "GET" else self.request
        found: dict[str, Any] = msgspec.json.decode(request(method, path, body, params=params) or b"{}")
        return found

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()


class ErrorCause(msgspec.Struct, frozen=True):
    """Elasticsearch's description of what went wrong."""

    type: str = "unknown"
    reason: str | None = None
    caused_by: ErrorCause | None = None

    @property
    def sentence(self) -> str:
        """The reason and what caused it, on one line."""
        inner = f": {self.caused_by.sentence}" if self.caused_by and self.caused_by.reason else ""
        return f"{self.reason or self.type}{inner}"


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: ErrorCause | str | None = None


def _failure(status: int, body: Any) -> Exception:
    cause = _cause(body)
    message = f"{status} {cause.type}: {cause.sentence}"[:_QUOTED_MAX]
    if cause.type == "cluster_block_exception":  # says 403, and is no matter of credentials
        return Unavailable("blocked", message)
    if status in (401, 403):
        return Forbidden(f"{message}; nothing is dropped, mend the credentials or their privileges")
    if status == 429:
        return Unavailable("busy", message)
    if status >= 500:
        return Unavailable("server_error", message)
    return Rejected(status, cause.type, message)


def _cause(body: Any) -> ErrorCause:
    try:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        error = msgspec.json.decode(raw, type=_ErrorAnswer).error
    except (msgspec.MsgspecError, TypeError):
        return ErrorCause(reason=str(body)[:_QUOTED_MAX])
    return error if isinstance(error, ErrorCause) else ErrorCause(reason=str(error or body)[:_QUOTED_MAX])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:_QUOTED_MAX]
