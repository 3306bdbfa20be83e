"""The header of a GGUF file: what it says, and that no damage leads further than to a ValueError."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from horen.model.zoo.gguf_header import Header, read_header
from support.gguf_files import PARAMETERS, write_gguf


def test_what_a_header_says(tmp_path: Path):
    whole = read_header(write_gguf(tmp_path / "a.gguf"))
    assert whole == Header("llama", PARAMETERS, has_tokenizer=True, parts=1, missing=0)
    bare = read_header(write_gguf(tmp_path / "b.gguf", architecture="thing", tokenizer=False, parts=3))
    assert bare == Header("thing", PARAMETERS, has_tokenizer=False, parts=3, missing=0)


@pytest.mark.parametrize("cut", [1, 1000, 20_000])
def test_missing_weights_are_counted(tmp_path: Path, cut: int):
    path = write_gguf(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_header(path).missing == cut


def words(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(version: int = 3, facts: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, count) + facts


ENDLESS = (1 << 62) - 1
DAMAGED = {
    "nothing": (b"", "does not begin like a GGUF"),
    "another file": (b"version https://git-lfs.github.com/spec/v1", "does not begin like a GGUF"),
    "no numbers": (b"GGUF\x03\x00", "damaged or incomplete"),
    "another version": (header(1), "version 1, where 2 or 3 was expected"),
    "other bytes first": (header(3 << 24), "version 50331648"),
    "no architecture": (header(), "which architecture"),
    "a number for it": (header(3, words("general.architecture") + struct.pack("<II", 4, 7), 1), "which architecture"),
    "fewer facts than it says": (header(count=ENDLESS), "damaged or incomplete"),
    "an endless key": (header(3, struct.pack("<Q", ENDLESS), 1), "damaged or incomplete"),
    "a key that is no text": (header(3, struct.pack("<Q", 2) + b"\xff\xfe" + bytes(8), 1), "damaged or incomplete"),
    "an endless list": (header(3, words("x") + struct.pack("<IIQ", 9, 10, ENDLESS), 1), "damaged or incomplete"),
    "endlessly many words": (header(3, words("x") + struct.pack("<IIQ", 9, 8, ENDLESS), 1), "damaged or incomplete"),
    "lists of lists": (header(3, words("x") + struct.pack("<IIQ", 9, 9, 1), 1), "list of the unknown kind 9"),
    "an unknown kind": (header(3, words("x") + struct.pack("<I", 99), 1), "unknown kind 99"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_headers_are_told(tmp_path: Path, what: str):
    data, reason = DAMAGED[what]
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read_header(tmp_path / "x.gguf")


def test_whatever_bytes_are_changed_or_missing_a_header_is_read_or_refused(tmp_path: Path):
    whole = write_gguf(tmp_path / "a.gguf").read_bytes()[:9000]
    dice = np.random.default_rng(0)
    damaged, refused = tmp_path / "b.gguf", 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.integers(1, 5)):
            data[dice.integers(4, 6000)] = dice.choice((0, 1, 0x7F, 0xFF))
        damaged.write_bytes(data[: dice.integers(1, len(data))])
        try:
            assert read_header(damaged).missing >= 0
        except ValueError:
            refused += 1
    assert 50 < refused < 300
