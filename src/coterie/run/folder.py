"""A run on disk: a folder that describes itself.

::

    RUN/manifest.json                     what this is; settings, classes, partition, gate; sha256 of each other file
    RUN/base.safetensors                  weights of the base
    RUN/tokenizer.json                    of a base that takes tokens of texts
    RUN/head.safetensors                  the rows of the base's head: the label embeddings
    RUN/specialists/S/K.safetensors       weights of the specialist of cluster K of S
    RUN/logits/*.safetensors              logits and labels of validation and test
    RUN/examples.safetensors              test images that the report shows
    RUN/history.json, RUN/metrics.json    training curves; figures on validation and test
    RUN/report.html                       to look at
    RUN/checkpoint/, RUN/logits/stages/   state of the training under way, logits not yet put together; gone at the end
    RUN/logs/                             event files for TensorBoard
    RUN/.lock, RUN/.lock.json             held by the process that writes; who that is

A file appears whole or not at all: it is written under a temporary name, synced, and renamed; then the manifest that
names it, likewise. Before a file is replaced, the manifest also names what is to come, so that whichever of the two is
found after a power failure is known. A run that was cut short holds a manifest that says so and the stages that it
finished. Nothing in a run is code, and loading runs none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn
from typing_extensions import Unpack

from coterie.backbones.deltas import decode
from coterie.backbones.weights import put_weights
from coterie.config import FREE_SETTINGS, FitSettings
from coterie.errors import ArtifactError, CoterieError, SettingsError
from coterie.run.manifest import (
    FORMAT,
    MANIFEST,
    FileRecord,
    FinishedManifest,
    Manifest,
    Records,
    installed_versions,
)
from coterie.system.files import write_whole
from coterie.system.lock import HOLDER, LOCK, hold, refuse_if_held

ManifestT = TypeVar("ManifestT", bound=Manifest)

REPORT = "report.html"
CHECKPOINT_FOLDER = "checkpoint"
# What a process leaves that dies before it has written a manifest.
NO_RUN_YET = (LOCK, HOLDER, f".{HOLDER}.tmp", f".{MANIFEST}.tmp")
# Where a file that the manifest does not name is what a killed process left.
STAGE_FOLDERS = ("specialists", "logits")


@dataclass
class Run:
    """A run folder. ``manifest`` is what is on disk."""

    path: Path
    manifest: Manifest
    # Size, time and inode of files whose checksum was right: they are not hashed again while these stay.
    _checked: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def create_or_resume(cls, path: Path, settings: FitSettings) -> Run:
        """A new run at ``path``, or the one with these settings that it holds. Nothing is written yet.

        Settings that change how a run goes, and not what comes out, may differ.

        Raises:
            ArtifactError: the folder holds something else, or a run with other settings.
        """
        if not (path / MANIFEST).exists():
            if path.exists() and (not path.is_dir() or any(file.name not in NO_RUN_YET for file in path.iterdir())):
                raise ArtifactError(f"{path} exists and is not a coterie run; choose another --out")
            return cls(path, Manifest(settings=settings))
        run = cls.open(path)
        changed = changed_settings(run.settings, settings)
        if changed:
            raise ArtifactError(
                f"{path} holds another run; its settings differ in " + "; ".join(changed[:8]) + ". Choose another --out"
            )
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read the manifest of a run, finished or not.

        Raises:
            ArtifactError: there is none, it is damaged, or its format is newer than this version of coterie reads.
        """
        return cls(path, _read_manifest(path, Manifest))._settled()

    @classmethod
    def open_complete(cls, path: Path) -> FinishedRun:
        """Read a finished run. A file's checksum is verified when the file is read.

        Raises:
            ArtifactError: as ``open``; or the run is unfinished, or files are missing or cut short, which are named.
        """
        if not cls.open(path).complete:
            raise ArtifactError(f"{path} holds an unfinished run; the same `coterie fit` command goes on with it")
        run = FinishedRun(path, _read_manifest(path, FinishedManifest))._settled()
        # The report is drawn from the rest, and can be drawn again.
        names = [name for name in run.manifest.files if name != REPORT]
        broken = [f"{name}: {fault}" for name in names if (fault := run._size_fault(name))]
        if broken:
            raise ArtifactError(f"{path} is damaged: " + "; ".join(broken[:10]))
        return run

    @property
    def settings(self) -> FitSettings:
        """The settings of the run."""
        return self.manifest.settings

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return self.manifest.complete

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """Be the only writer to the folder. The manifest is read again: another process may have written since.

        Raises:
            ArtifactError: another process writes to it, or it holds another run by now.
        """
        with hold(self.path):
            found = Run.create_or_resume(self.path, self.settings).manifest
            self.manifest = type(self.manifest)(**dict(found))
            yield self

    def refuse_if_held(self) -> None:
        """Raise early what ``writing`` would raise where another process writes, or nobody can."""
        refuse_if_held(self.path)

    def has(self, name: str) -> bool:
        """Whether a finished stage left this file, whole."""
        return name in self.manifest.files and self._fault(name, self.manifest.files[name]) is None

    def read(self, name: str) -> bytes:
        """A file's bytes, checked: read once, and hashed once in the life of this object.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path} has no {name}")
        content, fault = self._content(name, self.manifest.files[name])
        if fault is not None:
            raise ArtifactError(f"{self.path} is damaged: {name}: {fault}")
        return content

    def write(self, name: str, content: bytes, **records: Unpack[Records]) -> None:
        """Write a file, then the manifest that names it, with new values for some of the manifest's records.

        Raises:
            ArtifactError: the disk is full or cannot be written; what was there before is intact.
        """
        record = FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        if name in self.manifest.files:
            # Known before it is there: after a power failure either of the two files is one that the manifest names.
            self.update(replacing={name: record})
        write_whole(self.path / name, content)
        named: Records = {**records, "files": {**self.manifest.files, name: record}, "replacing": {}}
        self.update(**named)

    def update(self, **records: Unpack[Records]) -> None:
        """Write the manifest with new values for some records; it stays as it was where that fails.

        Raises:
            pydantic.ValidationError: there is no such record, or its value is of another type.
            ArtifactError: as ``write``.
        """
        # Not model_copy, which takes any name and any value.
        manifest = type(self.manifest)(**{**dict(self.manifest), **records})
        write_whole(self.path / MANIFEST, _to_json(manifest.model_dump(mode="json")))
        self.manifest = manifest

    def forget(self, names: Sequence[str]) -> None:
        """Delete files, the manifest first."""
        # The manifest first: a file that it does not name is swept, one that it names and lacks would be damage.
        self.update(files={name: record for name, record in self.manifest.files.items() if name not in names})
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what killed processes left: half-written files, files of stages that were not finished, states of
        trainings that were.
        """
        folders = [self.path / name for name in (CHECKPOINT_FOLDER, *STAGE_FOLDERS)]
        half = [*self.path.glob(".*.tmp"), *(file for folder in folders for file in folder.rglob(".*.tmp"))]
        names = {name for folder in STAGE_FOLDERS for name in self._names_below(folder)} - set(self.manifest.files)
        done = {f"{CHECKPOINT_FOLDER}/{name}" for name in self.manifest.files} & self._names_below(CHECKPOINT_FOLDER)
        for file in (*half, *(self.path / name for name in names | done)):
            file.unlink(missing_ok=True)

    def note_versions(self) -> str | None:
        """Record, and say, with which other versions the run goes on than those it was begun with."""
        versions = installed_versions()
        known = (self.manifest.versions, *self.manifest.later_versions)
        if versions == known[-1]:
            return None
        self.update(later_versions=(*self.manifest.later_versions, versions))
        changed = "; ".join(differences(known[-1], versions))
        return f"{self.path} was begun with other versions ({changed}); its bits will not be those of one version alone"

    def write_weights(self, name: str, network: nn.Module, /, **records: Unpack[Records]) -> None:
        """All parameters and buffers of a network."""
        self.write_tensors(
            name, {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}, **records
        )

    def read_weights(self, name: str, network: nn.Module, base: nn.Module | None = None) -> None:
        """Load weights into a network of the same architecture; with a ``base``, what the file lacks is the base's, and
        what it holds may be differences from the base's (see coterie.backbones.deltas).

        Raises:
            ArtifactError: they are missing, damaged, or another network's, or such as no training leaves.
        """
        known = {} if base is None else base.state_dict()
        try:
            put_weights({**known, **decode(self.read_tensors(name), known)}, network)
        except ValueError as error:
            raise ArtifactError(f"{self.path / name} does not fit: {error}") from None

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]], **records: Unpack[Records]) -> None:
        """Named arrays, as safetensors."""
        self.write_tensors(name, {key: torch.from_numpy(array) for key, array in arrays.items()}, **records)

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The inverse of ``write_arrays``."""
        return {key: tensor.numpy() for key, tensor in self.read_tensors(name).items()}

    def write_json(self, name: str, value: Any, **records: Unpack[Records]) -> None:
        """Plain values, as JSON for people too."""
        self.write(name, _to_json(value), **records)

    def read_json(self, name: str) -> Any:
        """The inverse of ``write_json``."""
        return json.loads(self.read(name))

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor], **records: Unpack[Records]) -> None:
        """Named tensors on the CPU, as safetensors."""
        # The format holds no tensor twice: of those that share memory, as tied weights do, each name gets a copy.
        seen: dict[int, int] = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
        whole = {
            key: tensor.clone(memory_format=torch.contiguous_format)
            if seen[tensor.untyped_storage().data_ptr()] > 1
            else tensor.contiguous()
            for key, tensor in tensors.items()
        }
        self.write(name, safetensors.torch.save(whole), **records)

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """The inverse of ``write_tensors``.

        Raises:
            ArtifactError: the file is missing, damaged, or not safetensors.
        """
        try:
            return safetensors.torch.load(self.read(name))
        except SafetensorError as error:
            raise ArtifactError(f"{self.path / name} is not a safetensors file: {error}") from None

    def _names_below(self, folder: str) -> set[str]:
        files = (file for file in (self.path / folder).rglob("*") if file.is_file())
        return {file.relative_to(self.path).as_posix() for file in files}

    def _settled(self) -> Self:
        # A process that died while it replaced a file left the old one or the new one.
        replacing = self.manifest.replacing
        replaced = {name: record for name, record in replacing.items() if self._fault(name, record) is None}
        if replacing:
            files = {**self.manifest.files, **replaced}
            self.manifest = self.manifest.model_copy(update={"files": files, "replacing": {}})
        return self

    def _fault(self, name: str, record: FileRecord) -> str | None:
        """What is wrong with a file; None where it is the one that was recorded."""
        if self._checked.get(name) == self._signature(name):
            return None
        return self._content(name, record)[1]

    def _content(self, name: str, record: FileRecord) -> tuple[bytes, str | None]:
        """A file's bytes and what is wrong with them."""
        signature = self._signature(name)
        try:
            content = (self.path / name).read_bytes()
        except FileNotFoundError:
            return b"", "missing"
        except OSError as error:
            return b"", f"unreadable ({error.strerror})"
        if len(content) != record.bytes:
            return content, _other_size(len(content), record)
        if signature is None or self._checked.get(name) != signature:
            if hashlib.sha256(content).hexdigest() != record.sha256:
                return content, "its bytes have changed (sha256 differs)"
            if signature is not None:
                self._checked[name] = signature
        return content, None

    def _size_fault(self, name: str) -> str | None:
        """What a look at a file tells without reading it."""
        signature, record = self._signature(name), self.manifest.files[name]
        if signature is None:
            return "missing"
        return None if signature[0] == record.bytes else _other_size(signature[0], record)

    def _signature(self, name: str) -> tuple[int, int, int] | None:
        """Size, time and inode; None where there is no such file."""
        try:
            found = (self.path / name).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass
