"""`coterie partition`, as a user types it."""

import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import adjusted_rand_score

from coterie.cli import main
from coterie.config import DataSettings, PartitionSettings
from coterie.errors import DataError
from coterie.pipeline import prepare as prepare_module
from coterie.pipeline.fit import fit
from coterie.pipeline.plan import make_plan
from coterie.run.load import load_ensemble
from coterie.studies.headroom.study import read_source
from coterie.studies.partition.labels import read_labels
from helpers import hears_ctrl_c
from planted import planted_vectors


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    vectors_CD, truth = planted_vectors(60, 6, 0.8)
    np.save(tmp_path / "emb.npy", vectors_CD.astype(np.float32))
    (tmp_path / "groups.txt").write_text("\n".join(f"group {s}" for s in truth))
    (tmp_path / "names.txt").write_text("\n".join(f"<thing> {k}" for k in range(60)))
    return tmp_path / "emb.npy"


def partition(*arguments: object) -> int:
    return main(["partition", *map(str, arguments), "--map", "pca"])


def test_a_bare_matrix_gives_its_partition_figures_and_page(embeddings: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    options = ("--names", tmp_path / "names.txt", "--groups", tmp_path / "groups.txt")
    assert partition(embeddings, "--clusters", 6, "--out", out, *options) == 0
    printed = capsys.readouterr().out
    assert "60 classes in 6 clusters" in printed
    for title in ("silhouette", "adjusted Rand index", "mutual information", "stability over seeds", "bootstrap"):
        assert title in printed
    values = json.loads((out / "partition.json").read_text())
    assert len(values["cluster_of_class"]) == 60
    assert all(isinstance(cluster, int) for cluster in values["cluster_of_class"])
    assert values["quality"]["rand_index"] == 1.0
    page = (out / "partition.html").read_text()
    assert "&lt;thing&gt; 3 (cluster" in page
    assert "<script" not in page
    assert page.count("<svg") == 4  # map, matrix, dendrogram, sizes


def test_without_a_number_it_is_chosen_and_the_curve_kept(embeddings: Path, tmp_path: Path, capsys) -> None:
    assert partition(embeddings, "--out", tmp_path / "out") == 0
    assert "chosen by eigengap and silhouette" in capsys.readouterr().out
    choice = json.loads((tmp_path / "out" / "partition.json").read_text())["choice"]
    assert choice["chosen"] == 6
    assert len(choice["n_clusters"]) == len(choice["silhouette"])
    assert "How the number of clusters was chosen" in (tmp_path / "out" / "partition.html").read_text()


@pytest.mark.parametrize(
    "options",
    [
        *(("--method", method, "--clusters", "6") for method in ("kmeans", "average", "ward", "leiden", "random")),
        ("--method", "leiden"),
        ("--method", "balanced", "--max-size", "12"),
        ("--method", "given", "--groups", "groups.txt"),
    ],
)
def test_every_method_is_there(options: tuple[str, ...], embeddings: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert partition(embeddings, "--out", tmp_path / "out", "--stability", "no", *options) == 0
    assert json.loads((tmp_path / "out" / "partition.json").read_text())["method"] == options[1]


def test_a_run_tells_what_it_confuses(settings, splits, tmp_path: Path, capsys) -> None:
    fit(settings, tmp_path / "run", splits=splits)
    for method, embedding in (("spectral", "head"), ("confusion", "head+confusion"), ("ward", "head+bias")):
        arguments = ("--clusters", 3, "--method", method, "--embedding", embedding, "--out", tmp_path / method)
        assert partition(tmp_path / "run", *arguments) == 0
        printed = capsys.readouterr().out
        for title in ("confusion kept inside", "router accuracy", "gain forecast"):
            assert title in printed
    assert "class 0" in (tmp_path / "spectral" / "partition.html").read_text()
    assert partition(tmp_path / "run", "--out", tmp_path / "chosen") == 0
    assert "chosen by gain forecast" in capsys.readouterr().out


def test_fit_and_partition_take_the_same_embeddings(settings, splits, tmp_path: Path, monkeypatch, capsys) -> None:
    """Against the features of the network without its head."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare_module, "load_data", lambda *_: splits)
    np.save("names.npy", np.random.default_rng(0).normal(size=(8, 5)))
    for name, embedding in (("means", "means"), ("mixed", "names.npy+means")):
        chosen = settings.partition.model_copy(update={"embedding": embedding, "method": "ward"})
        base = {} if name == "means" else {"base_run": "means"}
        ensemble = fit(settings.model_copy(update={"partition": chosen}), name, splits=splits, **base)
        assert partition(name, "--clusters", 3, "--method", "ward", "--out", f"{name}-again") == 0
        assert f"by {embedding}." in (tmp_path / f"{name}-again" / "partition.html").read_text()
        again = json.loads(Path(f"{name}-again/partition.json").read_text())["cluster_of_class"]
        assert again == ensemble.partition.cluster_of_class_C.tolist()
    headless = copy.deepcopy(ensemble.base)
    headless.head = torch.nn.Identity()
    validation = splits.validation
    with torch.no_grad():
        pixels = validation.samples.read(torch.arange(len(validation)))
        feature_ND = headless(splits.preprocessing(pixels)).numpy()
    mean_CD = np.stack([feature_ND[validation.labels_N == k].mean(axis=0) for k in range(8)])
    mean_CD -= mean_CD.mean(axis=0)
    read = read_labels(Path("means")).vectors_CD
    np.testing.assert_allclose(read, mean_CD, atol=1e-4)
    # What headroom tries are groups by the same embedding.
    np.testing.assert_array_equal(read_source(Path("means")).vectors_CD, read)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [("seven.npy", "seven.npy has shape (7, 5); 8 vectors are needed"), ("no.npy", "no.npy does not exist")],
)
def test_fit_refuses_vectors_that_do_not_fit_before_it_trains(
    embedding: str, message: str, settings, splits, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("seven.npy", np.ones((7, 5)))
    chosen = settings.partition.model_copy(update={"embedding": f"head+{embedding}"})
    with pytest.raises(DataError, match=re.escape(message)):
        fit(settings.model_copy(update={"partition": chosen}), "run", splits=splits)
    assert not Path("run/base.safetensors").exists()


def test_logits_have_a_confusion_and_no_features(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    label_N = np.arange(400) % 8
    logits_NC = rng.normal(size=(400, 8)) + 3 * np.eye(8)[label_N] + 3 * np.eye(8)[label_N ^ 1]
    np.savez(tmp_path / "l.npz", logits_validation=logits_NC, labels_validation=label_N)
    arguments = (tmp_path / "l.npz", "--clusters", 4, "--stability", "no", "--out", tmp_path / "out")
    assert partition(*arguments, "--embedding", "confusion") == 0
    assert json.loads((tmp_path / "out" / "partition.json").read_text())["cluster_of_class"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert partition(*arguments, "--embedding", "means") == 1
    assert "of logits alone nobody can tell" in capsys.readouterr().err


def test_the_route_can_be_forced(embeddings: Path, tmp_path: Path, capsys) -> None:
    for route in ("dense", "sparse"):
        out = tmp_path / route
        assert partition(embeddings, "--clusters", 6, "--route", route, "--stability", "no", "--out", out) == 0
        printed = capsys.readouterr()
        assert ("neighbours" in printed.out + printed.err) == (route == "sparse")
    assert partition(embeddings, "--clusters", 6, "--method", "ward", "--route", "dense", "--out", tmp_path / "x") == 1
    assert "method ward has one route only (given: dense)" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["confusion", "balanced", "leiden"])
def test_fit_takes_the_methods(method: str, settings, splits) -> None:
    chosen = settings.partition.model_copy(update={"method": method})
    ensemble = fit(settings.model_copy(update={"partition": chosen}), splits=splits)
    assert ensemble.partition.n_clusters == 3


def test_fit_takes_given_groups(settings, splits, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("fine,coarse\n" + "\n".join(f"{k},{k // 4}" for k in range(8)) + "\n")
    groups = {**settings.partition.model_dump(), "method": "given", "groups": f"{tmp_path / 'g.csv'}:coarse"}
    chosen = settings.model_copy(update={"partition": PartitionSettings(**groups)})
    ensemble = fit(chosen, tmp_path / "run", splits=splits)
    assert [ensemble.partition.classes(s).tolist() for s in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert load_ensemble(tmp_path / "run").partition.n_clusters == 2


def test_fit_takes_groups_from_a_column_of_the_data(settings, splits, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    train = splits.train
    pictures = train.samples.read(torch.arange(len(train))).squeeze(3).numpy()
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": _png(pixels), "path": None} for pixels in pictures],
            "fine": train.labels_N.tolist(),
            "coarse": [f"group {label % 2}" for label in train.labels_N.tolist()],
        }
    )
    (tmp_path / "data").mkdir()
    table.to_parquet(tmp_path / "data" / "train.parquet")
    chosen = settings.model_copy(
        update={
            "data": DataSettings(source=f"parquet:{tmp_path / 'data'}", label="fine", crop_padding=1),
            "partition": PartitionSettings(method="given", groups="column:coarse"),
        }
    )
    ensemble = fit(chosen, tmp_path / "run")
    assert [ensemble.partition.classes(s).tolist() for s in range(2)] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert "2 specialists" in [stage.title for stage in make_plan(prepare_module.prepare(chosen)).stages]
    arguments = (tmp_path / "run", "--clusters", 2, "--stability", "no", "--out", tmp_path / "out")
    assert partition(*arguments, "--method", "given", "--groups", "column:coarse") == 0
    assert json.loads((tmp_path / "out" / "partition.json").read_text())["cluster_of_class"] == [0, 1] * 4
    assert partition(*arguments, "--groups", "column:fine:") == 1
    assert "no column 'fine:' for groups; columns: image, fine, coarse" in capsys.readouterr().err


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("nan", (), "classes [3] are not finite"),
        ("inf", (), "classes [3] are not finite"),
        ("zero", (), "classes [3] are zero"),
        ("twins", ("--clusters", 5), "only 3 distinct directions among 8"),
        ("good", ("--clusters", 0), "cannot make 0 clusters of 8 classes; allowed: 1 to 8"),
        ("good", ("--clusters", 9), "cannot make 9 clusters of 8 classes; allowed: 1 to 8"),
        ("two", (), "no number of clusters to choose for 2 classes; allowed: at least 3"),
        ("flat", (), "must be a C x D matrix; "),
        ("text", ("--clusters", 1), "must be real numbers"),
        ("good", ("--names", "two.txt", "--clusters", 2), "two.txt holds 2 names for 8 classes"),
        ("good", ("--method", "given"), "method given needs groups"),
        ("good", ("--method", "confusion", "--clusters", 2), "needs a run with validation logits"),
        ("good", ("--method", "balanced", "--max-size", 2, "--clusters", 3), "at most 2 classes cannot hold 8 classes"),
        ("good", ("--max-size", 2, "--clusters", 3), "takes no largest size (given: 2)"),
        ("good", ("--embedding", "confusion"), "is for run folders and logits"),
        ("good", ("--embedding", "rows"), "--embedding rows: allowed: head, head+bias, means, confusion"),
    ],
)
def test_bad_input_is_one_clear_message(
    rows: str, options: tuple[object, ...], message: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    good = np.random.default_rng(0).normal(size=(8, 4))
    bad = good.copy()
    bad[3] = {"nan": np.nan, "inf": np.inf, "zero": 0}.get(rows, 1)
    kinds = {
        "good": good,
        "two": good[:2],
        "flat": good[0],
        "text": good.astype(str),
        "twins": np.tile(good[:3], (3, 1))[:8],
    }
    np.save("emb.npy", kinds.get(rows, bad))
    Path("two.txt").write_text("one\ntwo\n")
    assert partition("emb.npy", "--out", "out", *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not Path("out").exists()


@pytest.mark.parametrize(("n_classes", "clusters"), [(1, 1), (2, 1), (2, 2), (5, 5), (10, 3)])
def test_few_classes_are_drawn_too(n_classes: int, clusters: int, tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).normal(size=(n_classes, 4)))
    assert partition(tmp_path / "emb.npy", "--clusters", clusters, "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "partition.json").read_text())["n_clusters"] == clusters


def test_half_precision_and_columns_first_are_taken_as_they_are(tmp_path: Path) -> None:
    vectors_CD, truth = planted_vectors(60, 4, 0.4)
    np.save(tmp_path / "f16.npy", np.asfortranarray(vectors_CD.astype(np.float16)))
    save_file({"rows": torch.from_numpy(vectors_CD).to(torch.bfloat16)}, tmp_path / "bf16.safetensors")
    for file in ("f16.npy", "bf16.safetensors"):
        out = tmp_path / f"out of {file}"
        assert partition(tmp_path / file, "--clusters", 4, "--out", out) == 0
        found = json.loads((out / "partition.json").read_text())["cluster_of_class"]
        assert adjusted_rand_score(truth, found) == 1.0


def test_ctrl_c_ends_a_partition_that_is_under_way(tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32))
    command = [sys.executable, "-m", "coterie", "partition", str(tmp_path / "emb.npy"), "--clusters", "300"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first stage is done
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 130, error
    assert "interrupted" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_the_partition_agrees_with_the_truth_at_scale(tmp_path: Path) -> None:
    vectors_CD, truth = planted_vectors(6000, 30, 1.5, width=96)
    np.save(tmp_path / "emb.npy", vectors_CD.astype(np.float16))
    assert partition(tmp_path / "emb.npy", "--clusters", 30, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "partition.json").read_text())["cluster_of_class"]
    assert adjusted_rand_score(truth, found) > 0.97
