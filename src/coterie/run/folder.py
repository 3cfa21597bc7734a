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
    RUN/distil.json                       of a distilled network: what it is compared with
    RUN/report.html                       to look at
    RUN/checkpoint/, RUN/logits/stages/   state of the training under way, logits not yet put together; gone at the end
    RUN/logs/                             event files for TensorBoard; samples that were skipped, and why
    RUN/.lock, RUN/.lock.json             held by the process that writes; who that is

A file appears whole or not at all: it is written under a temporary name, synced, and renamed; then the manifest that
names it, likewise. Before a file is replaced, the manifest also names what is to come, so that whichever of the two is
found after a power failure is known. A run that was cut short holds a manifest that says so and the stages that it
finished. Nothing in a run is code, and loading runs none.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from typing_extensions import Unpack

from coterie.backbones.deltas import decode
from coterie.backbones.weights import put_weights
from coterie.config import FitSettings
from coterie.config.changes import changed_settings, differences
from coterie.errors import ArtifactError
from coterie.run.checks import Checks, open_fault, size_fault
from coterie.run.leftovers import delete, is_free, leftovers
from coterie.run.manifest import (
    MANIFEST,
    MOST_BYTES,
    FileRecord,
    FinishedManifest,
    Manifest,
    Records,
    as_finished,
    installed_versions,
    read_manifest,
)
from coterie.run.names import CHECKPOINT_FOLDER, check_file_name
from coterie.system.files import files_below, place_below, write_whole
from coterie.system.json_text import from_json, to_json
from coterie.system.lock import hold, refuse_if_held

REPORT = "report.html"
# How often a file is looked up that other processes replace while it is read.
MOST_LOOKS = 10


