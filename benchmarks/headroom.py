"""How far is the forecast of headroom from the gains that were really reached?

Question: over all finished runs in some folders, what did headroom say of each run's partition from its base's
validation logits, and what did the ensemble gain on test? Each run is forecast with the skill of the others (those of
another base; with a single base, the other runs), so that no forecast has seen its own answer.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import record
from coterie.artifact import partition_of, read_outputs, read_reports
from coterie.combine import Combiner
from coterie.config import FitSettings
from coterie.errors import CoterieError
from coterie.forecast import SKILL, BaseAnswers, Forecast, Outlook, Skill, forecast, likeliest_cluster
from coterie.metrics import Report
from coterie.partition import Partition
from coterie.run_folder import Run

# Two or three runs agree by chance: no spread below this is believed.
LEAST_SPREAD = 0.02


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run: what is forecast from validation, what came out on test, and the skill of its specialists with its
    variance from the number of test samples.
    """

    name: str
    base: str
    partition: Partition
    method: str
    rule: Combiner
    validation: BaseAnswers
    report: Report
    skill: float
    variance: float

    @classmethod
    def read(cls, folder: Path, root: Path) -> "Trained":
        run = Run.open_complete(folder)
        settings = FitSettings.from_values(run.manifest.settings)
        partition = partition_of(run.manifest)
        validation, test = read_outputs(run, "validation"), read_outputs(run, "test")
        answers = BaseAnswers(test.base_NC, test.label_N)
        outlook = Outlook.of(answers, partition)
        cluster_N = likeliest_cluster(answers, partition)
        right_N = np.zeros(len(test.label_N), dtype=bool)
        for cluster in range(partition.n_clusters):
            rows, classes = np.flatnonzero(cluster_N == cluster), partition.classes(cluster)
            said = classes[test.packed_NM[rows, partition.columns(cluster)].argmax(axis=1)]
            right_N[rows] = said == test.label_N[rows]
        net_N = (right_N.astype(int) - outlook.restricted_N)[outlook.share_N > 0]
        room = float(outlook.share_N[outlook.held_N & ~outlook.restricted_N].sum())
        name = str(folder.relative_to(root)) if folder != root else folder.name
        return cls(
            name,
            run.manifest.files["base.safetensors"].sha256,
            partition,
            settings.partition.method,
            settings.gate.combiner,
            BaseAnswers(validation.base_NC, validation.label_N),
            read_reports(run)["test"],
            net_N.sum() / room,
            float((net_N**2).sum()) / room**2,
        )

    def forecast(self, skill: Skill) -> Forecast:
        rule = "hard" if self.rule == "hard" else "compose"
        return forecast(self.validation, Outlook.of(self.validation, self.partition), rule, skill)


def pooled(runs: list[Trained]) -> Skill:
    """Mean skill, and its spread from run to run, less what the number of test samples explains."""
    skills = np.array([run.skill for run in runs])
    noise = float(np.mean([run.variance for run in runs]))
    spread = np.sqrt(max(0.0, float(skills.var(ddof=1)) - noise)) if len(runs) > 1 else SKILL.spread
    return Skill(float(skills.mean()), max(float(spread), LEAST_SPREAD))


def main(*folders: str) -> None:
    """Compare over all runs below the folders."""
    runs = []
    for root in map(Path, folders):
        for manifest in sorted(root.rglob("manifest.json")):
            try:
                runs.append(Trained.read(manifest.parent, root))
            except CoterieError as error:
                print(f"left out: {error}", file=sys.stderr)
    lines = [
        "| run | base | method | S | forecast | interval | gained on test | interval | error | inside | skill |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    errors, inside, said, got = [], [], [], []
    for run in runs:
        others = [other for other in runs if other.base != run.base] or [other for other in runs if other is not run]
        hope, report = run.forecast(pooled(others) if others else SKILL), run.report
        # The test set is a sample too: its own noise is not the forecast's fault.
        noise = (report.gain_high - report.gain_low) / 2
        low, high = (
            hope.gain - np.hypot(hope.gain - hope.low, noise),
            hope.gain + np.hypot(hope.high - hope.gain, noise),
        )
        errors.append(hope.gain - report.gain)
        inside.append(low <= report.gain <= high)
        said.append(hope.gain)
        got.append(report.gain)
        lines.append(
            f"| {run.name} | {report.base_top1:.1%} | {run.method} | {run.partition.n_clusters} | {100 * hope.gain:+.2f} "
            f"| {100 * hope.low:+.2f} to {100 * hope.high:+.2f} | {100 * report.gain:+.2f} "
            f"| {100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f} | {100 * errors[-1]:+.2f} "
            f"| {'yes' if inside[-1] else 'no'} | {run.skill:+.3f} ± {1.96 * np.sqrt(run.variance):.3f} |"
        )
    skill = pooled(runs)
    bases = len({run.base for run in runs})
    rank = f"{spearmanr(said, got).statistic:+.2f}" if len(runs) > 2 else "not told"
    record.write(
        __file__,
        f"{__doc__}\nIn points of accuracy. Inside: the gain is in the forecast's interval, widened by the test set's own "
        "noise.\n\n"
        + "\n".join(lines)
        + f"\n\n{len(runs)} runs over {bases} bases. Mean absolute error {100 * np.mean(np.abs(errors)):.2f} points, mean "
        f"error {100 * np.mean(errors):+.2f}; {sum(inside)} of {len(runs)} inside; rank correlation of forecast and gain "
        f"{rank}.\n\nSkill over all runs: mean {skill.mean:.3f}, spread {skill.spread:.3f} (at least {LEAST_SPREAD}); "
        f"the forecast ships with {SKILL.mean} and {SKILL.spread}.",
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/headroom.py RUNS ... (folders that hold finished runs, at any depth)")
    main(*sys.argv[1:])
