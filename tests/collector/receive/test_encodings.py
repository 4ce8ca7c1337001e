"""Packed bodies: bounded, whole, or refused by name."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import Refused
from collector.receive.encodings import unpacked

PLAIN = b'{"level":"INFO"}\n' * 500
PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "ZSTD": zstandard.ZstdCompressor(write_content_size=False).compress,
    "identity": bytes,
    "": bytes,
}


@given(st.binary(max_size=5000), st.sampled_from(sorted(PACKERS)))
def test_what_was_packed_is_unpacked(body: bytes, encoding: str) -> None:
    """Every encoding that is announced."""
    assert unpacked(PACKERS[encoding](body), encoding, bytes_max=5000) == body


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "ZSTD"])
def test_several_members_are_one_body(encoding: str) -> None:
    """Both formats allow it, and log shippers do it."""
    packed = PACKERS[encoding](PLAIN)
    assert unpacked(packed + packed, encoding, bytes_max=10**6) == PLAIN + PLAIN


def test_zeroes_behind_a_gzip_member_are_padding() -> None:
    """As gzip itself has it."""
    assert unpacked(gzip.compress(PLAIN) + b"\0" * 512, "gzip", bytes_max=10**6) == PLAIN


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "ZSTD"])
def test_a_body_cut_off_anywhere_is_refused(encoding: str) -> None:
    """Half of a batch must never pass for the whole."""
    packed = PACKERS[encoding](PLAIN)
    for size in range(1, len(packed)):
        with pytest.raises(Refused) as refusal:
            unpacked(packed[:size], encoding, bytes_max=10**6)
        assert refusal.value.reason == "bad_encoding"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_noise_is_refused(encoding: str) -> None:
    """With the reason, and never with an error of the library underneath."""
    noise = random.Random(7)
    for size in (0, 1, 4, 100, 5000):
        with pytest.raises(Refused) as refusal:
            unpacked(noise.randbytes(size), encoding, bytes_max=10**6)
        assert (refusal.value.reason, refusal.value.field) == ("bad_encoding", "Content-Encoding")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "ZSTD"])
def test_a_bomb_is_stopped_at_the_limit(encoding: str) -> None:
    """A gigabyte in a few kilobytes: refused, without ever holding more than the limit and one step."""
    megabyte = b"\0" * 1024**2
    match encoding:
        case "gzip" | "deflate":
            packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
            bomb = b"".join(packer.compress(megabyte) for _ in range(256)) + packer.flush()
        case "zstd":
            bomb = zstandard.ZstdCompressor(level=19).compress(megabyte * 256)
        case _:
            bomb = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(megabyte * 256)
    assert len(bomb) < 2 * 1024**2
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="longer than 1048576 bytes") as refusal:
            unpacked(bomb, encoding, bytes_max=1024**2)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024**2
    finally:
        tracemalloc.stop()
    assert refusal.value.reason == "body_too_large"


@pytest.mark.parametrize("encoding", list(PACKERS))
def test_the_limit_is_exact(encoding: str) -> None:
    """As long as allowed is allowed."""
    packed = PACKERS[encoding](PLAIN)
    assert unpacked(packed, encoding, bytes_max=len(PLAIN)) == PLAIN
    with pytest.raises(Refused):
        unpacked(packed, encoding, bytes_max=len(PLAIN) - 1)


@pytest.mark.parametrize("encoding", ["br", "gzip, zstd", "zip", "*"])
def test_an_encoding_we_do_not_know_is_named(encoding: str) -> None:
    """Together with those that are known."""
    with pytest.raises(Refused, match="gzip, deflate, zstd, identity") as refusal:
        unpacked(PLAIN, encoding, bytes_max=10**6)
    assert refusal.value.reason == "unsupported_encoding"
