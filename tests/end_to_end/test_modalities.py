"""Every modality from a file to report and predictions, through the command line."""

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import coterie
from coterie.cli import main
from coterie.data import load
from coterie.data.splits import Columns
from coterie.errors import InputError
from coterie.inputs import encoder
from coterie.run.folder import Run
from coterie.run.names import EXAMPLE_TEXTS_FILE
from coterie.run.reporting import read_reports
from coterie.run.values import labels_of, partition_of

pytestmark = pytest.mark.slow

FAST = ["--base.epochs", "6", "--base.batch-size", "16", "--base.optimizer", "adamw", "--base.learning-rate", "0.02"]
FAST += ["--specialist.epochs", "2", "--specialist.batch-size", "8", "--specialist.learning-rate", "0.01"]
FAST += ["--partition.clusters", "2", "--hardware.accelerator", "cpu", "--hardware.threads", "1"]
WORDS = ("apple", "pear", "oak", "elm")
NEW = "acorn"  # the first of all, by its name


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("embeddings")))
    monkeypatch.setattr(encoder, "_compute", lambda _, texts: np.array([_sentence(text) for text in texts], np.float32))


def _sentence(text: str) -> list[float]:
    return [float(word in text) for word in WORDS] + [len(text) % 3]


def write_data(folder: Path, modality: str, words: tuple[str, ...] = WORDS, name: str = "all") -> list[str]:
    """A file of classes, of which the four known ones come in pairs, and fit's options for it."""
    rng = np.random.default_rng(0)
    known = (*WORDS, NEW)
    label_N = np.tile([known.index(word) for word in words], 40)
    n, names = len(label_N), np.array(known)[label_N]
    if modality == "features":
        centre_CD = np.eye(5, 6) * 4 + np.eye(3, 6)[np.array([0, 0, 1, 1, 2]), ::-1] * 8
        np.savez(folder / f"{name}.npz", features=centre_CD[label_N] + rng.normal(size=(n, 6)), labels=names)
        return ["--data.source", f"features:{folder}/{name}.npz", "--backbone", "mlp-16"]
    if modality == "table":
        size_N = np.where(rng.random(n) < 0.1, np.nan, label_N + rng.normal(0, 0.3, n))
        frame = pd.DataFrame({"size": size_N, "part": np.where(label_N < 2, "fruit", "wood"), "kind": names})
        frame.to_csv(folder / f"{name}.csv", index=False)
        return ["--data.source", f"csv:{folder}/{name}.csv", "--data.label", "kind", "--backbone", "table-mlp-16"]
    texts = [f"this is {word} number {k}" for k, word in enumerate(names)]
    pd.DataFrame({"text": texts, "kind": names}).to_json(folder / f"{name}.jsonl", orient="records", lines=True)
    options = ["--data.source", f"jsonl:{folder}/{name}.jsonl", "--data.buckets", "256"]
    as_sentences = ["--data.text-as", "minilm", "--backbone", "linear"]
    return options + (as_sentences if modality == "sentences" else ["--backbone", "ngram-8"])


