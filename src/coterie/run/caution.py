"""Why the figures of a run may not hold."""

from __future__ import annotations

from coterie.data.splits import CutSplit
from coterie.run.manifest import DataRecord

# Of test samples that are also in validation: a few are there by chance, as where texts are short.
MOST_SHARED = 0.1


def caution_on(data: DataRecord, *splits: CutSplit) -> str:
    """Why figures on these splits may not hold, in words, or nothing."""
    said = []
    if set(splits) & set(data.perhaps_seen):
        cut = " and ".join(data.perhaps_seen) + (" is" if len(data.perhaps_seen) == 1 else " are")
        said.append(
            f"{cut.capitalize()} cut from train, and the base came trained: if that was on these samples too, it is "
            "right for more of them than of new ones, and figures on them are too good. Bring samples that it has not "
            "seen, in files called validation and test, or with a column split; or judge the run on others: coterie "
            "evaluate RUN --source NEW."
        )
    n_test = 0 if data.sizes is None else data.sizes[2]
    if "test" in splits and data.n_in_validation > MOST_SHARED * n_test:
        said.append(
            f"{data.n_in_validation:,} of {n_test:,} test samples are also in validation, by which the rule is chosen: "
            "figures on them are too good."
        )
    return " ".join(said)
