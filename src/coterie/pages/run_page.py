"""What a run found -> one HTML file that needs nothing else: no script, no font, no network.

Nothing is computed here but the layout. The page is for someone who decides whether the specialists are worth
having, so what speaks against them stands as large as what speaks for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from coterie.arrays import FloatArray
from coterie.labels import LabelSpace
from coterie.measures.costs import RunCosts
from coterie.measures.report import ClusterRow, Report
from coterie.pages import figures
from coterie.pages.format import count, decimal, interval, points, zero
from coterie.pages.page import render_page
from coterie.partition import Partition
from coterie.routing.ladder import Ladder
from coterie.routing.tune import Tuning

SCORE_TITLES = {
    "entropy": "entropy of the base",
    "confidence": "1 less the base's largest probability",
    "margin": "1 less the lead of the base's first class",
    "energy": "energy of the base's logits",
    "clusters": "entropy over the clusters",
    "contested": "what is contested in the likely cluster",
    "learned": "the gain that a learned gate expects",
}
COMBINER_TITLES = {
    "hard": "the specialist decides alone",
    "compose": "the cluster keeps the base's mass, the specialist shares it out",
    "blend": "within the cluster, the geometric mean of base and specialist",
    "average": "within the cluster, the arithmetic mean of base and specialist",
    "product": "within the cluster, the product of base and specialist",
}
TRIED_SHOWN = 12
# Below this many samples a second decimal of a percentage is noise.
FEW_SAMPLES = 500
LONGEST_TEXT = 400


@dataclass(frozen=True, eq=False)
class Example:
    """One test sample on which base and ensemble differ.

    ``sample``: pixels, uint8 (H, W, 1 or 3 channels), or a text, empty where there is nothing to see; ``cluster``:
    whose specialist was asked; ``specialist_logits``: over that cluster's classes, ascending, as Partition.classes
    has them; ``score``: the gate's.
    """

    sample: NDArray[np.uint8] | str
    label: int
    base_logits_C: FloatArray
    cluster: int
    specialist_logits: FloatArray
    base_class: int
    ensemble_class: int
    score: float


@dataclass(frozen=True, eq=False)
class ReportContent:
    """All that the page shows.

    ``about``: a sentence on the data; ``candidates``: number of clusters and cross-fitted validation
    accuracy, one entry where there was no choice; ``tuning``: the rule, and what it was chosen from;
    ``storage_bytes``: size on disk of base and specialists;
    ``histories``: title, loss and accuracy per epoch of each training, the base first; ``created``: an ISO date;
    ``n_unknown``: further test samples, of classes that train lacks; ``caution``: why the figures may not hold.
    """

    about: str
    backbone: str
    labels: LabelSpace
    partition: Partition
    similarity_CC: FloatArray
    test: Report
    validation: Report
    ladder: Ladder
    candidates: tuple[tuple[int, float], ...]
    tuning: Tuning
    examples: tuple[Example, ...]
    costs: RunCosts
    storage_bytes: int
    histories: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    settings_yaml: str
    versions: Mapping[str, str]
    created: str
    n_unknown: int = 0
    caution: str = ""


def render(content: ReportContent) -> str:
    """The page, as HTML text to be written as UTF-8."""
    return render_page(
        "report.html.j2",
        symbol=figures.symbol,
        content=content,
        test=content.test,
        validation=content.validation,
        partition=content.partition,
        costs=content.costs,
        verdict=verdict(content.test, content.caution),
        with_errors=content.test.with_errors(content.n_unknown),
        digits=_digits(content.test.n_samples),
        validation_digits=_digits(content.validation.n_samples),
        gain_bar=figures.gain_bar(content.test.gain, content.test.gain_low, content.test.gain_high),
        ladder=_ladder(content.ladder, one=content.partition.n_clusters == 1),
        sizes=figures.cluster_sizes(content.partition.size_S),
        clusters=_clusters(content),
        cluster_digits=min((_digits(row.n_samples) for row in content.test.clusters if row.n_samples), default=2),
        cluster_dots=figures.cluster_accuracies(content.test.clusters),
        rule=content.tuning.rule,
        note=content.tuning.note,
        score=SCORE_TITLES[content.tuning.rule.gate.score],
        combiner=COMBINER_TITLES[content.tuning.rule.combiner.name],
        fallen_back=content.tuning.rule.fallen_back(content.partition),
        tried=content.tuning.candidates[:TRIED_SHOWN],
        n_tried=len(content.tuning.candidates),
        worse=[row.cluster for row in content.test.clusters if has_specialist(row) and _share(row) < 0],
        specialists=sum(has_specialist(row) for row in content.test.clusters),
        curve=_curve(content.test, content.validation),
        matrix=figures.similarity_matrix(
            content.similarity_CC,
            content.partition.packed_class_M,
            content.partition.size_S,
            content.labels.of(content.partition.packed_class_M.tolist()),
        ),
        trainings=_trainings(content),
        examples=_examples(content),
    )


@dataclass(frozen=True)
class Verdict:
    """``tone``: "better", "worse" or "none"; ``claim``: a few words; ``reason``: what bears it out."""

    tone: str
    claim: str
    reason: str


def verdict(test: Report, caution: str = "") -> Verdict:
    """What the gain's interval allows to say, and no more; less where there is a caution."""
    if test.routed_fraction == 0:
        return Verdict(
            "none",
            "No gain: no specialist is asked",
            "No test sample reaches the gate's threshold, so the ensemble gives the base's answers.",
        )
    reason = (
        f"On {count(test.n_samples)} test samples the specialists change the accuracy by {points(test.gain)} points "
        f"(95\N{NO-BREAK SPACE}% interval {interval(test.gain_low, test.gain_high)}): "
        f"{zero(test.gain_low, test.gain_high)}. It costs {decimal(test.mean_passes)} forward passes per sample."
    )
    if test.gain_low > 0 and caution:
        return Verdict("none", "A gain that may not hold", reason)
    if test.gain_low > 0:
        return Verdict("better", "A measurable gain", reason)
    if test.gain_high < 0:
        return Verdict("worse", "A measurable loss", f"{reason} The base alone is better.")
    return Verdict("none", "No measurable gain", reason)


