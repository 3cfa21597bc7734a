import copy
import errno
import hashlib
import json
import os
import shutil
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
from coterie.run import checks
from coterie.run.folder import Run
from coterie.run.manifest import FORMAT, DataRecord, FileRecord, GateRecord, Manifest, PartitionRecord, Records
from coterie.system.files import write_whole


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
    open_regular, sha256 = checks.open_regular, hashlib.sha256
    monkeypatch.setattr(checks, "open_regular", lambda path: reads.append(path.name) or open_regular(path))
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
        # What is not coded is kept in 16 bits.
        torch.testing.assert_close(again.state_dict()[key], tensor, rtol=0 if bits == 32 else 1e-3, atol=0)
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


def test_a_reader_that_meets_a_writer_reads_again(run: Run) -> None:
    reader = Run.open_complete(run.path)
    run.write_json("metrics.json", {"version": 1})
    early = Run.open_complete(run.path)
    for version in (2, 3):
        run.write_json("metrics.json", {"version": version})
        assert early.read_json("metrics.json") == {"version": version}
        assert early.has("metrics.json")
    run.write_json("metrics.json", {"version": 44})
    assert early.faults() == {}
    assert reader.read_arrays("logits/test.safetensors")["a_NC"].shape == (2, 3)
    run.forget(["metrics.json"])
    with pytest.raises(ArtifactError, match=r"metrics\.json: deleted meanwhile"):
        early.read("metrics.json")


def test_a_finished_run_is_opened_while_its_files_are_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json("metrics.json", {})
    look, left = Run._size_fault, [3]

    def late(opened: Run, name: str) -> str | None:
        if name == "metrics.json" and left[0]:
            left[0] -= 1
            run.write_json("metrics.json", {"longer": "x" * left[0]})
        return look(opened, name)

    monkeypatch.setattr(Run, "_size_fault", late)
    assert Run.open_complete(run.path).read_json("metrics.json") == {"longer": ""}
    assert left == [0]


def test_a_file_that_is_being_replaced_is_not_taken_for_the_new_one(run: Run) -> None:
    run.write_json("metrics.json", {"old": 1})
    run.read("metrics.json")
    # A power failure after the manifest named what was to come, and before it came.
    old, new = (run.path / "metrics.json").read_bytes(), b'{"new": 2}'
    run.update(replacing={"metrics.json": FileRecord(bytes=len(new), sha256=hashlib.sha256(new).hexdigest())})
    run._renew()
    assert run.read("metrics.json") == old
    assert run.has("metrics.json")


def test_a_deleted_file_is_not_there(run: Run) -> None:
    opened = Run.open_complete(run.path)
    (run.path / "logits/test.safetensors").unlink()
    assert not opened.has("logits/test.safetensors")
    assert opened.faults() == {"logits/test.safetensors": "missing"}


def test_nothing_is_written_read_or_deleted_through_a_link(run: Run, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("0.safetensors", ".half.tmp", "test.safetensors"):
        (docs / name).write_text("precious")
    for name in ("specialists", "checkpoint", "logits"):
        shutil.rmtree(run.path / name, ignore_errors=True)
        (run.path / name).symlink_to(docs)
    run.sweep()
    for act in (
        lambda: run.write("specialists/0.safetensors", b"strange"),
        lambda: run.read("logits/test.safetensors"),
        lambda: run.forget(["logits/test.safetensors"]),
        lambda: run.has("logits/test.safetensors"),
    ):
        with pytest.raises(ArtifactError, match=r"leads out of .*, through a link"):
            act()
    assert {file.name: file.read_text() for file in docs.iterdir()} == dict.fromkeys(
        ("0.safetensors", ".half.tmp", "test.safetensors"), "precious"
    )


@pytest.mark.parametrize("name", ["../x", "specialists/../../x", "/tmp/x", ".lock", "manifest.json"])
def test_a_file_has_a_name_below_the_folder(run: Run, name: str) -> None:
    for act in (lambda: run.write(name, b""), lambda: run.forget([name]), lambda: run.place(name)):
        with pytest.raises(ArtifactError, match="is no name of a file in a run"):
            act()


def test_sweeping_takes_the_half_files_of_all_versions(run: Run) -> None:
    half = [run.path / name for name in (".report.html.tmp", "logits/.test.safetensors.0123456789abcdef.tmp")]
    for file in half:
        file.write_bytes(b"half")
    run.sweep()
    assert not any(file.exists() for file in half)
    assert run.has("logits/test.safetensors")


def test_what_an_orphan_left_of_a_deleted_run_is_no_run_and_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for name in ("checkpoint/base.safetensors", ".manifest.json.0123456789abcdef.tmp", ".lock"):
        write_whole(path / name, b"of another run")
    run = Run.create_or_resume(path, FitSettings())
    with run.writing():
        assert not (path / "checkpoint/base.safetensors").exists()
    (path / "checkpoint.txt").write_text("")
    with pytest.raises(ArtifactError, match="exists and is not a coterie run"):
        Run.create_or_resume(path, FitSettings())


def test_a_folder_that_cannot_be_read_and_a_name_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read x+.*: File name too long"):
        Run.open(Path("x" * 300))
    with pytest.raises(ArtifactError, match=r"File name too long\. Choose another --out"):
        Run.create_or_resume(tmp_path / ("x" * 300), FitSettings())

    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ArtifactError, match=r"cannot read .*: Permission denied\. Choose another --out"):
        Run.create_or_resume(tmp_path, FitSettings())


def test_json_with_a_right_checksum_and_a_wrong_content_is_named(run: Run) -> None:
    for content in (b"{", b"[NaN]", b"[" * 100_000, b"\xff"):
        run.write("metrics.json", content)
        with pytest.raises(ArtifactError, match=r"cannot read .*metrics\.json: "):
            run.read_json("metrics.json")


def test_a_file_that_comes_back_while_it_is_looked_at_is_not_damaged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json("metrics.json", {"rule": "hard"})
    reader = Run.open_complete(run.path)
    run.write_json("metrics.json", {"rule": "blend"})
    renew = Run._renew

    def late(opened: Run) -> None:
        run.write_json("metrics.json", {"rule": "hard"})
        renew(opened)

    monkeypatch.setattr(Run, "_renew", late)
    assert reader.read_json("metrics.json") == {"rule": "hard"}


def test_a_large_file_of_holes_with_a_right_checksum_is_not_read(run: Run) -> None:
    n_bytes = 2**26 + 1
    record = FileRecord(bytes=n_bytes, sha256=hashlib.sha256(bytes(n_bytes)).hexdigest())
    with (run.path / "base.safetensors").open("wb") as stream:
        stream.truncate(n_bytes)
    run.update(files={"base.safetensors": record}, seconds={"base.safetensors": 1.0})
    message = r"base\.safetensors: unreadable \(67,108,865 bytes, most of which were never written\)"
    for read in (run.read, run.bytes_of):
        with pytest.raises(ArtifactError, match=message):
            read("base.safetensors")
