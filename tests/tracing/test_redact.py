"""Redaction: no planted secret gets through, and little else is touched."""

from __future__ import annotations

import json
import logging
import string
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import tracing
from tracing.redact import REDACTED, Redactor, luhn
from tracing.testing import Captured, capturing

redactor = Redactor()

secrets = st.text(string.ascii_letters + string.digits, min_size=12, max_size=24).filter(
    lambda text: not text.isdigit() and "redacted" not in text.lower()
)
prose = st.text(string.ascii_lowercase + " .,", max_size=20)


def card_numbers() -> st.SearchStrategy[str]:
    """Numbers that a payment card may have: an issuer's first digits, a right check digit."""

    def completed(prefix: str, middle: str) -> str:
        return next(f"{prefix}{middle}{last}" for last in "0123456789" if luhn(f"{prefix}{middle}{last}"))

    issuers = st.sampled_from(["4", "51", "55", "2221", "2720", "34", "37", "36", "6011", "65", "35", "62"])
    digits = st.text("0123456789", min_size=15, max_size=15)
    return st.builds(lambda prefix, tail: completed(prefix, tail[: 15 - len(prefix)]), issuers, digits)


telling_keys = st.sampled_from(
    [
        "password",
        "PASSWORD",
        "db_password",
        "userPassword",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "client_secret",
        "clientSecret",
        "token",
        "access_token",
        "refreshToken",
        "X-Auth-Token",
        "api_key",
        "apiKey",
        "API-KEY",
        "x-api-key",
        "private_key",
        "aws_access_key",
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "Set-Cookie",
        "credentials",
        "http.request.header.cookie",
    ]
)


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, str]:
    """A text with a secret in one of the ways that secrets get into texts, and the secret."""
    secret, before, after = draw(secrets), draw(prose), draw(prose)
    key = draw(telling_keys.filter(lambda key: "header" not in key))
    jwt = f"eyJ{secret}.{draw(secrets)}.{draw(secrets)}"
    form = draw(st.integers(0, 9))
    if form == 0:
        text = f"{key}={secret}"
    elif form == 1:
        text = json.dumps({key: secret, "other": 1})
    elif form == 2:
        text = repr({key: secret})
    elif form == 3:
        text, secret = jwt, jwt
    elif form == 4:
        text = f"Bearer {secret}"
    elif form == 5:
        text = f"-----BEGIN RSA PRIVATE KEY-----\n{secret}\n{secret}\n-----END RSA PRIVATE KEY-----"
    elif form == 6:
        secret = draw(card_numbers())
        separated = draw(
            st.sampled_from([secret, f"{secret[:4]}-{secret[4:8]}-{secret[8:12]}-{secret[12:]}"])
        )
        text, secret = f"paid with {separated}", separated
    elif form == 7:
        text = f"https://user:{secret}@host/path"
    elif form == 8:
        text = f"https://host/path?{key}={secret}&page=2"
    else:
        text = f"{key}: {secret}"
    assume(secret not in before and secret not in after)
    return f"{before} {text} {after}", secret


@given(planted())
def test_no_planted_secret_survives_in_a_text(case: tuple[str, str]) -> None:
    """Whatever stands around it."""
    text, secret = case
    assert not redactor.looks_innocent(text), "the quick look must not let it pass"
    clean = redactor.text(text)
    assert secret not in clean
    assert redactor.text(clean) == clean, "twice is no worse than once"


@given(telling_keys, secrets, st.sampled_from(["flat", "nested", "listed", "pair", "number"]))
def test_no_value_of_a_telling_key_survives(key: str, secret: str, shape: str) -> None:
    """At any depth, and whatever its type."""
    value: Any = secret
    if shape == "number":
        value = secret = "123456"
        tree: Any = {key: 123456}
    elif shape == "nested":
        tree = {"request": {"headers": {key: value}}}
    elif shape == "listed":
        tree = {"requests": [{key: [value]}]}
    elif shape == "pair":
        tree = {"headers": [(key, value)]}
    else:
        tree = {key: value}
    assert secret not in str(redactor.tree(tree))
    assert not redactor.attributes_look_innocent(tree, json.dumps(tree).encode())


@given(
    planted(), st.sampled_from(["message", "argument", "extra", "exception", "attribute", "event", "bound"])
)
def test_no_planted_secret_reaches_the_sink(case: tuple[str, str], where: str) -> None:
    """By none of the ways from a program to a line."""
    text, secret = case
    logger = logging.getLogger("app")
    with capturing() as captured:
        if where == "message":
            logger.info(text.replace("%", "%%"))
        elif where == "argument":
            for _ in range(2):
                logger.info("got %s from %s", text, "ann")
        elif where == "extra":
            logger.info("got it", extra={"payload": {"deep": [text]}})
        elif where == "exception":
            try:
                raise ValueError(text)
            except ValueError:
                logger.exception("failed")
        elif where == "bound":
            with tracing.bound(payload=text), tracing.span("work"):
                logger.info("hello")
        else:
            with tracing.span("work") as span:
                if where == "attribute":
                    span.set_attribute("payload", text)
                else:
                    span.add_event("got", {"payload": text})
        written = b"".join(line for line, _ in captured.raw).decode()
    shown = json.dumps(secret)[1:-1]
    assert secret not in written and shown not in written
    assert REDACTED in written


def test_a_value_that_prints_something_else_each_time_hides_nothing(tracing_capture: Captured) -> None:
    """What was searched is what is written."""

    class Changing:
        printed = 0

        def __repr__(self) -> str:
            self.printed += 1
            return f"password=hunter{self.printed}" if self.printed % 2 == 0 else "<harmless>"

    for number in range(4):
        thing = Changing()
        thing.printed = number
        logging.getLogger("app").info("look at %s", "this", extra={"thing": thing})
        with tracing.span("work", thing=thing):
            pass
    assert b"hunter" not in b"".join(line for line, _ in tracing_capture.raw)


