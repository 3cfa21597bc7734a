"""Several classifiers on the same samples -> one table that says who is ahead, and if by chance. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from coterie.arrays import FloatArray, IntArray
from coterie.errors import InputError
from coterie.logits_file import LabelledLogits
from coterie.measures.metrics import Scores, score
from coterie.measures.significance import Interval, gain_interval, mcnemar, over_seeds
from coterie.pages.format import decimal, hundredths, percent
from coterie.routing.calibration import temperature
from coterie.vocabulary import ContenderKind

TEMPERATURE_SAMPLES = 10_000


@dataclass(frozen=True)
class ContenderCost:
    """Multiples of the base: of its training and of one forward pass, both in operations, and of its size on disk."""

    training: float = 1.0
    inference: float = 1.0
    storage: float = 1.0


@dataclass(frozen=True, eq=False)
class Contender:
    """What a classifier says of the samples, and its cost.

    ``about``: what it is, in a sentence; ``flips``: each image was seen in a mirror too; ``validation_N``: its answers
    on validation; ``test_NC``: its probabilities on test.
    """

    name: str
    about: str
    kind: ContenderKind
    validation_N: IntArray
    test_NC: FloatArray
    cost: ContenderCost
    flips: bool = False


@dataclass(frozen=True)
class Row:
    """One classifier in the table. ``gain``: test accuracy over the base's, with its paired interval; ``p_base`` and
    ``p_control``: chance of so large a difference from the base and from the best control, were there none (McNemar);
    None where it is compared with itself, or there is no control.
    """

    name: str
    about: str
    kind: ContenderKind
    flips: bool
    cost: ContenderCost
    scores: Scores
    validation_top1: float
    gain: Interval
    p_base: float | None
    p_control: float | None


@dataclass(frozen=True)
class Comparison:
    """The table, and what it comes to in words. ``best_control``: by name, without and with flips, the one that is best
    on validation among the controls that train no longer than the specialists; ``notes``: what was left out, and why.
    """

    n_samples: int
    rows: tuple[Row, ...]
    best_control: tuple[str | None, str | None]
    verdict: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_values(self) -> dict[str, Any]:
        """As nested plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Comparison:
        """The inverse of ``to_values``."""
        rows = tuple(
            Row(
                **{
                    **row,
                    "cost": ContenderCost(**row["cost"]),
                    "scores": Scores(**row["scores"]),
                    "gain": Interval(**row["gain"]),
                }
            )
            for row in values["rows"]
        )
        return cls(
            values["n_samples"],
            rows,
            (values["best_control"][0], values["best_control"][1]),
            tuple(values["verdict"]),
            tuple(values["notes"]),
        )

    def row(self, name: str, flips: bool = False) -> Row | None:
        """A row by its name."""
        return next((row for row in self.rows if row.name == name and row.flips == flips), None)


def compare(
    answers: Sequence[Contender], validation_N: IntArray, test_N: IntArray, notes: Sequence[str] = ()
) -> Comparison:
    """The table of several classifiers; the first is the base.

    Args:
        answers: the classifiers, the base first.
        validation_N: true classes on validation; controls are chosen by these.
        test_N: true classes on test; all figures are of these.
        notes: passed on.

    Raises:
        InputError: an answer has another number of samples than there are labels.
    """
    for answer in answers:
        if len(answer.validation_N) != len(validation_N) or len(answer.test_NC) != len(test_N):
            raise InputError(
                f"{answer.name} answers {len(answer.validation_N)} validation and {len(answer.test_NC)} test samples; "
                f"there are {len(validation_N)} and {len(test_N)} labels"
            )
    right = [answer.test_NC.argmax(axis=1) == test_N for answer in answers]
    validation = [float((answer.validation_N == validation_N).mean()) for answer in answers]
    best = [_best_control(answers, validation, flips) for flips in (False, True)]
    rows = []
    for place, answer in enumerate(answers):
        control = best[answer.flips]
        rows.append(
            Row(
                answer.name,
                answer.about,
                answer.kind,
                answer.flips,
                answer.cost,
                score(answer.test_NC, test_N),
                validation[place],
                gain_interval(right[0], right[place]),
                None if place == 0 else mcnemar(right[0], right[place]),
                None if control in (None, place) else mcnemar(right[control], right[place]),
            )
        )
    names = [None if place is None else answers[place].name for place in best]
    return Comparison(len(test_N), tuple(rows), (names[0], names[1]), _verdict(rows, best), tuple(notes))


