"""The classes of a trained base in the order of the data's: by their names, or found out by what it confuses."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from coterie.arrays import FloatArray, IntArray
from coterie.errors import BackboneError
from coterie.label_file import name_forms
from coterie.labels import LabelSpace

# A base whose classes are in another order than the data's is found out by what it confuses, if that is this clear.
CLEARLY = 0.05


def order_of_rows(names: tuple[str, ...] | None, labels: LabelSpace, n_outputs: int) -> tuple[list[int] | None, str]:
    """For each class of the data, its row in the network's head, and what was made of the names in words; None where
    the orders agree, or only one has names.

    Raises:
        BackboneError: both have names, and a class of the data is not among those of the network.
    """
    numbers = [str(k) for k in range(n_outputs)]
    data_has_numbers = sorted(labels.names) == sorted(numbers[: len(labels)])
    if names is None and not data_has_numbers:
        return None, ""
    if names is None or (data_has_numbers and not set(labels.names) <= set(names)):
        names = tuple(numbers)  # data whose classes are numbers counts them as the network does
    if len(names) != n_outputs:
        raise BackboneError(
            f"there are {len(names)} names for the network's {n_outputs} outputs; one for each is needed"
        )
    forms = [(form, matched(labels.names, form)) for form in name_forms(names)]
    names, alike = next(((form, same) for form, same in forms if len(same) == len(labels)), forms[0])
    missing = [name for name in labels.names if name not in alike]
    if missing:
        others = set(names) - set(alike.values())
        raise BackboneError(
            f"the network's classes are not the data's: only the network has {_some(others)}; only the data has "
            f"{_some(missing)}"
        )
    order = [names.index(alike[name]) for name in labels.names]
    renamed = [f"{theirs} for {ours}" for ours, theirs in alike.items() if ours != theirs]
    more = f" and {len(renamed) - 8} more" if len(renamed) > 8 else ""
    said = [f"its names are matched: {', '.join(renamed[:8])}{more}"] if renamed else []
    said += [f"the head, of {n_outputs} outputs, is cut to the data's {len(order)}"] if len(order) < n_outputs else []
    return (None if order == list(range(n_outputs)) else order), "; ".join(said)


def matched(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """For each of our names the one of theirs that is the same; where none is, one that differs in case, ``_``, spaces
    or Unicode form alone, if that is one to one.
    """
    exact = set(theirs)
    found = {name: name for name in ours if name in exact}
    plain: dict[str, list[str]] = {}
    for name in exact - set(found):
        plain.setdefault(_plain_name(name), []).append(name)
    left = Counter(_plain_name(name) for name in ours if name not in found)
    for name in ours:
        candidates = plain.get(_plain_name(name), [])
        if name not in found and len(candidates) == 1 and left[_plain_name(name)] == 1:
            found[name] = candidates[0]
    return found


def _plain_name(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none"


def refuse_other_order(logits_NC: FloatArray, label_N: IntArray) -> None:
    """Refuse a trained base that is far better if its classes are renamed.

    Half of the samples say how classes would be renamed (the assignment that gets most of them right), the others
    judge it.

    Raises:
        BackboneError: its classes are in another order than the data's.
    """
    # Imported here: it takes its time, and a run that is read needs none of it.
    from scipy.optimize import linear_sum_assignment

    n_classes = logits_NC.shape[1]
    predicted_N = logits_NC.argmax(axis=1)
    # Every other sample, since validation may come sorted by class.
    first_N = np.arange(len(label_N)) % 2 == 0
    count_CC = np.zeros((n_classes, n_classes))
    np.add.at(count_CC, (predicted_N[first_N], label_N[first_N]), 1)
    renamed_C = linear_sum_assignment(count_CC, maximize=True)[1]
    plain = float((predicted_N == label_N)[~first_N].mean())
    renamed = float((renamed_C[predicted_N] == label_N)[~first_N].mean())
    # To rename classes helps any bad base a little, by chance: only a gain that is clear on the other half counts.
    if renamed > 2 * plain + CLEARLY:
        raise BackboneError(
            f"the base gets {plain:.1%} of the validation samples right, but {renamed:.1%} if its classes are renamed: "
            "they are in another order than the data's, or its head was never trained. Say by --names FILE what its "
            "outputs stand for, a name a line"
        )
