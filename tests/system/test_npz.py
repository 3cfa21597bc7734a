from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from coterie.system.npz import MOST_BYTES, read_arrays, read_headers


def npy(shape: str, data: bytes = b"", descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def archive(file: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as stored:
        for name, content in members.items():
            stored.writestr(f"{name}.npy", content)
    return file


ARRAYS = {
    "whole": np.arange(5),
    "texts": np.array(["a", "bc"]),
    "none": np.zeros((2, 0)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "other order": np.arange(3, dtype=">f8"),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_numpy_saved(tmp_path: Path, save) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys() == read_headers(tmp_path / "a.npz").keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype.isnative
        assert read_headers(tmp_path / "a.npz")[name].shape == array.shape


def test_a_single_array_has_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    assert read_arrays(tmp_path / "a.npy")[""].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(8000000000,)"), "claims 32,000,000,000 bytes for shape"),
        (npy(f"({'9' * 400},)"), r"claims more than 2\^63 bytes"),
        (npy("(-5,)"), "claims -20 bytes"),
        (npy("(2,)", bytes(4)), "claims 8 bytes .* has 4"),
        (npy("(" * 3000), "the header of .* cannot be read"),
        (npy("(1,)", b"N.", "|O"), "holds objects"),
        (b"\x93NUMPY\x09\x00", "of version 9.0"),
        (b"no array", "magic"),
        (b"", "EOF|magic"),
    ],
)
def test_a_header_that_claims_what_is_not_there(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    for file in (tmp_path / "a.npy", archive(tmp_path / "a.npz", a=content)):
        with pytest.raises(ValueError, match=message):
            read_arrays(file)


def test_an_archive_that_would_fill_the_memory(tmp_path: Path) -> None:
    bomb = zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with bomb, bomb.open("a.npy", "w") as stream:
        stream.write(npy(f"({MOST_BYTES // 4},)"))
        for _ in range(MOST_BYTES // 2**24):
            stream.write(bytes(2**24))
    with pytest.raises(ValueError, match="bytes would unpack to"):
        read_headers(tmp_path / "bomb.npz")


def test_flipped_bytes_are_named_or_harmless(tmp_path: Path) -> None:
    good = io.BytesIO()
    np.savez_compressed(good, a=np.random.default_rng(0).normal(size=30), b=np.array(["x", "yy"]))
    chance = random.Random(0)
    broken = 0
    for _ in range(300):
        content = bytearray(good.getvalue())
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (tmp_path / "a.npz").write_bytes(content[: chance.randrange(len(content)) if chance.random() < 0.2 else None])
        try:
            read_arrays(tmp_path / "a.npz")
        except (OSError, ValueError):
            broken += 1
    assert broken > 200


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(OSError, match="not a regular file"):
        read_headers(tmp_path / "pipe.npz")
