"""Mutations of a run folder: its JSON, tensors, tokenizer, controls and states, and what lies in the place of files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.robustness.fuzzing.hostile import PATHS, SENTINEL, STRANGER, edited_json
from benchmarks.robustness.fuzzing.targets import RUN
from benchmarks.robustness.fuzzing.tensors import edited_tensors

MANIFEST = "manifest.json"
# Checksums and sizes in the manifest are those of the mutated file, most times: what a stranger would see to.
SETTLED = 0.9
DIGEST_BYTES = hashlib.sha256().digest_size


def manifest(rng: Random, place: Path) -> str:
    """What the run says of itself."""
    return _edit(rng, place / RUN / MANIFEST)


def figures(rng: Random, place: Path) -> str:
    """Metrics, history, examples: JSON that the manifest names."""
    return _edit(rng, rng.choice([file for file in _files(place / RUN, "*.json") if file.name != "tokenizer.json"]))


def tokenizer(rng: Random, place: Path) -> str:
    """The vocabulary and rules that make tokens of texts."""
    return _edit(rng, place / RUN / "tokenizer.json")


def tensors(rng: Random, place: Path) -> str:
    """Weights, logits, examples, head."""
    return _edit(rng, rng.choice(_files(place / RUN, "*.safetensors")))


def deltas(rng: Random, place: Path) -> str:
    """Weights of specialists, as differences."""
    return _edit(rng, rng.choice(list((place / RUN / "specialists").rglob("*.safetensors"))))


def controls(rng: Random, place: Path) -> str:
    """What `compare` finds in RUN/controls; half of the time a function as the network of a control."""
    folder = place / RUN / "controls"
    if rng.random() < 0.5:
        file = rng.choice(list(folder.glob(f"*/{MANIFEST}")))
        values = json.loads(file.read_bytes())
        values["settings"]["backbone"] = f"{STRANGER}:build"
        file.write_text(json.dumps(values))
        return f"{file.parent.name} is built by a function"
    files = [file for suffix in ("json", "safetensors") for file in folder.rglob(f"*.{suffix}")]
    return _edit(rng, rng.choice([*files, place / RUN / "comparison.json"]))


def states(rng: Random, place: Path) -> str:
    """The state of a training: a digest, then safetensors."""
    file = rng.choice(list((place / RUN / "checkpoint").rglob("*.safetensors")))
    content = file.read_bytes()[DIGEST_BYTES:]
    if rng.random() < 0.3:
        content, what = _plain(rng, content)
    else:
        content, what = edited_tensors(rng, content)
    file.write_bytes((hashlib.sha256(content).digest() if rng.random() < SETTLED else bytes(32)) + content)
    return what


def _plain(rng: Random, content: bytes) -> tuple[bytes, str]:
    """The part of a state that is JSON within a tensor."""
    import numpy as np

    from benchmarks.robustness.fuzzing.tensors import read, write

    arrays = read(content)
    text, what = edited_json(rng, arrays["plain"].tobytes())
    if rng.random() < 0.1:
        values = json.loads(arrays["plain"].tobytes())
        values["history"] = [[0.5, 0.5]] * 10**6
        text, what = json.dumps(values).encode(), "a history of a million epochs"
    return write({**arrays, "plain": np.frombuffer(text, np.uint8)}), f"plain: {what}"


def names(rng: Random, place: Path) -> str:
    """Files that the manifest names where they must not be, with a right size and checksum."""
    run = place / RUN
    values = json.loads((run / MANIFEST).read_bytes())
    name = rng.choice(PATHS)
    field = rng.choice(("files", "files", "replacing"))
    content = _content(run / name)
    record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if rng.random() < 0.3:  # a known file moves there
        values["files"].pop(rng.choice(list(values["files"])))
    values[field][name] = record
    (run / MANIFEST).write_text(json.dumps(values))
    return f"{field} names {name!r:.60}"


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes() if file.is_file() else b""
    except (OSError, ValueError):
        return b""


def places(rng: Random, place: Path) -> str:
    """Links, pipes, sockets and folders where files or folders of the run were, or are to be."""
    run = place / RUN
    there = [file for file in run.rglob("*") if "logs" not in file.parts]
    coming = [
        *(run / f".{name}.tmp" for name in (MANIFEST, "report.html", "metrics.json", ".lock.json", "history.json")),
        *(run / name for name in (".lock", ".lock.json", "checkpoint", "logs", "controls", "specialists", "logits")),
        run / "controls" / "random.json",
        run / "comparison.html",
        run / "report.html",
    ]
    file = rng.choice(rng.choice((there, coming)))
    old = run / "old"  # what was there stays reachable
    if file.is_dir() and not file.is_symlink():
        shutil.move(file, old)
    elif file.exists():
        file.rename(old) if rng.random() < 0.5 else file.unlink()
    file.parent.mkdir(parents=True, exist_ok=True)
    what = rng.choice(list(INSTEAD))
    INSTEAD[what](file, place / SENTINEL)
    return f"{file.relative_to(run)}: {what}"


def _sparse(file: Path, n_bytes: int) -> None:
    with file.open("wb") as stream:
        stream.truncate(n_bytes)


def _socket(file: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        here = Path.cwd()
        try:  # a socket's path has 107 characters at most
            os.chdir(file.parent)
            ours.bind(file.name)
        finally:
            os.chdir(here)


INSTEAD = {
    "a link to a file": lambda file, sentinel: file.symlink_to(sentinel / "victim.txt"),
    "a relative link": lambda file, sentinel: file.symlink_to(os.path.relpath(sentinel / "victim.txt", file.parent)),
    "a link to a folder": lambda file, sentinel: file.symlink_to(sentinel / "docs"),
    "a link to /etc/passwd": lambda file, _: file.symlink_to("/etc/passwd"),
    "a link to /dev/zero": lambda file, _: file.symlink_to("/dev/zero"),
    "a link to what will be": lambda file, sentinel: file.symlink_to(sentinel / "new.txt"),
    "a link to itself": lambda file, _: file.symlink_to(file.name),
    "a pipe": lambda file, _: os.mkfifo(file),
    "a socket": _socket,
    "a folder": lambda file, _: file.mkdir(),
    "a folder with a file": lambda file, _: (file / "x").mkdir(parents=True),
    "nothing": lambda _, __: None,
    "a sparse file of 64 GB": lambda file, _: _sparse(file, 2**36),
    "a file that nobody may read": lambda file, _: (file.write_bytes(b"x"), file.chmod(0)),
}


def linked(rng: Random, place: Path) -> str:
    """Links of folders that are swept or forgotten, in a run that goes on."""
    run = place / RUN
    name = rng.choice(("checkpoint", "specialists", "logits", "logs", "specialists/3", "logits/stages", "controls"))
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(place / SENTINEL / "docs")
    return f"{name}: a link to a folder"


def _files(run: Path, pattern: str) -> list[Path]:
    """Files that the manifest names."""
    named = json.loads((run / MANIFEST).read_bytes())["files"]
    return [file for file in sorted(run.rglob(pattern)) if file.relative_to(run).as_posix() in named]


def _edit(rng: Random, file: Path) -> str:
    content = file.read_bytes()
    change: Any = edited_tensors if file.suffix == ".safetensors" else edited_json
    changed, what = change(rng, content)
    file.write_bytes(changed)
    if file.name != MANIFEST and rng.random() < SETTLED:
        _settle(file, changed)
    return f"{file.name}: {what}"


def _settle(file: Path, content: bytes) -> None:
    run = next(folder for folder in file.parents if (folder / MANIFEST).is_file())
    values = json.loads((run / MANIFEST).read_bytes())
    record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    values["files"][file.relative_to(run).as_posix()] = record
    if file.name == "tokenizer.json":
        values["data"]["input"]["sha256"] = record["sha256"]
    (run / MANIFEST).write_text(json.dumps(values))