@dataclass
class Run:
    """A run folder. ``manifest`` is what is on disk."""

    path: Path
    manifest: Manifest
    _checks: Checks = field(default_factory=Checks, repr=False, compare=False)

    @classmethod
    def create_or_resume(cls, path: Path, settings: FitSettings) -> Run:
        """A new run at ``path``, or the one with these settings that it holds. Nothing is written yet.

        Settings that change how a run goes, and not what comes out, may differ.

        Raises:
            ArtifactError: the folder holds something else, or a run with other settings.
        """
        if not os.path.lexists(path / MANIFEST):
            if not is_free(path):
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
        run = cls(path, read_manifest(path, Manifest))
        run._settle()
        return run

    @classmethod
    def open_finished(cls, path: Path) -> FinishedRun:
        """Read the manifest of a finished run, whose files may be missing or damaged.

        Raises:
            ArtifactError: as ``open``; or the run is unfinished.
        """
        run = cls.open(path)
        if not run.complete:
            raise ArtifactError(f"{path} holds an unfinished run; the same `coterie fit` command goes on with it")
        return FinishedRun(path, as_finished(path, run.manifest), run._checks)

    @classmethod
    def open_complete(cls, path: Path) -> FinishedRun:
        """Read a finished run. A file's checksum is verified when the file is read.

        Raises:
            ArtifactError: as ``open_finished``; or files are missing or cut short, which are named.
        """
        run, known = cls.open_finished(path), None
        for _ in range(MOST_LOOKS):
            faults = {name: fault for name in run._needed() if (fault := run._size_fault(name))}
            if not faults:
                return run
            if run.manifest == known:  # twice the same: no other process is writing
                break
            known = run.manifest
            run._renew()
        raise run._damaged(faults)

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
            if not os.path.lexists(self.path / MANIFEST):
                # States of a run that was deleted, of which a process lived on: they may be of other settings.
                delete(files_below(self.path / CHECKPOINT_FOLDER))
            self.manifest = type(self.manifest)(**dict(found))
            yield self

    def refuse_if_held(self) -> None:
        """Raise early what ``writing`` would raise where another process writes, or nobody can."""
        refuse_if_held(self.path)

    def place(self, name: str) -> Path:
        """Where a file of the run is, or will be.

        Raises:
            ArtifactError: it is no name of a file in a run, or leads out of the folder through a link.
        """
        try:
            return place_below(self.path, check_file_name(name))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: {error}") from None

    def has(self, name: str) -> bool:
        """Whether a finished stage left this file, whole."""
        return name in self.manifest.files and (self._is_checked(name) or self._look(name)[1] is None)

    def faults(self) -> dict[str, str]:
        """What is wrong with the files that the manifest names, but for the report: all are read that were not yet."""
        looks = {name: self._look(name)[1] for name in self._needed() if not self._is_checked(name)}
        return {name: fault for name, fault in looks.items() if fault is not None}

    def check_whole(self) -> None:
        """Read all files that were not read yet.

        Raises:
            ArtifactError: some are missing or damaged, which are named.
        """
        if faults := self.faults():
            raise self._damaged(faults)

    def read(self, name: str) -> bytes:
        """A file's bytes, checked: read once, and hashed once in the life of this object.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path} has no {name}")
        content, fault = self._look(name)
        if fault is not None:
            raise self._damaged({name: fault})
        return content

    def bytes_of(self, name: str) -> int:
        """The size of a file, which is looked at and not read yet.

        Raises:
            ArtifactError: it is missing, has another size than the manifest says, or cannot be read for its size.
        """
        record = self.manifest.files[name]
        if fault := open_fault(self.place(name), record):
            raise self._damaged({name: fault})
        return record.bytes

    def write(self, name: str, content: bytes, **records: Unpack[Records]) -> None:
        """Write a file, then the manifest that names it, with new values for some of the manifest's records.

        Raises:
            ArtifactError: the disk is full or cannot be written; what was there before is intact.
        """
        place = self.place(name)
        record = FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        if name in self.manifest.files:
            # Known before it is there: after a power failure either of the two files is one that the manifest names.
            self.update(replacing={name: record})
        write_whole(place, content)
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
        content = to_json(manifest.model_dump(mode="json"))
        if len(content) > MOST_BYTES:
            raise ArtifactError(
                f"{self.path / MANIFEST} would have {len(content):,} bytes; at most {MOST_BYTES:,} are read"
            )
        write_whole(self.path / MANIFEST, content)
        self.manifest = manifest

    def forget(self, names: Sequence[str]) -> None:
        """Delete files, the manifest first."""
        places = [self.place(name) for name in names]
        # The manifest first: a file that it does not name is swept, one that it names and lacks would be damage.
        self.update(files={name: record for name, record in self.manifest.files.items() if name not in names})
        delete(places)

    def sweep(self) -> None:
        """Delete what killed processes left, see ``leftovers``; no link is followed."""
        delete(leftovers(self.path, self.manifest.files))

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
        self.write(name, to_json(value), **records)

    def read_json(self, name: str) -> Any:
        """The inverse of ``write_json``.

        Raises:
            ArtifactError: the file is missing, damaged, or not JSON.
        """
        try:
            return from_json(self.read(name))
        except ValueError as error:
            raise ArtifactError(f"cannot read {self.path / name}: {error}") from None

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

    def _needed(self) -> list[str]:
        """All files but the report, which is drawn from the rest."""
        return [name for name in self.manifest.files if name != REPORT]

    def _damaged(self, faults: Mapping[str, str]) -> ArtifactError:
        named = "; ".join(f"{name}: {fault}" for name, fault in list(faults.items())[:10])
        advice = (
            f"`coterie repair {self.path}` mends what can be mended"
            if self.complete
            else "the command that began it makes this again"
        )
        return ArtifactError(f"{self.path} is damaged: {named}; {advice}")

    def _settle(self) -> None:
        if replacing := self.manifest.replacing:
            # A process that died while it replaced a file left the old one or the new one.
            replaced = {name: record for name, record in replacing.items() if self._content(name, record)[1] is None}
            files = {**self.manifest.files, **replaced}
            self.manifest = self.manifest.model_copy(update={"files": files, "replacing": {}})

    def _renew(self) -> None:
        """Read the manifest again: another process may have written since."""
        self.manifest = read_manifest(self.path, type(self.manifest))
        self._settle()

    def _look(self, name: str) -> tuple[bytes, str | None]:
        """The bytes of a file that the manifest names, and what is wrong with them. A file that another process has
        replaced since the manifest was read is not the one that it names: the manifest of now decides.
        """
        known = None
        for _ in range(MOST_LOOKS):
            record = self.manifest.files.get(name)
            if record is None:
                return b"", "deleted meanwhile"
            content, fault = self._content(name, record)
            if fault is None or record == known:  # twice the same: no other process has replaced it
                break
            known = record
            self._renew()
        return content, fault

    def _content(self, name: str, record: FileRecord) -> tuple[bytes, str | None]:
        return self._checks.read(self.place(name), record)

    def _is_checked(self, name: str) -> bool:
        """Whether a file was read before, and its checksum was right."""
        record = self.manifest.files.get(name)
        return record is not None and self._checks.passed(self.place(name), record)

    def _size_fault(self, name: str) -> str | None:
        return size_fault(self.place(name), self.manifest.files[name])


@dataclass
class FinishedRun(Run):
    """A finished run: its manifest has every record that predicting takes."""

    manifest: FinishedManifest
