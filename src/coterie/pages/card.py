"""What a run found -> a model card: Markdown with a head of YAML, as hubs of models show it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from coterie.labels import LabelSpace
from coterie.measures.balance import FEW
from coterie.measures.costs import RunCosts
from coterie.measures.report import Report
from coterie.pages.page import render_text
from coterie.pages.run_page import has_specialist, verdict
from coterie.partition import Partition
from coterie.vocabulary import Modality

# The hub's names of tasks.
TASKS: dict[Modality, str] = {
    "image": "image-classification",
    "text": "text-classification",
    "table": "tabular-classification",
    "features": "tabular-classification",
}
# Classes and clusters that are listed; who wants more loads the run.
MOST_CLASSES, MOST_CLUSTERS = 200, 100
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!~&$])")


@dataclass(frozen=True, eq=False)
class CardContent:
    """All that a card shows.

    ``name``: on the hub, ``owner/name``; ``about``: a sentence on the data; ``base_bytes`` and ``storage_bytes``: size
    on disk of the base's weights and of all weights; ``train_counts``: training samples of each class, empty where they
    are not known; ``version``: of coterie; ``caution``: why the figures may not hold.
    """

    name: str
    modality: Modality
    about: str
    backbone: str
    labels: LabelSpace
    partition: Partition
    test: Report
    costs: RunCosts
    base_bytes: int
    storage_bytes: int
    train_counts: tuple[int, ...]
    version: str
    caution: str = ""


def render_card(content: CardContent) -> str:
    """The card, as text to be written as UTF-8."""
    head = {
        "library_name": "coterie",
        "pipeline_tag": TASKS[content.modality],
        "tags": ["coterie", "classification", "ensemble"],
        "metrics": ["accuracy"],
    }
    names, rows = content.labels.names, content.test.clusters
    return render_text(
        "card.md.j2",
        head=yaml.safe_dump(head, sort_keys=False),
        content=content,
        test=content.test,
        costs=content.costs,
        verdict=verdict(content.test, content.caution),
        name=plain(content.name),
        about=plain(content.about),
        caution=plain(content.caution),
        backbone=plain(content.backbone),
        classes=[plain(name) for name in names[:MOST_CLASSES]],
        n_classes=len(names),
        clusters=[
            (row, ", ".join(map(plain, content.labels.of(row.classes))), has_specialist(row))
            for row in rows[:MOST_CLUSTERS]
        ],
        n_specialists=int((content.partition.size_S > 1).sum()),
        worse=[row.cluster for row in rows if has_specialist(row) and row.specialist_top1 < row.restricted_top1],
        rare=[
            plain(name)
            for name, number in zip(names, content.train_counts or [FEW] * len(names), strict=True)
            if number < FEW
        ][:MOST_CLASSES],
        few=FEW,
    )


def plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
