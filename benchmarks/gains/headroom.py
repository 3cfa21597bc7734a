"""How far is the forecast of headroom from the gains that were really reached?

Question: over all finished runs in some folders, what did headroom say of each run's partition from its base's
validation logits, and what did the ensemble gain on test? Each run is forecast with the skill of the others (those of
another base; with a single base, the other runs), so that no forecast has seen its own answer.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.shared import both_outputs, command, write_result
from coterie.config import GateSettings
from coterie.errors import CoterieError
from coterie.measures.report import Report
from coterie.partition import Partition
from coterie.pipeline.tuning import tuning_request
from coterie.routing.evaluation import evaluate
from coterie.routing.forecast import SKILLS, BasePredictions, Forecast, Outlook, Skill, forecast
from coterie.routing.tune import tune
from coterie.run.folder import Run
from coterie.run.values import partition_of
from coterie.studies.headroom.study import LEARNING
from coterie.vocabulary import ForecastRule

# Two or three runs agree by chance: no spread below this is believed.
LEAST_SPREAD = 0.03


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run under one rule, tuned on its validation logits: what it gained on test, and the skill that this
    came to, with its variance from the number of test samples; ``learning``: its base was not trained to its end.
    """

    name: str
    base: str
    partition: Partition
    method: str
    rule: ForecastRule
    validation: BasePredictions
    report: Report
    skill: float
    variance: float
    learning: bool

    def forecast(self, skill: Skill) -> Forecast:
        """With the skill of other runs."""
        return forecast(self.validation, Outlook.of(self.validation, self.partition), self.rule, skill)


def read(folder: Path, root: Path) -> Iterator[Trained]:
    """A run under the paper's rule, and under what tuning chooses."""
    run = Run.open_complete(folder)
    settings = run.settings
    partition = partition_of(run.manifest)
    if partition.n_clusters == 1:
        raise CoterieError(f"{folder} has one cluster of all classes, a control: there is no partition to forecast")
    validation, test = both_outputs(run)
    answers = BasePredictions(test.base_NC, test.label_N)
    outlook = Outlook.of(answers, partition)
    training = run.read_json("history.json")["base"][-1]["accuracy"]
    gates: dict[ForecastRule, GateSettings] = {
        "hard": GateSettings(score="entropy", combiner="hard"),
        "blend": GateSettings(),
    }
    for rule, gate in gates.items():
        report = evaluate(test, partition, tune(validation, partition, tuning_request(gate), settings.seed).rule)
        certain_N, open_N = outlook.change(answers, rule)
        # Under the paper's rule all are routed here, so that no threshold's luck is in the skill.
        everyone = gate.model_copy(update={"threshold": -1.0}) if rule == "hard" else gate
        all_routed = evaluate(
            test, partition, tune(validation, partition, tuning_request(everyone), settings.seed).rule
        )
        n = len(test.label_N)
        net = all_routed.gain * n - (float(certain_N.sum()) if rule == "hard" else 0.0)
        yield Trained(
            str(folder.relative_to(root)) if folder != root else folder.name,
            run.manifest.files["base.safetensors"].sha256,
            partition,
            settings.partition.method,
            rule,
            BasePredictions(validation.base_NC, validation.label_N),
            report,
            net / float(open_N.sum()),
            (all_routed.corrected + all_routed.spoiled) / float(open_N.sum()) ** 2,
            training < answers.accuracy + LEARNING,
        )


def pooled(runs: list[Trained]) -> Skill:
    """Mean skill, and its spread from run to run, less what the number of test samples explains."""
    skills = np.array([run.skill for run in runs])
    noise = float(np.mean([run.variance for run in runs]))
    spread = np.sqrt(max(0.0, float(skills.var(ddof=1)) - noise)) if len(runs) > 1 else 0.0
    return Skill(float(skills.mean()), max(float(spread), LEAST_SPREAD))


def compare(runs: list[Trained], rule: ForecastRule) -> list[str]:
    """The table and the figures of one rule."""
    runs = [run for run in runs if run.rule == rule]
    lines = [
        "| run | base | method | S | forecast | interval | gained on test | interval | error | inside | skill |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    errors, inside, said, got = [], [], [], []
    for run in runs:
        trained = [other for other in runs if other is not run and not other.learning]
        others = [other for other in trained if other.base != run.base] or trained
        hope, report = run.forecast(pooled(others) if others else SKILLS[rule]), run.report
        # The test set is a sample too: its own noise is not the forecast's fault.
        noise = (report.gain_high - report.gain_low) / 2
        low, high = (
            hope.gain - np.hypot(hope.gain - hope.low, noise),
            hope.gain + np.hypot(hope.high - hope.gain, noise),
        )
        held = low <= report.gain <= high
        if not run.learning:
            errors.append(hope.gain - report.gain)
            inside.append(held)
            said.append(hope.gain)
            got.append(report.gain)
        lines.append(
            f"| {run.name}{' (still learning)' if run.learning else ''} | {report.base_top1:.1%} | {run.method} "
            f"| {run.partition.n_clusters} | {100 * hope.gain:+.2f} | {100 * hope.low:+.2f} to {100 * hope.high:+.2f} "
            f"| {100 * report.gain:+.2f} "
            f"| {100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f} | {100 * (hope.gain - report.gain):+.2f} "
            f"| {'yes' if held else 'no'} | {run.skill:+.3f} ± {1.96 * np.sqrt(run.variance):.3f} |"
        )
    counted = [run for run in runs if not run.learning]
    skill, shipped = pooled(counted), SKILLS[rule]
    rank = f"{spearmanr(said, got).statistic:+.2f}" if len(counted) > 2 else "not told"
    bases = len({run.base for run in counted})
    summary = (
        f"{len(counted)} runs over {bases} bases trained to their end. Mean absolute error "
        f"{100 * np.mean(np.abs(errors)):.2f} points, mean error {100 * np.mean(errors):+.2f}; {sum(inside)} "
        f"of {len(counted)} inside; rank correlation of forecast and gain {rank}. Skill: mean {skill.mean:.3f}, spread "
        f"{skill.spread:.3f} (at least {LEAST_SPREAD}); the forecast ships with {shipped.mean} and {shipped.spread}."
    )
    return [*lines, "", summary]


def main(folders: tuple[Path, ...]) -> None:
    """Compare over all runs below the folders.

    Args:
        folders: they hold finished runs, at any depth.
    """
    runs: list[Trained] = []
    for root in folders:
        for manifest in sorted(root.rglob("manifest.json")):
            try:
                runs += read(manifest.parent, root)
            except CoterieError as error:
                print(f"left out: {error}", file=sys.stderr)
    meaning = (
        "In points of accuracy. Inside: the gain is in the forecast's interval, widened by the test set's own noise. "
        "Bases that are still learning gain from any training: their runs are shown and not counted."
    )
    lines = [
        meaning,
        "\n## The paper's rule\n",
        *compare(runs, "hard"),
        "\n## Rule and gate chosen on validation, the default of `coterie fit`\n",
        *compare(runs, "blend"),
    ]
    write_result(__file__, f"{__doc__}\n" + "\n".join(lines))


if __name__ == "__main__":
    command(main)
