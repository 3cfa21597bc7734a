"""Do the names of the classes help a probe of texts?

Question: a probe is a sentence encoder as it was before its fine-tuning, with a head that is fitted to its features. It
also knows the words in the names of the classes ("alarm set"). What does the probe gain, alone and mixed with the base,
if each name is a training sample of its class too, that counts as much as so many? And do validation samples tell
whether names help, also where classes have each other's names? Bases are those of second_opinions.py; so is the mixing.
Seed 0 was looked at before the weight was settled.
"""

from pathlib import Path

import numpy as np

from benchmarks.gains.fine_tuned import DATA, base_run
from benchmarks.gains.fine_tuned_arrays import Pair, Scores, mixed
from benchmarks.shared import command, markdown_table, over_runs, write_result
from coterie.pipeline.prepare import base_of_run, prepare
from coterie.run.folder import Run
from coterie.training import linear_probe
from coterie.training.fabric import make_fabric
from coterie.training.linear_probe import logistic_regression
from coterie.training.passes import compute_features

WEIGHTS = (0.0, 1.0, 3.0, 6.0)
WRONG = "3, of names of other classes"


def measure(run: Run, kept: Path) -> dict[str, tuple[float, float, float]]:
    """For each weight of a name: top-1 of the probe and of its mixture with the base, and the loss on validation."""
    pair, (splits, _) = Pair.of(run, kept), base_of_run(run)
    before = prepare(run.settings, splits=splits).base
    texts = splits.preprocessing.samples(list(splits.labels.texts()))
    name_CD = compute_features(
        make_fabric(run.settings.hardware), before.network, before.head, texts, splits.preprocessing
    )
    found = {}
    for title, weight, names in [
        *((f"{weight:g}", weight, name_CD) for weight in WEIGHTS),
        (WRONG, 3.0, np.roll(name_CD, 1, axis=0)),
    ]:
        linear_probe.NAME_WEIGHT = weight
        head_CD, bias_C, _ = logistic_regression(pair.before["train"], pair.label["train"], names if weight else None)
        probe: Scores = {split: pair.before[split] @ head_CD.T + bias_C for split in ("validation", "test")}
        own_N = pair.label["validation"]
        log_NC = probe["validation"] - np.log(np.exp(probe["validation"]).sum(axis=1, keepdims=True))
        loss = -float(log_NC[np.arange(len(own_N)), own_N].mean())
        found[title] = pair.top1(probe), pair.top1(mixed(pair, [probe])) - pair.top1(pair.base), loss
    return found


def main(shared: Path, runs: Path = Path("runs/second-opinions"), seeds: int = 3) -> None:
    """Write the table.

    Args:
        shared: folder of hwu64 and clinc150, each with its parquet files.
        runs: folder of the bases, trained where they are not there, and of what is kept of them.
        seeds: of each base, from 0 on.
    """
    rows = []
    for name, data in DATA.items():
        if "text" not in data.data:
            continue
        found = [measure(base_run(data, shared, runs, seed), runs / "kept") for seed in range(seeds)]
        for title in found[0]:
            value_RF = np.array([each[title] for each in found])
            lead_R = value_RF[:, 1] - [each["0"][1] for each in found]
            better = sum(each[title][2] < each["0"][2] for each in found)
            rows.append(
                (
                    name,
                    title,
                    f"{value_RF[:, 0].mean():.2f}",
                    over_runs(value_RF[:, 1]),
                    ", ".join(f"{value:+.2f}" for value in value_RF[:, 1]),
                    "" if title == "0" else over_runs(lead_R),
                    "" if title == "0" else f"{better} of {seeds}",
                )
            )
    head = (
        "base",
        "a name counts as",
        "probe alone, %",
        "mixed with the base, points",
        "by seed",
        "over none",
        "lower loss on validation",
    )
    write_result(__file__, "\n".join([__doc__ or "", markdown_table(head, rows)]))


if __name__ == "__main__":
    command(main)