@pytest.mark.parametrize("modality", ["ngrams", "sentences", "table", "features"])
def test_from_a_file_to_predictions(tmp_path: Path, modality: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, out = write_data(tmp_path, modality), tmp_path / "run"
    assert main(["fit", *options, *FAST, "--out", str(out)]) == 0
    assert "Plan" in capsys.readouterr().out
    run = Run.open_complete(out)
    assert read_reports(run)["test"].base_top1 > 0.6
    assert "<!DOCTYPE html>" in (out / "report.html").read_text()
    settings = run.settings
    splits, ensemble = load(settings.data, settings.seed), coterie.load(out)
    assert ensemble.preprocessing == splits.preprocessing
    right = ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()
    assert read_reports(run)["test"].ensemble_top1 == pytest.approx(right.mean())
    with torch.inference_mode():
        values = ensemble(ensemble.preprocessing(splits.test.samples.read(torch.arange(5))))
    np.testing.assert_allclose(
        values.softmax(1).numpy(), ensemble.predict_proba(splits.test.samples.take(torch.arange(5))), atol=1e-4
    )
    source = settings.data.source
    assert main(["evaluate", str(out), "--source", source, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ensemble_top1"] == pytest.approx(right.mean())
    assert main(["evaluate", str(out), "--source", source, "--split", "all", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    everything = [getattr(splits, part) for part in ("train", "validation", "test")]
    right_N = [ensemble.predict(part.samples) == part.labels_N.numpy() for part in everything]
    assert (whole["n_samples"], whole["ensemble_top1"]) == (160, pytest.approx(np.concatenate(right_N).mean()))
    new = ["an apple", "some elm"] if modality in ("ngrams", "sentences") else [source.partition(":")[2]]
    assert main(["predict", str(out), *new, "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == (2 if len(new) == 2 else 160)
    assert {"predicted", "routed", "base_top", "text" if len(new) == 2 else "row"} <= set(answers[0])
    assert main(["predict", str(out), *new]) == 0
    assert main(["info", str(out)]) == 0


def test_a_help_desks_files_need_no_names_of_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS] * 40
    frame = pd.DataFrame(
        {
            "id": range(160),
            "customer_message": [f"this is {word} number {k}" for k, word in enumerate(words)],
            "topic": words,
            "created": [f"2026-01-{1 + k // 10:02}" for k in range(160)],
        }
    )
    frame.to_csv(tmp_path / "tickets.csv", index=False)
    options = ["--data.source", f"csv:{tmp_path}/tickets.csv", "--data.buckets", "256", "--backbone", "ngram-8"]
    out = tmp_path / "run"
    assert main(["fit", *options, *FAST, "--out", str(out)]) == 0
    assert "ignored, for they hold dates, or one text throughout: created" in " ".join(capsys.readouterr().out.split())
    assert Run.open(out).manifest.data.columns == Columns("topic", "customer_message")
    # In files of a few rows nothing tells what is a label; and answers are texts, too.
    few = frame[:4].assign(answer=[f"thank you for {k}" for k in range(4)])
    few.to_csv(tmp_path / "few.csv", index=False)
    assert main(["evaluate", str(out), "--source", f"csv:{tmp_path}/few.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == 4
    few.drop(columns="topic").to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(out), f"{tmp_path}/new.csv", "--format", "jsonl"]) == 0
    told = main(["predict", str(out), *few["customer_message"], "--format", "jsonl"])
    found = [json.loads(line)["predicted"] for line in capsys.readouterr().out.splitlines()]
    assert (told, len(found), found[:4]) == (0, 8, found[4:])
    # Files of other columns are read as before; and what is named goes first.
    few[["topic", "customer_message"]].set_axis(["label", "text"], axis=1).to_csv(tmp_path / "own.csv", index=False)
    assert main(["evaluate", str(out), "--source", f"csv:{tmp_path}/own.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == 4


def test_a_subject_and_its_body_are_one_text_wherever_a_run_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS] * 40
    frame = pd.DataFrame(
        {
            "Subject": ["help", "a question"] * 80,
            "Body": [f"this is {word} number {k}" for k, word in enumerate(words)],
            "Created": [f"{1 + k // 10}.01.2026 10:30" for k in range(160)],
            "Priority": ["low", "high", "low", "none"] * 40,
            "Category": words,
        }
    )
    frame.to_csv(tmp_path / "tickets.csv", index=False)
    options = ["--data.source", f"{tmp_path}/tickets.csv", "--data.buckets", "256", "--backbone", "ngram-8"]
    out = tmp_path / "run"
    assert main(["fit", *options, *FAST, "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "texts are the columns 'Subject', 'Body', joined (--data.text" in said
    assert Run.open(out).manifest.data.columns == Columns("Category", ("Subject", "Body"))
    assert main(["evaluate", str(out), "--source", f"{tmp_path}/tickets.csv", "--json"]) == 0
    few = frame[:4].drop(columns="Category")
    few.to_csv(tmp_path / "new.csv", index=False)
    capsys.readouterr()
    assert main(["predict", str(out), f"{tmp_path}/new.csv", "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    joined = [f"{subject}\n{body}" for subject, body in zip(few["Subject"], few["Body"], strict=True)]
    assert [answer["text"] for answer in answers] == joined
    ensemble = coterie.load(out)
    expected = ensemble.predict(joined, names=True).tolist()
    assert [answer["predicted"] for answer in answers] == expected
    assert ensemble.predict(tmp_path / "new.csv", names=True).tolist() == expected
    assert main(["export", str(out), str(tmp_path / "made"), "--to", "torch"]) == 0
    described = json.loads((tmp_path / "made" / "export.json").read_text())
    assert described["texts"] == {"columns": ["Subject", "Body"], "between": "\n"}
    few.drop(columns="Subject").to_csv(tmp_path / "part.csv", index=False)
    assert main(["predict", str(out), f"{tmp_path}/part.csv"]) != 0
    assert "has no column 'Subject' of texts" in capsys.readouterr().err


@pytest.mark.parametrize("modality", ["ngrams", "table", "features"])
def test_a_run_is_looked_at_compared_and_changed_in_part(
    tmp_path: Path, modality: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["fit", *write_data(tmp_path, modality), *FAST, "--out", str(run)]) == 0
    assert main(["headroom", str(run), "--out", str(tmp_path / "headroom"), "--clusters", "2"]) == 0
    before = {name: Run.open(run).read(name) for name in Run.open(run).manifest.files}

    partition = partition_of(Run.open(run).manifest)
    cluster = int(np.argmax(partition.size_S))
    words = labels_of(Run.open(run).manifest).of(partition.classes(cluster).tolist())
    more = write_data(tmp_path, modality, words, "more")[1]
    assert main(["refit", str(run), "--cluster", str(cluster), "--source", more, "--out", str(tmp_path / "re")]) == 0
    changed = Run.open_complete(tmp_path / "re")
    assert sum(changed.manifest.train_counts) > sum(Run.open(run).manifest.train_counts)
    assert changed.read("base.safetensors") == before["base.safetensors"]

    acorns = write_data(tmp_path, modality, (NEW,), "new")[1]
    assert main(["add-class", str(run), NEW, "--source", acorns, "--out", str(tmp_path / "wider")]) == 0
    wider = coterie.load(tmp_path / "wider")
    assert wider.labels.names == (*coterie.load(run).labels.names, NEW)
    whole = write_data(tmp_path, modality, (*WORDS, NEW), "whole")[1]
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "wider"), "--source", whole, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ensemble_top1"] > 0.6
    assert {name: Run.open(run).read(name) for name in before} == before

    # Rows of the table that lack their only number are the same row.
    assert main(["compare", str(run), "--allow-shared"]) == 0
    rows = {row["name"] for row in Run.open(run).read_json("comparison.json")["rows"]}
    assert {"base", "specialists", "all-class copy", "deep ensemble of 2", "weight average"} <= rows
    for other in ("re", "wider"):
        assert main(["compare", str(tmp_path / other)]) == 1
        assert "was made of" in capsys.readouterr().err
    assert main(["fit", "--base", str(tmp_path / "wider"), "--out", str(tmp_path / "x")]) == 1
    assert "has other classes than" in " ".join(capsys.readouterr().err.split())


def test_additions_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run", str(tmp_path / "new")
    assert main(["fit", *write_data(tmp_path, "features"), *FAST, "--out", str(run)]) == 0
    np.savez(tmp_path / "narrow.npz", features=np.zeros((5, 2)), labels=[NEW] * 5)
    np.savez(tmp_path / "unnamed.npz", features=np.zeros((5, 6)), labels=[0, 1, 0, 1, 7], classes=[NEW, "b"])
    np.savez(tmp_path / "quantity.npz", features=np.zeros((5, 6)), labels=[0.5] * 5)
    for source, message in {
        "features:narrow.npz": "the networks take 6 features per sample",
        "features:unnamed.npz": "name no label 7",
        "features:quantity.npz": "0.5 is a quantity",
        "folder:anywhere": "is not allowed here; allowed: features:FILE, parquet:DIR, csv:FILE, jsonl:FILE, arrow:FILE",
        "features:nowhere.npz": "cannot read",
    }.items():
        place = source.replace(":", f":{tmp_path}/")
        assert main(["add-class", str(run), NEW, "--source", place, "--out", out]) == 1
        assert message in " ".join(capsys.readouterr().err.split())


def test_the_report_shows_texts_on_which_base_and_ensemble_differ(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Specialists that unlearn what the base knew, asked for all texts, differ from it for certain.
    wild = ["--specialist.learning-rate", "30", "--gate.threshold", "0", "--gate.combiner", "hard"]
    options = [*write_data(tmp_path, "ngrams"), *FAST, *wild, "--gate.score", "entropy"]
    assert main(["fit", *options, "--out", str(out)]) == 0
    run = Run.open_complete(out)
    texts = run.read_json(EXAMPLE_TEXTS_FILE)
    assert texts
    page = (out / "report.html").read_text()
    assert all(f"<blockquote>{text}</blockquote>" in page for text in texts)


def test_new_samples_come_as_python_has_them(tmp_path: Path) -> None:
    assert main(["fit", *write_data(tmp_path, "table"), *FAST, "--out", str(tmp_path / "run")]) == 0
    ensemble = coterie.load(tmp_path / "run")
    rows = [{"size": 0.1, "part": "fruit"}, {"size": None, "part": "wood"}]
    first, second = ensemble.explain(rows)
    assert {first.predicted, second.predicted} <= set(WORDS)
    np.testing.assert_array_equal(ensemble.predict_proba(pd.DataFrame(rows)), ensemble.predict_proba(rows))
    with pytest.raises(InputError, match="missing: part"):
        ensemble.predict([{"size": 0.1}])
