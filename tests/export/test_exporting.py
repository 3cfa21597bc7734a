import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coterie.cli import main
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, ExportError, SettingsError
from coterie.export import exporting, graph_files
from coterie.export.exporting import EXACT, export_run
from coterie.run.load import load_ensemble
from helpers import FIXTURES

TEXTS = FIXTURES / "runs" / "blend-of-texts"
FEATURES = FIXTURES / "runs" / "whole-on-features"


@pytest.fixture(autouse=True)
def where_the_data_is(monkeypatch) -> None:
    monkeypatch.chdir(FIXTURES)


def test_graphs_of_whole_specialists_and_the_described_rule_answer_as_the_run(tmp_path, capsys) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    import onnx
    import onnxruntime

    assert main(["export", str(FEATURES), str(tmp_path / "made"), "--to", "onnx"]) == 0
    assert "144 test samples" in (said := capsys.readouterr().out)
    assert "and 0 answers changed" in said
    described = json.loads((tmp_path / "made" / "export.json").read_text())
    assert described["parity"]["largest_difference"] < 1e-5
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == sorted(
        ["export.json", *described["files"].values()]
    )
    notes = {p.key: p.value for p in onnx.load(tmp_path / "made" / "base.onnx").metadata_props}
    assert json.loads(notes["coterie"])["classes"] == described["classes"] == [f"kind {k}" for k in range(12)]
    # As somebody does who has the folder alone.
    features_NF = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    scale = described["preprocessing"]["scale"]
    inputs = ((features_NF - np.float32(scale["mean"])) / np.float32(scale["std"])).astype(np.float32)
    answers = {
        name: onnxruntime.InferenceSession(str(tmp_path / "made" / file)).run(None, {"inputs": inputs})[0]
        for name, file in described["files"].items()
    }
    rule = described["rule"]
    assert (rule["score"], rule["combiner"], rule["top"]) == ("entropy", "hard", 1)
    exponent_NC = np.exp(answers["base"] / rule["base_temperature"])
    proba_NC = exponent_NC / exponent_NC.sum(axis=1, keepdims=True)
    for row, proba_C in enumerate(proba_NC):
        if -(proba_C * np.log(proba_C)).sum() < rule["threshold"]:
            continue
        cluster = int(np.argmax([proba_C[classes].sum() for classes in described["clusters"]]))
        exponent_K = np.exp(answers[f"specialist-{cluster}"][row])
        proba_C[:] = 0
        proba_C[described["clusters"][cluster]] = exponent_K / exponent_K.sum()
    np.testing.assert_allclose(proba_NC, load_ensemble(FEATURES, EXACT).predict_proba(features_NF), atol=1e-5)


def test_a_program_of_texts_takes_other_lengths(tmp_path) -> None:
    parity = export_run(TEXTS, "torch", tmp_path / "deep" / "made")
    assert parity.samples == 108
    assert parity.largest_difference < 1e-6
    assert parity.changed_answers == 0
    extra = {"coterie": ""}
    described = json.loads((tmp_path / "deep" / "made" / "export.json").read_text())
    programs = {
        name: torch.export.load(tmp_path / "deep" / "made" / file, extra_files=extra).module()
        for name, file in described["files"].items()
    }
    assert json.loads(extra["coterie"])["classes"] == described["classes"]
    assert described["input"] == {"name": "inputs", "dtype": "int64", "shape": ["samples", "length"]}
    ensemble = load_ensemble(TEXTS, EXACT)
    batch = ensemble.preprocessing.samples(["a", "a good film about a pear and a train"]).read(torch.arange(2))
    torch.testing.assert_close(programs["base"](batch)[0], ensemble.base(batch), rtol=0, atol=1e-5)


def test_weights_of_16_bits_take_half_and_leave_the_run_as_it_is(tmp_path) -> None:
    sizes = {}
    for weights in ("fp32", "fp16"):
        parity = export_run(FEATURES, "torch", tmp_path / weights, weights=weights)
        assert parity.largest_difference < 0.01
        described = json.loads((tmp_path / weights / "export.json").read_text())
        assert described["weights"] == weights
        sizes[weights] = weights_bytes(tmp_path / weights / described["files"]["base"])
    assert sizes["fp16"] * 2 == sizes["fp32"]


def weights_bytes(file: Path) -> int:
    return sum(value.nbytes for value in torch.export.load(file).state_dict.values() if value.is_floating_point())


def test_networks_that_16_bits_cannot_hold_are_refused(tmp_path, monkeypatch) -> None:
    def loud(*arguments: Any, **options: Any) -> SpecialistEnsemble:
        ensemble = load_ensemble(*arguments, **options)
        ensemble.base.head.weight.data *= 1e6
        return ensemble

    monkeypatch.setattr(exporting, "load_ensemble", loud)
    with pytest.raises(ExportError, match="of 144 test samples, 144 get probabilities that are NaN or infinite"):
        export_run(FEATURES, "torch", tmp_path / "made", weights="fp16")
    assert not (tmp_path / "made").exists()


def test_where_the_folder_is_there_nothing_is_read(tmp_path) -> None:
    with pytest.raises(SettingsError, match="exists: name a folder that is not there yet"):
        export_run(tmp_path / "no run", "torch", tmp_path)


def test_of_an_export_that_fails_nothing_is_left(tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExportError("no")

    monkeypatch.setattr(graph_files, "program_of", fail)
    with pytest.raises(ExportError):
        export_run(FEATURES, "torch", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_and_one_without_its_data_are_named(tmp_path, capsys) -> None:
    run = shutil.copytree(FEATURES, tmp_path / "run")
    (run / "base.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"base.safetensors"):
        export_run(run, "torch", tmp_path / "made")
    assert main(["export", str(FEATURES), str(tmp_path / "made"), "--to", "torch", "--source", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "made").exists()