def _digits(n_samples: int) -> int:
    return 2 if n_samples >= FEW_SAMPLES else 1


def has_specialist(row: ClusterRow) -> bool:
    """Whether there are accuracies of a specialist in a row."""
    return len(row.classes) > 1 and row.n_samples > 0


def _share(row: ClusterRow) -> float:
    """What the specialist adds to what restriction alone gives."""
    return row.specialist_top1 - row.restricted_top1


def _ladder(steps: Ladder, *, one: bool) -> list[tuple[str, str, float, str]]:
    """Name, explanation, share and tone of each step from the base to the ensemble, and of what bounds it; with one
    cluster, nothing is lost to routing, nor won by dropping classes.
    """
    if one:
        return [
            ("Base", "", steps.base, "second"),
            ("Specialist", "by itself", steps.oracle_specialist, "pale"),
            ("Both", "every sample routed", steps.routed, "pale"),
            ("Ensemble", "with its gate", steps.gated, "first"),
            ("Best possible gate", "always knows who is right", steps.best_gate, "pale"),
        ]
    return [
        ("Base", "over all classes", steps.base, "second"),
        ("Routing alone", "the base's best class of the chosen cluster", steps.routing, "pale"),
        ("Base, true cluster known", "restricted to its classes", steps.restricted, "pale"),
        ("Specialist, true cluster known", "perfect routing", steps.oracle_specialist, "pale"),
        ("Specialist, chosen cluster", "every image routed", steps.routed, "pale"),
        ("Ensemble", "with its gate", steps.gated, "first"),
        ("Best possible gate", "always knows who is right", steps.best_gate, "pale"),
    ]