class FinishedRun(Run):
    """A finished run: its manifest has every record that predicting takes."""

    manifest: FinishedManifest


def _read_manifest(path: Path, kind: type[ManifestT]) -> ManifestT:
    file = path / MANIFEST
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is not a coterie run: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read {file}: {error}") from None
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ArtifactError(
            f"{file} has format {found}; coterie {version('coterie')} reads up to {FORMAT}. Upgrade coterie"
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise ArtifactError(f"{file} is damaged: {where}: {first['msg']}") from None
    except SettingsError as error:
        raise ArtifactError(f"{file} is damaged: settings: {error}") from None
    except CoterieError as error:  # a record that checks itself
        raise ArtifactError(f"{file} is damaged: {error}") from None


def _other_size(n_bytes: int, record: FileRecord) -> str:
    return f"{n_bytes} bytes instead of {record.bytes}"


def _to_json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()


def changed_settings(old: FitSettings, new: FitSettings, groups: Container[str] | None = None) -> list[str]:
    """Settings that differ and decide what comes out, as ``name: old -> new``; of all groups, or of some."""
    lines = differences(old.to_values(), new.to_values())
    return [
        line
        for line in lines
        if not line.startswith(FREE_SETTINGS) and (groups is None or line.partition(":")[0].partition(".")[0] in groups)
    ]


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Settings whose values differ, as ``name: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys((*old, *new)))
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old!r} -> {new!r}"]
