"""Mutations of safetensors files: 8 bytes of length, a header of JSON, and the arrays."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np

from benchmarks.robustness.fuzzing.hostile import TEXTS, broken, edit

# Of a numpy array.
MOST_DIMENSIONS = 64
TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
Arrays = dict[str, np.ndarray]


def edited_tensors(rng: Random, content: bytes) -> tuple[bytes, str]:
    """A file that can be read and holds other arrays; now and then one whose header lies, or that is broken."""
    drawn = rng.random()
    if drawn < 0.1:
        return broken(rng, content)
    if drawn < 0.25:
        return _lying(rng, content)
    arrays = read(content)
    done = [_edit(rng, arrays) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return write(arrays), "; ".join(done)


def read(content: bytes) -> Arrays:
    """The arrays of a file, of types that numpy has."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write(arrays: Arrays) -> bytes:
    """The inverse of ``read``."""
    kinds = {np.dtype(kind): name for name, kind in TYPES.items()}
    header, data = {}, b""
    for name, array in arrays.items():
        whole = array.tobytes()
        span = [len(data), len(data) + len(whole)]
        header[name] = {"dtype": kinds[array.dtype], "shape": array.shape, "data_offsets": span}
        data += whole
    return _joined(header, data)


def _joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _lying(rng: Random, content: bytes) -> tuple[bytes, str]:
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.2:
        wrong = rng.choice((0, length + 1, 2**40, 2**63, 2**64 - 1))
        return wrong.to_bytes(8, "little") + content[8:], f"a header of {wrong} bytes"
    return _joined(header := _edited(rng, header), data), f"header with {len(header)} entries edited"


def _edited(rng: Random, header: Any) -> Any:
    edit(rng, header)
    return header


def _edit(rng: Random, arrays: Arrays) -> str:
    if not arrays:
        arrays["a"] = np.zeros(1, np.float32)
    name = rng.choice(list(arrays))
    return f"{name:.60} {rng.choice(EDITS)(rng, arrays, name)}"


def _rename(rng: Random, arrays: Arrays, name: str) -> str:
    other = rng.choice((f"{name}x", name[1:], rng.choice(list(arrays)), rng.choice(TEXTS)))
    arrays[other.encode("utf-8", "replace").decode()] = arrays.pop(name)
    return f"renamed {other!r:.40}"


def _drop(_: Random, arrays: Arrays, name: str) -> str:
    del arrays[name]
    return "dropped"


def _retype(rng: Random, arrays: Arrays, name: str) -> str:
    kind = rng.choice(list(TYPES))
    with np.errstate(all="ignore"):
        arrays[name] = arrays[name].astype(TYPES[kind])
    return f"as {kind}"


def _reshape(rng: Random, arrays: Arrays, name: str) -> str:
    old = arrays[name]
    whole = np.atleast_1d(old)
    arrays[name] = rng.choice(
        (
            old.reshape(-1),
            old.reshape(1, -1),
            old[None] if old.ndim < MOST_DIMENSIONS else old,
            old.T,
            whole[:-1],
            whole[:0],
            np.concatenate((whole, whole)),
            np.concatenate((whole, whole[:1])),
            whole[..., :-1],
            np.zeros((0, 5), old.dtype),
            np.zeros((), old.dtype),
            np.zeros((1,) * rng.choice((3, 8, 64)), old.dtype),
        )
    )
    return f"shape {old.shape} -> {arrays[name].shape[:9]}"


def _fill(rng: Random, arrays: Arrays, name: str) -> str:
    value = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 1e30, 3e38, 255, 10**9))
    filled = np.array(arrays[name])
    everywhere = rng.random() < 0.5 or not filled.size
    with np.errstate(all="ignore"):
        filled[... if everywhere else tuple(rng.randrange(n) for n in filled.shape)] = np.array(value).astype(
            filled.dtype
        )
    arrays[name] = filled
    return f"{'all' if everywhere else 'one'} {value}"


def _add(rng: Random, arrays: Arrays, name: str) -> str:
    mark = rng.choice((":codes", ":step", ":up", ":down", ".weight", "_2"))
    arrays[name.rpartition(":")[0] + mark if ":" in name else name + mark] = arrays[name]
    return f"also as {mark}"


def _scramble(rng: Random, arrays: Arrays, name: str) -> str:
    """Other bytes of the same length: of codes, a stream that no longer unpacks, or unpacks to another length."""
    old = arrays[name]
    random = np.random.default_rng(rng.randrange(2**32))
    arrays[name] = np.frombuffer(random.bytes(old.nbytes), old.dtype).reshape(old.shape)
    return "random bytes"


EDITS = (_rename, _drop, _retype, _reshape, _reshape, _fill, _fill, _add, _scramble)
