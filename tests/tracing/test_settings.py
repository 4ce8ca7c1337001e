"""Settings: where a value comes from, and what is said about one that is wrong."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tracing.errors import ConfigurationError
from tracing.settings import Settings, SettingsWarning

HOME = {"HOME": "/h/ann"}


def read(env: dict[str, str] | None = None, **given: Any) -> Settings:
    """Settings from an environment that has nothing else in it."""
    return Settings.from_env({**HOME, **(env or {})}, **given)


def test_the_defaults_are_those_of_the_documents() -> None:
    """A loopback collector, a spool in the state directory."""
    settings = read()
    assert settings.collector_url == "http://127.0.0.1:4318"
    assert settings.spool_dir == Path("/h/ann/.local/state/backtrail/spool")
    assert settings.enabled and settings.exporter == "spool" and settings.level is None


def test_the_state_directory_can_be_elsewhere() -> None:
    """XDG_STATE_HOME counts when it is absolute, as its specification says."""
    assert read({"XDG_STATE_HOME": "/state"}).spool_dir == Path("/state/backtrail/spool")
    assert read({"XDG_STATE_HOME": "state"}).spool_dir == Path("/h/ann/.local/state/backtrail/spool")


def test_the_nearest_word_counts() -> None:
    """Argument, then our variable, then OpenTelemetry's, then the resource attributes."""
    attributes = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=from-attributes,team=a%20b"}
    assert read(attributes).service == "from-attributes"
    named = {**attributes, "OTEL_SERVICE_NAME": "from-otel"}
    assert read(named).service == "from-otel"
    assert read({**named, "TRACING_SERVICE": "from-tracing"}).service == "from-tracing"
    assert read({**named, "TRACING_SERVICE": "from-tracing"}, service="given").service == "given"
    assert read(attributes).resource_attributes == {"service.name": "from-attributes", "team": "a b"}


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("TRACING_ENABLED", "off", "enabled", False),
        ("TRACING_ENABLED", "1", "enabled", True),
        ("TRACING_SPOOL_BYTES_MAX", "1048576", "spool_bytes_max", 1_048_576),
        ("TRACING_SLOW_SPAN_S", "0.25", "slow_span_s", 0.25),
        ("TRACING_SPOOL_DIR", "~/spool", "spool_dir", Path("~/spool").expanduser()),
        ("TRACING_BAGGAGE_FIELDS", "tenant, user", "baggage_fields", ("tenant", "user")),
        ("TRACING_REDACT_PATTERNS", r"a{1,2} b+", "redact_patterns", ("a{1,2}", "b+")),
        ("TRACING_TOKEN", "t", "token", "t"),
        ("TRACING_SERVICE", "", "service", "unknown_service"),
        ("OTEL_PROPAGATORS", "b3,tracecontext", "propagators", ("b3", "tracecontext", "x-trace-id")),
        ("OTEL_PROPAGATORS", "none", "propagators", ()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "otlp_protocol", "grpc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "otlp_protocol", "http"),
        ("OTEL_TRACES_SAMPLER", "TraceIdRatio", "sampler", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5", "sampler_arg", 0.5),
        ("OTEL_SDK_DISABLED", "true", "enabled", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/", "collector_url", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=1", "otlp_headers", {"api-key": "a b", "x": "1"}),
        ("TRACING_OTLP_HEADERS", "api-key=k", "otlp_headers", {"api-key": "k"}),
    ],
)
def test_a_variable_becomes_its_field(variable: str, text: str, field: str, value: Any) -> None:
    """One loop reads them all, the type taken from the field."""
    assert getattr(read({variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("TRACING_ENABLED", "perhaps", "true or false"),
        ("TRACING_SPOOL_BYTES_MAX", "much", "a whole number"),
        ("TRACING_SLOW_SPAN_S", "-1", "0 or more seconds"),
        ("TRACING_SAMPLER", "dice", "one of always_on"),
        ("TRACING_SAMPLER_ARG", "2", "0..1"),
        ("TRACING_EXPORTER", "pigeon", "one of spool"),
        ("TRACING_EXPORTER", "file", "export_file"),
        ("TRACING_COLLECTOR_URL", "collector:4318", "http://host:port"),
        ("TRACING_LEVEL", "LOUD", "DEBUG"),
        ("TRACING_RESOURCE_ATTRIBUTES", "team", "key=value"),
        ("TRACING_REDACT_PATTERNS", "(", "unterminated"),
        ("TRACING_OTLP_HEADERS", "api key=k", "api key"),
        ("TRACING_OTLP_HEADERS", "api-key=two%0Alines", "api-key"),
    ],
)
def test_a_malformed_value_stops_the_start(variable: str, text: str, expected: str) -> None:
    """The message names the variable that it came from, and what would be accepted."""
    with pytest.raises(ConfigurationError) as caught:
        read({variable: text})
    message = str(caught.value)
    assert expected in message
    assert re.match(rf"{variable}\b", message)


@pytest.mark.parametrize(
    ("env", "given", "named"),
    [
        ({}, {"sampler": "dice"}, "sampler"),
        ({"TRACING_SAMPLER": "always_on"}, {"sampler": "dice"}, "sampler"),
        ({"OTEL_PYTHON_EXCLUDED_URLS": "("}, {}, "OTEL_PYTHON_EXCLUDED_URLS"),
        ({"OTEL_PYTHON_EXCLUDED_URLS": "a", "TRACING_EXCLUDED_PATHS": "("}, {}, "TRACING_EXCLUDED_PATHS"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=%20"}, {}, "OTEL_RESOURCE_ATTRIBUTES"),
    ],
)
def test_the_source_that_counted_is_the_one_that_is_named(
    env: dict[str, str], given: dict[str, str], named: str
) -> None:
    """An argument by its own name, a variable by its own; not one that something nearer has overruled."""
    with pytest.raises(ConfigurationError) as caught:
        read(env, **given)
    assert re.match(rf"{named}\b", str(caught.value))


def test_a_token_is_never_in_a_message() -> None:
    """Neither in an error nor in what is printed of the settings; headers are as good as one."""
    assert "hush" not in repr(read({"TRACING_TOKEN": "hush"}))
    assert "hush" not in repr(read({"TRACING_OTLP_HEADERS": "api-key=hush"}))
    for malformed in ("hush", "api-key=hush%0A"):
        with pytest.raises(ConfigurationError) as caught:
            read({"TRACING_OTLP_HEADERS": malformed})
        assert "hush" not in str(caught.value)
        with pytest.warns(SettingsWarning, match="OTEL_EXPORTER_OTLP_HEADERS") as warned:
            read({"OTEL_EXPORTER_OTLP_HEADERS": malformed})
        assert "hush" not in str(warned[0].message)


def test_an_unknown_variable_is_one_warning_that_names_the_right_one() -> None:
    """A typing error must not be silent, and must not stop a program either."""
    with pytest.warns(SettingsWarning, match=r"TRACING_SERVCE: .* did you mean TRACING_SERVICE\?") as caught:
        read({"TRACING_SERVCE": "x"})
    assert len(caught) == 1


def test_an_unknown_argument_is_an_error_that_names_the_right_one() -> None:
    """The program was written wrongly, and its author is there to read this."""
    with pytest.raises(ConfigurationError, match="did you mean collector_url"):
        read(colector_url="http://a")


@pytest.mark.parametrize(
    "argument", [{"enabled": 1}, {"spool_bytes_max": 1.5}, {"service": 7}, {"level": 10}]
)
def test_an_argument_of_another_type_is_an_error(argument: dict[str, Any]) -> None:
    """Arguments are not guessed at; text that reads as the type is taken."""
    with pytest.raises(ConfigurationError, match=next(iter(argument))):
        read(**argument)
    assert read(spool_bytes_max="4096").spool_bytes_max == 4096


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_TRACES_SAMPLER", "dice"),
        ("OTEL_TRACES_SAMPLER_ARG", "many"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
    ],
)
def test_opentelemetry_variables_are_read_with_its_leniency(variable: str, text: str) -> None:
    """They may be meant for somebody else: a warning, and the default stands."""
    with pytest.warns(SettingsWarning, match=variable):
        settings = read({variable: text})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settings == read()