def _clusters(content: ReportContent) -> list[dict[str, Any]]:
    labels, partition = content.labels, content.partition
    members = [labels.of(partition.classes(cluster).tolist()) for cluster in range(partition.n_clusters)]
    return [
        {
            "row": row,
            "names": names,
            "hint": figures.shorten(", ".join(names), 40),
            "specialist": has_specialist(row),
            "share": _share(row),
        }
        for row, names in zip(content.test.clusters, members, strict=True)
    ]


def _curve(test: Report, validation: Report) -> Markup:
    chosen = [(report.routed_fraction, report.ensemble_top1) for report in (test, validation)]
    return figures.threshold_curves(test.curve, validation.curve, chosen, test.base_top1)


def _trainings(content: ReportContent) -> list[dict[str, Any]]:
    highest = max((loss for _, losses, _ in content.histories for loss in losses), default=1.0)
    return [
        {
            "title": title,
            "epochs": len(losses),
            "loss": losses[-1],
            "accuracy": accuracies[-1],
            "svg": figures.training_curves(losses, accuracies, highest),
        }
        for title, losses, accuracies in content.histories
        if losses and accuracies
    ]


def _examples(content: ReportContent) -> list[dict[str, Any]]:
    """Corrected first, then spoiled, then those on which both are wrong."""
    kinds = {
        "corrected": [e for e in content.examples if e.ensemble_class == e.label],
        "spoiled": [e for e in content.examples if e.base_class == e.label != e.ensemble_class],
        "both wrong": [e for e in content.examples if e.label not in (e.base_class, e.ensemble_class)],
    }
    return [_example(content, kind, example) for kind, examples in kinds.items() for example in examples]


def _example(content: ReportContent, kind: str, example: Example) -> dict[str, Any]:
    names, partition = content.labels.names, content.partition
    own = partition.classes(example.cluster)
    order_C = np.argsort(partition.cluster_of_class_C, kind="stable")
    image = None if isinstance(example.sample, str) else example.sample
    return {
        "kind": kind,
        "text": figures.shorten(example.sample, LONGEST_TEXT) if isinstance(example.sample, str) else "",
        "image": None if image is None else figures.image_address(image),
        "pixelated": image is not None and max(image.shape[:2]) < 128,
        "true": names[example.label],
        "base": names[example.base_class],
        "ensemble": names[example.ensemble_class],
        "base_right": example.base_class == example.label,
        "ensemble_right": example.ensemble_class == example.label,
        "cluster": example.cluster,
        "cluster_size": len(own),
        "inside": bool(partition.member_SC[example.cluster, example.label]),
        "score": example.score,
        "base_svg": _bars(example.base_logits_C[order_C], order_C, content, example),
        "base_top": _top(example.base_logits_C, np.arange(len(names)), content, example),
        "specialist_svg": _bars(example.specialist_logits, own, content, example),
        "specialist_top": _top(example.specialist_logits, own, content, example),
    }


def _bars(logits: FloatArray, classes: NDArray[Any], content: ReportContent, example: Example) -> Markup:
    """The logits of ``classes``, in their order."""
    places = np.flatnonzero(classes == example.label)
    return figures.logit_bars(
        logits,
        content.labels.of(classes.tolist()),
        content.partition.member_SC[example.cluster, classes].tolist(),
        int(places[0]) if places.size else None,
        int(logits.argmax()),
    )


def _top(logits: FloatArray, classes: NDArray[Any], content: ReportContent, example: Example) -> list[dict[str, Any]]:
    """The five highest logits, and the true class's own line where it is not among them."""
    order = np.argsort(-logits, kind="stable")
    places: Sequence[int] = [
        place for place, k in enumerate(order.tolist()) if place < 5 or classes[k] == example.label
    ]
    return [
        {
            "rank": place + 1,
            "name": content.labels.names[classes[order[place]]],
            "logit": float(logits[order[place]]),
            "true": bool(classes[order[place]] == example.label),
            "inside": bool(content.partition.member_SC[example.cluster, classes[order[place]]]),
        }
        for place in places
    ]