def test_what_a_log_call_taught_is_forgotten_when_it_could_matter(tracing_capture: Captured) -> None:
    """Harmless parts are remembered; together they may still be a card number."""
    logger = logging.getLogger("app")
    for _ in range(3):
        logger.info("%s-%s-%s-%s", "4111", "1111", "1111", "1111")
        logger.info("%d %d %d %d", 4111, 1111, 1111, 1111)
    assert set(tracing_capture.messages) == {REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        "order 4711 placed for customer 12",
        "tokens_used 5 of 100, secretary on the keyboard",
        "4111111111111112",  # the check digit is wrong
        "1234567812345670",  # no issuer begins with 1
        "took 1764000000123456789 ns",
        "span 00f067aa0ba902b7 of 0af7651916cd43dd8448eb211c80319c",
        "GET https://host/path?page=2 200",
        "see ann@example.org",
        "KeyError: 'order'",
        "passed 3 of 4 tests",
    ],
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    """A redactor that eats everything would be safe and useless."""
    assert redactor.text(text) == text


@pytest.mark.parametrize(
    "key", ["tokens_used", "token_count", "keyboard", "secretary", "password_length", "max_tokens"]
)
def test_harmless_keys_keep_their_values(key: str) -> None:
    """Names that only sound like secrets."""
    assert redactor.tree({key: "value"}) == {key: "value"}


def test_a_telling_key_without_a_secret_is_left(tracing_capture: Captured) -> None:
    """That a password is missing, or a cookie secure, is no secret."""
    assert redactor.tree({"password": None, "cookie": True}) == {"password": None, "cookie": True}


@given(secrets)
def test_additions_are_honoured(secret: str) -> None:
    """Own keys, own patterns, addresses of people."""
    assume("@" not in secret)
    own = Redactor(keys=["Patient"], patterns=[r"MRN\d+"], emails=True)
    assert secret not in str(own.tree({"patient_name": secret}))
    assert own.text("MRN12345 ann@example.org") == f"{REDACTED} {REDACTED}"
    for text in ("patient", "MRN1", "ann@example.org"):
        assert not own.looks_innocent(text)


PATTERNS = [r"MRN\d+", r"\d{5}/\d", r"^x+y$", r"(?i)iban\w+", r"([a-c])\1\1", r'q"\d', "ä{3}"]
pieces = st.sampled_from(["", "MRN", "7", "x", "xxy", "iban", "c", "cc", 'q"', "ää", "ä"])
patterns = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4)


@example([r"^x+y$"], [("MRN", "xxy", ""), ("", "", "xxy")], True)
@example([r"MRN\d+"], [("c", "MRN", ""), ("", "MRN", "7")], False)
@given(patterns, st.lists(st.tuples(pieces, pieces, pieces), min_size=2, max_size=6), st.booleans())
def test_own_patterns_see_the_whole_message(
    given_patterns: list[str], parts: list[tuple[str, str, str]], in_span: bool
) -> None:
    """Also one that only template and arguments together make, each of them seen and innocent before."""
    own = Redactor(patterns=given_patterns)
    logger = logging.getLogger("app")
    with capturing(redact_patterns=tuple(given_patterns)) as captured:
        for template, first, second in parts:
            logger.info(template + "%s" + second, first)
            logger.info("%d/%d", 12345 if second else 7, len(first))
            if in_span:
                with tracing.span(
                    "work" + template, {"a" + first: second, **({"b": [first + second]} if first else {})}
                ):
                    logger.info("%s%s", first, second, extra={"extra": template + first})
        said = [text for record in captured.lines for text in _texts(record)]
        expected = [
            text
            for template, first, second in parts
            for text in (template + first + second, f"{12345 if second else 7}/{len(first)}")
        ]
        in_order = [line["message"] for line in captured.logs if "extra" not in line.get("attributes", {})]
    assert in_order == [own.text(text) for text in expected]
    assert all(own.text(text) == text for text in said)


def _texts(value: Any) -> list[str]:
    """Every text of what the program said in a record."""
    if isinstance(value, dict):
        return [
            text
            for key, item in value.items()
            if key not in {"timestamp", "trace_id", "span_id", "parent_span_id", "source"}
            for text in (str(key), *_texts(item))
        ]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def test_own_patterns_keep_records_on_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record in which nothing is found is not taken apart because there might be something."""
    with capturing(redact_patterns=(r"MRN\d+", r"(?i)iban\w+")) as captured:
        log = logging.getLogger("app")
        log.info("first of its level")
        monkeypatch.setattr(Redactor, "cleaned", None)
        log.info("order %s of %d", "c-1", 7)
        log.info("order %s of %d", "c-1", 7, extra={"customer": "ann"})
        with tracing.span("work", order=7, customer="ann"):
            pass
        assert captured.messages[-2:] == ["order c-1 of 7"] * 2
        assert captured.span("work")["attributes"] == {"order": 7, "customer": "ann"}


def test_it_can_be_switched_off() -> None:
    """By an operator who knows why."""
    with capturing(redact=False) as captured:
        logging.getLogger("app").info("password=hunter2")
        assert captured.messages == ["password=hunter2"]


@pytest.mark.parametrize(
    ("digits", "right"), [("4111111111111111", True), ("4111111111111112", False), ("79927398713", True)]
)
def test_luhn(digits: str, right: bool) -> None:
    """The standard's own example among them."""
    assert luhn(digits) is right
