"""Mutations of numbers that a user gives: features, logits, weights."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.robustness.fuzzing.hostile import NUMBERS, SENTINEL, TEXTS, broken
from benchmarks.robustness.fuzzing.targets import CLASSES, DATA, RUN
from benchmarks.robustness.fuzzing.tensors import edited_tensors, write


def features(rng: Random, place: Path) -> str:
    """Npz files of features."""
    file = place / DATA / rng.choice(("features.npz", "new.npz"))
    return _edit_npz(rng, file)


def logits(rng: Random, place: Path) -> str:
    """Logits of a user: .npz, whose mutation is also kept as .npy, or .safetensors."""
    random = np.random.default_rng(0)
    values: dict[str, Any] = {}
    for split in ("validation", "test"):
        values[f"labels_{split}"] = np.arange(60) % CLASSES
        values[f"logits_{split}"] = random.normal(size=(60, CLASSES)).astype(np.float32)
    (place / DATA / "logits.npy").write_bytes(b"")
    if rng.random() < 0.3:
        content, what = edited_tensors(rng, write(values))
        (place / DATA / "logits.safetensors").write_bytes(content)
        return what
    file = place / DATA / "logits.npz"
    np.savez(file, **values)
    return _edit_npz(rng, file)


def _edit_npz(rng: Random, file: Path) -> str:
    if rng.random() < 0.2:
        content, what = broken(rng, file.read_bytes())
        file.write_bytes(content)
        return what
    with np.load(file) as stored:
        members = {name: _npy(stored[name]) for name in stored.files}
        name = rng.choice(stored.files)
        array = stored[name]
    what = rng.choice(list(NPY))
    changed = NPY[what](rng, array)
    members[name] = changed if isinstance(changed, bytes) else _npy(changed)
    if rng.random() < 0.1:
        members[rng.choice(TEXTS).replace("\0", "").encode("utf-8", "replace").decode()[:1000]] = members.pop(name)
        what += ", renamed"
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))) as stream:
        for member, content in members.items():
            stream.writestr(f"{member}.npy", content)
    return f"{name}: {what}"


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def _header(described: str) -> bytes:
    text = described.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class _Code:
    """Whose unpickling would write a file."""

    def __reduce__(self) -> Any:
        return os.mkdir, (f"{SENTINEL}/unpickled",)


def _one(value: float) -> Any:
    def change(rng: Random, array: np.ndarray) -> np.ndarray:
        changed = array.astype(np.float64)
        changed[tuple(rng.randrange(n) for n in array.shape)] = value
        return changed

    return change


NPY: dict[str, Any] = {
    "32 GB claimed": lambda _, __: _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 8), }"),
    "a negative length": lambda _, __: _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5), }"),
    "an overflowing shape": lambda _, __: _header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**62, 4), }"),
    "a header of code": lambda _, __: _header("__import__('os').mkdir('x')"),
    "a nested header": lambda _, __: _header("(" * 100),
    "an odd type": lambda rng, __: (
        _header(
            f"{{'descr': {rng.choice(('|O', '<U1000000000', '|V0', '<m8[s]', '??', '<c8'))!r}, "
            "'fortran_order': False, 'shape': (3, 5), }"
        )
        + bytes(200)
    ),
    "a bomb": lambda _, __: _npy(np.zeros((200, 200_000), np.float32)),
    "objects": lambda _, array: np.array([_Code()] * len(array), dtype=object),
    "a pickle": lambda _, __: pickle.dumps(_Code()),
    "texts": lambda _, array: array.astype("U"),
    "bytes": lambda _, array: array.astype("S"),
    "complex": lambda _, array: array.astype(complex),
    "booleans": lambda _, array: array > 0,
    "big-endian": lambda _, array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": lambda _, array: np.asfortranarray(array),
    "records": lambda _, array: np.zeros(len(array), [("a", "f4"), ("b", "i4")]),
    "dates": lambda _, array: array.astype("i8").astype("datetime64[s]"),
    "one dimension": lambda _, array: array.reshape(-1),
    "three dimensions": lambda _, array: array[..., None],
    "a scalar": lambda _, array: array.reshape(-1)[0],
    "no rows": lambda _, array: array[:0],
    "no columns": lambda _, array: array.reshape(len(array), -1)[:, :0],
    "fewer rows": lambda _, array: array[:-1],
    "one value": lambda _, array: np.zeros_like(array),
    "float16": lambda _, array: array.astype(np.float16),
    "percentages": lambda _, array: np.full(array.shape, 100 / array.shape[-1]),
    "NaN": _one(np.nan),
    "infinity": _one(np.inf),
    "1e300": _one(1e300),
    "-1": _one(-1),
    "a half": _one(0.5),
    "a billion": _one(1e9),
}


def weights(rng: Random, place: Path) -> str:
    """Weights of a base that was trained elsewhere: safetensors, and state_dicts of torch."""
    import safetensors.numpy
    import torch

    good = (place / RUN / "base.safetensors").read_bytes()
    kept, pt = place / DATA / "weights.safetensors", place / DATA / "weights.pt"
    kept.write_bytes(good)
    state: Any = {name: torch.from_numpy(array.copy()) for name, array in safetensors.numpy.load(good).items()}
    name = rng.choice(list(state))
    what = rng.choice(
        ("safetensors", "bytes", "bytes", "code", "values", "nested", "NaN", "sparse", "no names", "object")
    )
    match what:
        case "safetensors":
            content, what = edited_tensors(rng, good)
            kept.write_bytes(content)
        case "code":
            state[name] = _Code()
        case "values":
            state[name] = rng.choice(NUMBERS)
        case "nested":
            state = {"state_dict": {rng.choice(TEXTS): state}}
        case "NaN":
            state[name] = state[name].float() * float("nan")
        case "sparse":
            state[name] = torch.eye(3).to_sparse()
        case "no names":
            state = list(state.values())
        case "object":
            state = rng.choice((None, torch.zeros(3), {1: torch.zeros(3)}, {None: 1}))
    torch.save(state, pt)
    if what == "bytes":
        content, what = broken(rng, pt.read_bytes())
        pt.write_bytes(content)
    return what
