import copy
import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from coterie.backbones import Head
from coterie.backbones.deltas import encode
from coterie.config import EXACT_BITS, FitSettings
from coterie.errors import ArtifactError
from coterie.inputs import ImagePreprocessing
from coterie.measures.costs import RunCosts
from coterie.run import folder
from coterie.run.folder import Run
from coterie.run.manifest import FORMAT, DataRecord, GateRecord, Manifest, PartitionRecord, Records


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create_or_resume(tmp_path / "run", FitSettings())
    run.write_arrays("logits/test.safetensors", {"a_NC": np.arange(6, dtype=np.float32).reshape(2, 3)})
    finish(run)
    return run


def finish(run: Run) -> None:
    """Every record that a finished run has."""
    run.update(
        complete=True,
        data=DataRecord(about="Two.", classes=("a", "b"), input=ImagePreprocessing(6, 5, 1, (9.0,), (2.0,))),
        head=Head("head", 4, 2),
        partition=PartitionRecord(members=((0, 1),), candidates=()),
        gate=GateRecord(score="entropy", combiner="hard", threshold=None),
        costs=RunCosts(
            base_seconds=1,
            specialist_seconds=1,
            base_image_ms=1,
            ensemble_image_ms=None,
            base_parameters=1,
            specialist_parameters=1,
        ),
    )


def test_arrays_weights_and_json_come_back_bit_for_bit(run: Run) -> None:
    torch.manual_seed(0)
    network, other = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    channels_last = network.to(memory_format=torch.channels_last)
    run.write_weights("base.safetensors", channels_last, seconds={"base.safetensors": 1.0})
    run.write_json("metrics.json", {"é": [1.5]})
    run = Run.open_complete(run.path)
    run.read_weights("base.safetensors", other)
    for mine, theirs in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert run.read_json("metrics.json") == {"é": [1.5]}
    assert run.read_arrays("logits/test.safetensors")["a_NC"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_manifest_names_every_file_with_its_checksum(run: Run) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["format"] == FORMAT
    assert set(manifest["files"]) == {"logits/test.safetensors"}
    assert len(manifest["files"]["logits/test.safetensors"]["sha256"]) == 64
    assert {"coterie", "torch", "python"} <= set(manifest["versions"])


def test_a_flipped_byte_is_found_and_named(run: Run) -> None:
    file = run.path / "logits/test.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"logits/test\.safetensors: its bytes have changed \(sha256 differs\)"):
        Run.open_complete(run.path).read("logits/test.safetensors")
    assert not run.has("logits/test.safetensors")


def test_a_file_is_read_and_hashed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Run.open_complete(run.path)
    reads, hashes = [], []
    open_regular, sha256 = folder.open_regular, hashlib.sha256
    monkeypatch.setattr(folder, "open_regular", lambda path: reads.append(path.name) or open_regular(path))
    monkeypatch.setattr(hashlib, "sha256", lambda content: hashes.append(len(content)) or sha256(content))
    assert opened.read_arrays("logits/test.safetensors")["a_NC"].shape == (2, 3)
    assert reads == ["test.safetensors"]
    assert len(hashes) == 1
    assert opened.has("logits/test.safetensors")
    assert len(hashes) == 1


@pytest.mark.parametrize("records", [{"compleet": True}, {"seconds": "long"}, {"gate": {"score": "entropie"}}])
def test_a_misspelt_record_or_one_of_a_wrong_type_is_an_error_at_once(run: Run, records: Any) -> None:
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(ValidationError, match=next(iter(records))):
        run.update(**records)
    assert (run.path / "manifest.json").read_bytes() == before


def test_records_are_the_manifests_own() -> None:
    assert set(Records.__annotations__) == set(Manifest.model_fields) - {"format", "versions"}


@pytest.mark.parametrize("record", ["data", "head", "partition", "gate", "costs"])
def test_a_finished_run_lacks_no_record(run: Run, record: str) -> None:
    file = run.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), record: None}))
    with pytest.raises(ArtifactError, match=f"is damaged: {record}"):
        Run.open_complete(run.path)


def test_who_writes_reads_the_manifest_again(run: Run) -> None:
    late = Run.open(run.path)
    run.update(disk_bytes=7)
    with late.writing() as held:
        assert held.manifest.disk_bytes == 7
        with pytest.raises(ArtifactError, match="is being written by process"):
            run.refuse_if_held()
    run.refuse_if_held()


def test_a_missing_and_a_cut_file_are_named(run: Run) -> None:
    run.write_json("metrics.json", {})
    (run.path / "metrics.json").unlink()
    file = run.path / "logits/test.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match=r"test.safetensors: \d+ bytes instead of \d+; metrics.json: missing"):
        Run.open_complete(run.path)