def compare_logits(validation: LabelledLogits, test: LabelledLogits) -> Comparison:
    """The rows that need no training: classifiers whose logits a user has, as they are and at their own temperature.

    Args:
        validation: temperatures are chosen on these.
        test: all figures are of these.

    Raises:
        InputError: validation and test hold other classifiers.
    """
    if set(validation.others_NC) != set(test.others_NC):
        unpaired = sorted(set(validation.others_NC) ^ set(test.others_NC))
        raise InputError(f"classifiers must be given for validation and test both; one has no {', '.join(unpaired)}")
    classifiers = {"base": (validation.logits_NC, test.logits_NC)}
    classifiers |= {name: (logits_NC, test.others_NC[name]) for name, logits_NC in validation.others_NC.items()}
    # A temperature is one number: more samples than these do not change it.
    some = slice(None, None, max(1, len(validation.label_N) // TEMPERATURE_SAMPLES))
    answers = []
    for name, (validation_NC, test_NC) in classifiers.items():
        scale = temperature(validation_NC[some], validation.label_N[some])
        validation_N = validation_NC.argmax(axis=1)
        kinds: tuple[ContenderKind, ContenderKind] = ("base", "control") if name == "base" else ("other", "other")
        for title, about, divisor, kind in (
            (name, "as given", 1.0, kinds[0]),
            (f"{name}, calibrated", f"at temperature {decimal(scale)}", scale, kinds[1]),
        ):
            proba_NC = softmax(test_NC / divisor if divisor != 1 else test_NC, axis=1)
            answers.append(Contender(title, about, kind, validation_N, proba_NC, ContenderCost()))
    return compare(answers, validation.label_N, test.label_N, [f"{note}." for note in validation.notes])


def _best_control(answers: Sequence[Contender], validation: Sequence[float], flips: bool) -> int | None:
    """Place of the best control of the specialists' training budget, chosen on validation."""
    budget = max((answer.cost.training for answer in answers if answer.kind == "specialists"), default=np.inf)
    places = [
        place
        for place, answer in enumerate(answers)
        # A few parts in a hundred: heads of specialists are smaller than the base's, and batches are cut differently.
        if answer.kind == "control" and answer.flips == flips and answer.cost.training <= 1.05 * budget
    ]
    return max(places, key=lambda place: validation[place], default=None)


def _verdict(rows: Sequence[Row], best: Sequence[int | None]) -> tuple[str, ...]:
    """What the table comes to, one sentence for each question a reader would ask."""
    sentences = []
    for flips, where in ((False, ""), (True, " with flips on both sides")):
        ours = next((row for row in rows if row.kind == "specialists" and row.flips == flips), None)
        place = best[flips]
        if ours is None or place is None:
            continue
        control = rows[place]
        assert ours.p_control is not None  # there is a control, and the specialists are none
        ahead, difference = ours.scores.top1 >= control.scores.top1, abs(ours.scores.top1 - control.scores.top1)
        doubt = "" if ours.p_control < 0.05 else ", which chance alone can explain"
        first, second = (ours, control) if ahead else (control, ours)
        sentences.append(
            f"At the same training budget{where}, {first.name} is ahead of {second.name} by "
            f"{hundredths(difference)} points ({percent(first.scores.top1)} against {percent(second.scores.top1)}, "
            f"p = {ours.p_control:.2g}){doubt}; it takes {decimal(first.cost.inference)} forward passes, the other "
            f"{decimal(second.cost.inference)}."
        )
    ours = next((row for row in rows if row.kind == "specialists" and not row.flips), None)
    if ours is not None:
        free = [row for row in rows if row.kind in ("base", "control") and row.cost.training == rows[0].cost.training]
        # Calibration changes no answer: of equal rows the first speaks for all.
        ahead_free = {row.scores.top1: row for row in reversed(free) if row.scores.top1 > ours.scores.top1}.values()
        own = percent(ours.scores.top1)
        sentences += [
            f"{_title(row)} needs no training at all and is ahead of {ours.name}: {percent(row.scores.top1)} against "
            f"{own}, at {decimal(row.cost.inference)} forward passes against {decimal(ours.cost.inference)}."
            for row in ahead_free
        ]
        sentences += [
            f"{_title(row)} costs {decimal(row.cost.training)} times the base's training (the specialists: "
            f"{decimal(ours.cost.training)}) and reaches {percent(row.scores.top1)} against {own}."
            for row in rows
            if row.kind == "dearer" and not row.flips
        ]
    return tuple(sentences)


def _title(row: Row) -> str:
    return row.name + (" with flips" if row.flips else "")


@dataclass(frozen=True)
class SeedsRow:
    """One classifier over seeds: ``scores`` and ``cost`` are means; ``top1``, its ``gain`` over the base and its
    ``lead`` over the best control (None where there is none), seed by seed, have Student's intervals.
    """

    name: str
    kind: ContenderKind
    flips: bool
    n_seeds: int
    cost: ContenderCost
    scores: Scores
    top1: Interval
    gain: Interval
    lead: Interval | None


def compare_seeds(comparisons: Sequence[Comparison]) -> tuple[SeedsRow, ...]:
    """Tables of several seeds as one, with the rows that every seed has."""
    rows = []
    for first in comparisons[0].rows if comparisons else ():
        same = [comparison.row(first.name, first.flips) for comparison in comparisons]
        found = [row for row in same if row is not None]
        if len(found) < len(comparisons):
            continue
        controls = [
            comparison.row(name, first.flips)
            for comparison in comparisons
            if (name := comparison.best_control[first.flips]) is not None
        ]
        leads = [
            row.scores.top1 - control.scores.top1
            for row, control in zip(found, controls, strict=False)
            if control is not None
        ]
        rows.append(
            SeedsRow(
                first.name,
                first.kind,
                first.flips,
                len(found),
                ContenderCost(*_means([row.cost for row in found])),
                Scores(*_means([row.scores for row in found])),
                over_seeds([row.scores.top1 for row in found]),
                over_seeds([row.gain.mean for row in found]),
                over_seeds(leads) if len(leads) == len(found) else None,
            )
        )
    return tuple(rows)


def _means(records: Sequence[ContenderCost] | Sequence[Scores]) -> list[float]:
    """The mean of each field."""
    return [float(mean) for mean in np.mean([list(asdict(record).values()) for record in records], axis=0)]
