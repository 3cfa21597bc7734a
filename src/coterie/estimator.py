"""Specialists behind scikit-learn's interface."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.base import preprocessing_of_base
from coterie.backbones.initial import PRETRAINED
from coterie.config import AUTO, EngineSettings, FitSettings, merged
from coterie.config.defaults import named
from coterie.data.given import (
    SOURCES,
    are_images,
    image_list,
    images_of,
    is_table,
    size_of,
    splits_of,
    text_columns_of,
    texts_of,
)
from coterie.data.splits import Columns
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, DataError, SettingsError
from coterie.inputs.encoder import is_installed
from coterie.inputs.image import prescribed_image
from coterie.inputs.text import check_texts
from coterie.labels import LabelSpace
from coterie.pipeline.defaults import backbone_of_images
from coterie.pipeline.fit import fit
from coterie.pipeline.tuning import ALONE
from coterie.run.load import load_ensemble
from coterie.run.manifest import MANIFEST
from coterie.vocabulary import Modality

# Specialists of fewer classes, or of so few samples of each, know nothing that the base does not.
FEWEST_CLASSES = 4
FEWEST_SAMPLES = 10
# Shares of the samples on which the rule is chosen, and which the report alone is about: whoever uses scikit-learn has
# kept test samples apart already.
SHARES = {"validation_share": 0.2, "test_share": 0.1}
# A small data set is learned in steps of a few samples, about so many an epoch, and in more epochs, until there were so
# many steps.
STEPS, ALL_STEPS = 16, 500
BATCH_SIZES, EPOCHS = (8, 128), (25, 200)
# Epochs of a specialist, in those of the base, from whose weights it starts.
SPECIALIST_SHARE = 0.4
# Pixels by which training images are shifted: an eighth of a side, as far as 32 pixels.
MOST_PADDING = 4
# Of a network's training on anything but images; and of a module's, which may have any layers.
ADAMW = {"optimizer": "adamw", "weight_decay": 0.01}
RATES = (0.01, 0.002)
MODULE_RATES = (0.001, 0.0005)


class RefusedError(DataError, ValueError):
    """Samples or labels that the estimator cannot learn from: a ValueError too, as scikit-learn's callers expect."""


class CoterieClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A base, clusters of the classes that it confuses, and a specialist for each, as a scikit-learn classifier.

    ``fit`` takes features (N, F), a data frame, a list of texts, or images: uint8 (N, H, W) or (N, H, W, channels), or
    a list of PIL images, arrays, encoded bytes or paths. A data frame is a table, or, where columns of texts have
    words and hardly repeat, one of these texts (``settings`` of ``{"data": {"modality": "table"}}`` take all columns,
    ``{"data": {"text": [...]}}`` name those of texts), or, with one column of images' paths, these images. It cuts off
    a fifth of the samples, on which the specialists' rule is chosen, and a tenth, on which the run's report is judged.
    With fewer than four classes, or ten samples of each on average, there are no specialists, and the base answers
    alone: ``n_specialists_`` is 0. Images are not mirrored in training, unless the settings say so
    (``{"data": {"flip": True}}``).

    A fitted classifier is kept by its run folder, which, unlike a pickle, is loaded without running code from it: give
    ``out``, and ``CoterieClassifier.load(out)`` reads it.

    Args:
        backbone: name of a network, as ``--backbone`` takes it; auto: what suits the samples (texts: a linear network
            on the embeddings of a frozen MiniLM, where ``coterie[minilm]`` is installed; photographs of 96 pixels or
            more: efficientnet-lite0, fine-tuned, where ``coterie[images]`` is installed); or a ``torch.nn.Module``
            from inputs (B, F) or (B, channels, H, W) to logits, which is copied, gets a head of as many outputs as
            there are classes, and is trained from the weights that it has.
        clusters: number of clusters; None: the root of the number of classes, or none if these or the samples are few.
        epochs: of the base's training; None: 25, or more where an epoch has few steps.
        specialist_epochs: of each specialist's training; None: two fifths of the base's.
        settings: further settings, as a settings file has them: ``{"hardware": {"precision": "fp32"}}``. They go over
            what is set here; ``{"weights": "own"}`` says that a module is trained already.
        out: the run folder; None: a temporary one, of which nothing is left.
        random_state: seed of cut, weights and batches; None draws one from numpy's global generator.

    Attributes:
        classes_: the labels, sorted, of shape (C,).
        n_specialists_: number of specialists; 0: the base answers alone.
        ensemble_: the trained SpecialistEnsemble, which explains its answers.
        n_features_in_: number of features or columns; not of texts and images.
        feature_names_in_: names of a data frame's columns.
        text_columns_: those of them that are texts, which are joined; empty: there are none, or it is a table.

    Examples:
        >>> import numpy as np
        >>> from coterie import CoterieClassifier
        >>> label_N = np.arange(240) % 6
        >>> features_NF = np.eye(6)[label_N] + np.random.default_rng(0).normal(scale=0.2, size=(240, 6))
        >>> names_N = np.array(["ash", "birch", "cod", "dace", "elm", "fir"])[label_N]
        >>> classifier = CoterieClassifier("linear", clusters=2, epochs=5, specialist_epochs=2)
        >>> classifier.fit(features_NF, names_N).predict(np.eye(6)[:2]).tolist()
        ['ash', 'birch']
        >>> classifier.n_specialists_
        2
    """

    def __init__(
        self,
        backbone: str | nn.Module = AUTO,
        *,
        clusters: int | None = None,
        epochs: int | None = None,
        specialist_epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        out: Path | str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.backbone = backbone
        self.clusters = clusters
        self.epochs = epochs
        self.specialist_epochs = specialist_epochs
        self.settings = settings
        self.out = out
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Train base, specialists and rule.

        Args:
            X: N samples.
            y: the label of each.

        Raises:
            ValueError: samples or labels are not such as it takes, or too few.
            CoterieError: as ``coterie.fit``; or ``out`` holds a finished run.
        """
        modality = _modality_of(X)
        self.text_columns_ = self._text_columns(X) if modality == "table" else ()
        modality = "text" if self.text_columns_ else modality
        raw, y = self._checked(X, modality, reset=True, y=y)
        self.classes_, label_N = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise RefusedError(f"a classifier needs at least 2 classes; y holds one class: {self.classes_[0]!r}")
        if self.out is not None and (Path(self.out) / MANIFEST).exists() and _is_finished(Path(self.out)):
            raise ArtifactError(
                f"{self.out} holds a finished run, which is not trained again: CoterieClassifier.load reads it; choose "
                "another out"
            )
        settings = self._fit_settings(modality, raw, label_N)
        labels = LabelSpace(tuple(map(str, self.classes_.tolist())))
        module = self.backbone if isinstance(self.backbone, nn.Module) else None
        data = settings.data
        if data.standardize is None and settings.weights is not None:
            data = data.model_copy(update={"standardize": False})  # a network that came trained knows them as they are
        prescribed = preprocessing_of_base(settings) if module is None else None
        try:
            splits = splits_of(raw, label_N, labels, data, settings.seed, prescribed)
        except DataError as error:
            raise RefusedError(f"{error} (n_samples={len(label_N)})") from None
        if self.text_columns_:
            about = f"{splits.about}; texts are the columns {', '.join(self.text_columns_)} of a data frame"
            splits = replace(splits, columns=Columns("y", self.text_columns_), about=about)
        self._keep(fit(settings, self.out, splits=splits, base=module, engine=EngineSettings(workers=1)))
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities, float32 of shape (N, C), in the order of ``classes_``; rows sum to 1."""
        check_is_fitted(self)
        modality = self.ensemble_.preprocessing.modality
        raw, _ = self._checked(X, modality, reset=False)
        form = prescribed_image(self.ensemble_.preprocessing)
        if form is not None and isinstance(raw, np.ndarray):  # as those that it was fitted on
            raw = images_of(raw, form)
        return self.ensemble_.predict_proba(raw)

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels of shape (N,)."""
        proba_NC = self.predict_proba(X)
        label_N: NDArray[Any] = self.classes_[proba_NC.argmax(axis=1)]
        return label_N

    @classmethod
    def load(
        cls, run: Path | str, classes: Sequence[Any] | None = None, *, backbone: nn.Module | None = None
    ) -> CoterieClassifier:
        """A fitted classifier of a finished run, its own or any other.

        Args:
            run: the run folder.
            classes: the labels in the order of the run's; default: its names, as integers where all of them are.
            backbone: where the base was a module: one of the same form, which gets the run's weights.

        Raises:
            ArtifactError: as ``coterie.load``.
            RefusedError: other labels than there are classes.
        """
        found = cls(AUTO if backbone is None else backbone, out=run)
        ensemble = load_ensemble(run, base=backbone)
        names = ensemble.labels.names
        whole = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names)
        labels = ([int(name) for name in names] if whole else names) if classes is None else classes
        found.classes_ = np.asarray(labels)
        if found.classes_.shape != (len(names),):
            raise RefusedError(f"{run} has {len(names)} classes; got labels of shape {found.classes_.shape}")
        if ensemble.preprocessing.modality in ("features", "table"):
            (found.n_features_in_,) = ensemble.preprocessing.shape
        found.text_columns_ = ensemble.columns if ensemble.preprocessing.modality == "text" else ()
        found._keep(ensemble)
        return found

    def _keep(self, ensemble: SpecialistEnsemble) -> None:
        self.ensemble_ = ensemble
        self.n_specialists_ = len(ensemble.specialists)

    def _checked(self, X: Any, modality: Modality, *, reset: bool, y: Any = None) -> tuple[Any, Any]:
        """What scikit-learn checks, and what is passed on."""
        if modality == "features":
            if not reset:
                return validate_data(self, X, reset=False), None
            X, y = validate_data(self, X, y)
        elif modality == "table":
            validate_data(self, X, reset=reset, skip_check_array=True)
        elif modality == "image":
            X = X if isinstance(X, np.ndarray) and X.ndim > 2 else image_list(_items_of(X))
        elif modality == "text":
            if self.text_columns_ and is_table(X):
                if reset:
                    validate_data(self, X, skip_check_array=True)
                X = texts_of(X, self.text_columns_)
            X = check_texts(list(X), "texts, none of them empty")
        if reset:
            if y is None:
                raise RefusedError("CoterieClassifier requires y to be passed, but the target y is None")
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            check_classification_targets(y)
        return X, y

    def _text_columns(self, X: Any) -> tuple[str, ...]:
        """The columns of a data frame that are texts, by the settings or as found."""
        given = named(self.settings, "data") if isinstance(self.settings, Mapping) else {}
        if text := given.get("text"):
            return (text,) if isinstance(text, str) else tuple(text)
        if given.keys() & {"columns", "categorical"} or given.get("modality") == "table":
            return ()
        return text_columns_of(X)

    def _fit_settings(self, modality: Modality, raw: Any, label_N: IntArray) -> FitSettings:
        if not isinstance(self.settings, Mapping | None):
            raise SettingsError(f"settings = {self.settings!r}: must be a mapping of groups, as a settings file holds")
        given, module = dict(self.settings or {}), isinstance(self.backbone, nn.Module)
        n_classes = int(label_N.max()) + 1
        n_clusters = self._n_clusters(n_classes, len(label_N))
        own: dict[str, Any] = {
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
            # Samples are read in this process: another would run the user's script again.
            "data": {"source": SOURCES[modality], "workers": 0, **SHARES},
            "partition": {"clusters": [n_clusters]},
            "gate": ALONE if n_clusters == n_classes else {},
            "track": {"tensorboard": False},
        }
        chosen = self.backbone == AUTO and given.get("init") is None and given.get("weights") is None
        if modality == "text" and chosen and is_installed("minilm"):
            own["data"]["text_as"] = "minilm"
        if not module:
            own["backbone"] = self.backbone
        elif "weights" not in given:
            own |= {"init": PRETRAINED, "data": {**own["data"], "augment": "shift"}}
        if modality == "image":
            size, in_colour = size_of(raw)
            own["data"]["crop_padding"] = min(MOST_PADDING, min(size) // 8)
            if chosen:
                image_size = named(given, "data").get("image_size")
                backbone, init, _ = backbone_of_images(size if in_colour else None, image_size)
                own |= {"backbone": backbone, "init": init} if init else {}
        # The defaults of fine-tuning hold for a network that comes with weights.
        if module or (given.get("init") or own.get("init")) is None:
            own = merged(own, _training(modality, len(label_N), module=module))
        own = merged(own, _epochs(self.epochs, self.specialist_epochs))
        return FitSettings.from_values(merged(own, given))

    def _n_clusters(self, n_classes: int, n_samples: int) -> int:
        """A cluster of one class has no specialist: as many clusters as classes leave the base alone."""
        if self.clusters is not None:
            return self.clusters
        few = n_classes < FEWEST_CLASSES or n_samples < FEWEST_SAMPLES * n_classes
        return n_classes if few else round(n_classes**0.5)


def _training(modality: Modality, n_samples: int, *, module: bool) -> dict[str, Any]:
    """Small batches and many epochs for few samples; and optimizers, save for the convolutional networks of coterie,
    whose own are the settings' defaults.
    """
    n_trained = n_samples * (1 - SHARES["test_share"]) * (1 - SHARES["validation_share"])
    batch_size = int(np.clip(2 ** round(math.log2(max(1, n_trained / STEPS))), *BATCH_SIZES))
    epochs = int(np.clip(ALL_STEPS * batch_size / max(1, n_trained), *EPOCHS))
    found = merged(
        {"base": {"batch_size": batch_size}, "specialist": {"batch_size": batch_size}}, _epochs(epochs, None)
    )
    if modality == "image" and not module:
        return found
    rates = MODULE_RATES if module else RATES
    return merged(
        found,
        {
            "base": {**ADAMW, "learning_rate": rates[0], "mixup": 0.0},
            "specialist": {**ADAMW, "learning_rate": rates[1]},
        },
    )


def _epochs(base: int | None, specialist: int | None) -> dict[str, Any]:
    if specialist is None and base is not None:
        specialist = math.ceil(SPECIALIST_SHARE * base)
    numbers = {"base": base, "specialist": specialist}
    return {name: {"epochs": number} for name, number in numbers.items() if number is not None}


def _modality_of(X: Any) -> Modality:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        if X.shape[1] == 1 and are_images(_items_of(X)):
            return "image"
        numeric = all(dtype.kind in "biuf" for dtype in X.dtypes)
        return "features" if numeric and not X.isna().to_numpy().any() else "table"
    if pandas is not None and isinstance(X, pandas.Series):
        X = X.tolist()
    array = isinstance(X, np.ndarray)
    if (isinstance(X, list | tuple) or (array and X.ndim == 1)) and are_images(X):
        return "image"
    if (array and X.ndim == 1) or isinstance(X, list | tuple):
        return "text" if len(X) and all(isinstance(text, str) for text in X) else "features"
    return "image" if array and X.ndim in (3, 4) else "features"


def _items_of(X: Any) -> list[Any]:
    """A list, a series, an array of one dimension, or a data frame's only column."""
    return list(X.iloc[:, 0] if hasattr(X, "iloc") and X.ndim == 2 else X)


def _is_finished(out: Path) -> bool:
    from coterie.run.folder import Run

    return Run.open(out).complete
