"""The paper's experiment: what it costs, and what came out."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.comparison import print_seeds
from coterie.cli.terminal.tables import print_figures
from coterie.data.splits import Splits
from coterie.pages.format import count, decimal, gain, hundredths, mean_share, points, rough_duration
from coterie.pipeline.plan import make_plan
from coterie.pipeline.prepare import prepare
from coterie.studies.reproduction.study import ReproductionStudy, trainings_of_seed
from coterie.studies.reproduction.tables import Reproduction


def print_cost(console: Console, study: ReproductionStudy, splits: Splits) -> None:
    """What the whole study trains, and about how long that takes here. Nothing is refused."""
    plan = make_plan(prepare(study.settings, splits=splits))
    base, specialists = plan.stages[0].seconds, plan.stages[1].seconds
    n_trainings = trainings_of_seed(study)
    per_seed = base + n_trainings * specialists
    console.print(
        f"{splits.about}\n{study.settings.backbone}: {count(plan.parameters)} weights, {plan.precision} on "
        f"{plan.device}. Each seed trains a base ({study.settings.base.epochs} epochs, about {rough_duration(base)}) "
        f"and {n_trainings} times {study.settings.specialist.epochs} epochs (about {rough_duration(specialists)} "
        "each): "
        f"about {rough_duration(per_seed)} a seed, {rough_duration(per_seed * len(study.seeds))} in all. "
        "Every part resumes.",
        highlight=False,
    )


def print_reproduction(console: Console, result: Reproduction) -> None:
    """The headline beside the paper's, the controls, and which claims hold."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title="In % of test images", title_justify="left")
    for heading in ("", *(f"S = {column.n_clusters}" for column in result.columns), "paper, S = 9"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    paper_gain = points(result.paper.ensemble - result.paper.base)
    for title, values, paper in (
        ("base", [mean_share(c.base_within) for c in result.columns], hundredths(result.paper.base)),
        ("ensemble", [mean_share(c.ensemble) for c in result.columns], hundredths(result.paper.ensemble)),
        ("gain, points", [gain(c.gain) for c in result.columns], paper_gain),
        ("router", [mean_share(c.router) for c in result.columns], ""),
        ("restricted base", [mean_share(c.restricted) for c in result.columns], ""),
        ("specialist", [mean_share(c.specialist) for c in result.columns], ""),
        ("passes", [decimal(c.passes.mean) for c in result.columns], ""),
    ):
        table.add_row(title, *values, paper)
    print_figures(console, table)
    if result.table:
        print_seeds(console, result.table)
    for claim, found in result.claims:
        console.print(f"- {claim}? {found}", highlight=False)
    for note in result.notes:
        console.print(f"- {note}", highlight=False)