def test_a_newer_format_is_refused(run: Run) -> None:
    file = run.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": FORMAT + 1, "new": 1}))
    with pytest.raises(ArtifactError, match=f"has format {FORMAT + 1}; coterie .* reads up to {FORMAT}. Upgrade"):
        Run.open(run.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot read"), ("[]", "damaged"), ('{"format": 1}', "damaged: settings"), (b"\xff\xfe", "cannot read")],
)
def test_a_damaged_manifest_is_named(run: Run, content: str | bytes, message: str) -> None:
    file = run.path / "manifest.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ArtifactError, match=message):
        Run.open(run.path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a coterie run: it has no manifest"):
        Run.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ArtifactError, match="not a coterie run; choose another --out"):
        Run.create_or_resume(tmp_path, FitSettings())
    with pytest.raises(ArtifactError, match="choose another --out"):
        Run.create_or_resume(tmp_path / "thesis.tex", FitSettings())


def test_a_run_with_other_settings_is_refused_naming_them(run: Run) -> None:
    other = FitSettings.from_values({"base": {"epochs": 3}, "partition": {"clusters": [4]}})
    with pytest.raises(ArtifactError, match=r"base.epochs: 25 -> 3; partition.clusters: \[9\] -> \[4\]"):
        Run.create_or_resume(run.path, other)
    assert Run.create_or_resume(run.path, FitSettings()).manifest == run.manifest


def test_an_unfinished_run_does_not_load(run: Run) -> None:
    run.update(complete=False)
    with pytest.raises(ArtifactError, match="unfinished run; the same `coterie fit` command goes on"):
        Run.open_complete(run.path)


def test_weights_of_another_network_are_refused(run: Run) -> None:
    run.write_weights("base.safetensors", nn.Linear(2, 3), seconds={"base.safetensors": 1.0})
    with pytest.raises(ArtifactError, match="another network's weights"):
        run.read_weights("base.safetensors", nn.Linear(2, 4))


def test_a_pickle_is_not_loaded(run: Run) -> None:
    import pickle

    run.write("base.safetensors", pickle.dumps({"weight": [1.0]}), seconds={"base.safetensors": 1.0})
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        run.read_weights("base.safetensors", nn.Linear(2, 3))


def test_a_full_disk_leaves_the_old_file_and_no_half_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json("metrics.json", {"old": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"No space left on device\. What was written before is intact"):
        run.write_json("metrics.json", {"new": 2})
    monkeypatch.undo()
    assert Run.open_complete(run.path).read_json("metrics.json") == {"old": 1}
    assert not list(run.path.rglob("*.tmp"))


def test_an_interrupt_while_writing_leaves_the_old_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    before = (run.path / "manifest.json").read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.update(complete=False)
    assert (run.path / "manifest.json").read_bytes() == before
    assert not list(run.path.rglob("*.tmp"))


def test_forgotten_files_are_gone_from_folder_and_manifest(run: Run) -> None:
    run.forget(["logits/test.safetensors"])
    assert not (run.path / "logits/test.safetensors").exists()
    assert Run.open_complete(run.path).manifest.files == {}


@pytest.mark.parametrize("bits", [EXACT_BITS, 8])
def test_only_what_differs_from_a_base_is_kept(run: Run, bits: int) -> None:
    base = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    changed = copy.deepcopy(base)
    changed[2] = nn.Linear(4, 2)
    run.write_tensors("tail.safetensors", encode(changed.state_dict(), base.state_dict(), bits))
    assert set(run.read_tensors("tail.safetensors")) == {"2.weight", "2.bias"}
    again = copy.deepcopy(changed)
    for parameter in again.parameters():
        parameter.data.zero_()
    run.read_weights("tail.safetensors", again, base)
    for key, tensor in changed.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)
    with pytest.raises(ArtifactError, match="another network's weights"):
        run.read_weights("tail.safetensors", nn.Sequential(nn.Linear(3, 4)), base)


def test_a_run_of_format_1_is_read_as_one_of_images(run: Run) -> None:
    file = run.path / "manifest.json"
    values = json.loads(file.read_text())
    data = {"about": "Old.", "classes": ["a", "b"], "height": 6, "width": 5, "channels": 1, "mean": [9.0], "std": [2.0]}
    file.write_text(json.dumps({**{k: v for k, v in values.items() if k != "train_counts"}, "format": 1, "data": data}))
    manifest = Run.open_complete(run.path).manifest
    assert manifest.data.input == ImagePreprocessing(6, 5, 1, (9.0,), (2.0,))
    assert manifest.data.classes == ("a", "b")
    assert manifest.format == FORMAT
    assert manifest.train_counts == ()
    file.write_text(json.dumps({**values, "format": 1, "data": {"about": "Old.", "classes": ["a", "b"]}}))
    with pytest.raises(ArtifactError, match=r"is damaged: data\.input\.image\.height: Field required"):
        Run.open(run.path)
