"""The command line: a face on settings and pipeline, without logic of its own. Torch is imported when it is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import coterie
from coterie.config import FitSettings, PartitionMethod
from coterie.errors import CoterieError, SettingsError

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the folder of a run")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for an error that coterie names, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments in (["--version"], ["-V"]):
        print(f"coterie {coterie.__version__}")  # noqa: T201 - the answer
        return 0
    try:
        _commands(_settings_file(arguments)).cli(
            prog="coterie",
            description="Specialists for the classes your classifier confuses, and an honest account of what they buy. "
            "`coterie fit --out RUN` runs everything on an embedded data set; `coterie COMMAND --help` tells more.",
            args=arguments,
            sort_subcommands=False,
        )
    except CoterieError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(  # noqa: T201
            "\ninterrupted: finished stages are kept in the run folder; the same command goes on with them",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # `coterie predict ... | head` closed the pipe
        sys.stderr.close()
        return 0
    return 0


def _settings_file(arguments: Sequence[str]) -> FitSettings:
    """The settings in the file that --config names: the options' defaults."""
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--config":
            if not value and position + 1 == len(arguments):
                raise SettingsError("--config needs the path of a YAML file")
            return FitSettings.from_yaml(Path(value or arguments[position + 1]))
    return FitSettings()


def _commands(defaults: FitSettings) -> tyro.extras.SubcommandApp:
    app = tyro.extras.SubcommandApp()

    def fit(
        out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="folder for the run; an unfinished one goes on")],
        settings: Annotated[FitSettings, tyro.conf.arg(name="", help="")] = defaults,
        config: Annotated[
            Path | None, tyro.conf.arg(metavar="FILE", help="YAML file of settings; options go over it")
        ] = None,
        dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print the plan and stop")] = False,
    ) -> None:
        """Train base and specialists, judge them on test data, and write a report."""
        del config  # read before the options were: it gives their defaults
        _fit(out, settings, dry_run)

    app.command(fit)
    for command in (evaluate, predict, partition, report, info):
        app.command(command)
    return app


def _fit(out: Path, settings: FitSettings, dry_run: bool) -> None:
    from coterie import artifact, pipeline, terminal
    from coterie.data import load
    from coterie.plan import make_plan
    from coterie.run_folder import Run

    console = _console()
    run = Run.create_or_resume(out, settings)
    if run.manifest.complete:
        console.print(f"{out} is finished; nothing to do.", highlight=False)
    else:
        splits = load(settings.data, settings.seed)
        for name in splits.skipped:
            console.print(f"skipped, cannot be decoded: {name}", highlight=False, markup=False)
        terminal.print_plan(console, make_plan(settings, splits), splits.about)
        if dry_run:
            return
        with terminal.make_progress(console) as progress:
            pipeline.fit(settings, out, splits=splits, progress=progress)
        run = Run.open(out)
    terminal.print_report(console, artifact.read_reports(run)["test"], artifact.labels_of(run.manifest).names)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def evaluate(
    run: RunFolder,
    source: Annotated[
        str | None, tyro.conf.arg(help="labelled images to judge on, as fit's --data.source; the run's own if left out")
    ] = None,
    split: Annotated[Literal["validation", "test"], tyro.conf.arg(help="which split")] = "test",
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json", help="print JSON")] = False,
) -> None:
    """Judge a run: on its own test data from stored logits, or on other labelled images."""
    from coterie import artifact, terminal
    from coterie.evaluation import evaluate as judge
    from coterie.run_folder import Run

    folder = Run.open_complete(run)
    outputs = artifact.read_outputs(folder, split) if source is None else artifact.outputs_on(folder, source, split)
    manifest = folder.manifest
    result = judge(
        outputs,
        artifact.partition_of(manifest),
        artifact.gate_of(manifest),
        artifact.gate_record(manifest).combiner,
    )
    if as_json:
        print(json.dumps(result.to_values(), indent=2))  # noqa: T201 - the answer
    else:
        terminal.print_report(_console(), result, artifact.labels_of(manifest).names)


def predict(
    run: RunFolder,
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE", help="image files")],
    format: Annotated[Literal["table", "jsonl"], tyro.conf.arg(help="a table, or a JSON object a line")] = "table",  # noqa: A002 - an option's name
    top: Annotated[int, tyro.conf.arg(help="classes listed for base and specialist")] = 3,
    skip_broken: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="leave out files that are not images, naming them")
    ] = False,
) -> None:
    """Classify image files: class, probability, whether routed and where, and what the base had said."""
    from coterie import artifact
    from coterie.data import read_images

    if top < 1:
        raise SettingsError(f"--top {top}: must be at least 1")
    ensemble = artifact.load_ensemble(run)
    images, kept, skipped = read_images(files, ensemble.preprocessing, skip_broken=skip_broken)
    for name in skipped:
        print(f"skipped: {name}", file=sys.stderr)  # noqa: T201
    explanations = ensemble.explain(images, top)
    rows = [(str(path), explanation) for path, explanation in zip(kept, explanations, strict=True)]
    if format == "jsonl":
        for name, explanation in rows:
            print(json.dumps({"file": name, **vars(explanation)}, ensure_ascii=False))  # noqa: T201 - the answer
    else:
        from coterie.terminal import print_predictions

        print_predictions(_console(), rows)


def partition(
    source: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="RUN|EMBEDDINGS", help="a run folder, or a .npy, .npz or .safetensors matrix, a row a class"
        ),
    ],
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="folder for partition.json and partition.html")],
    clusters: Annotated[
        int | None, tyro.conf.arg(metavar="S", help="number of clusters; chosen, with its curve, if left out")
    ] = None,
    method: Annotated[
        PartitionMethod, tyro.conf.arg(help="as fit's --partition.method; given: take --groups")
    ] = "spectral",
    max_size: Annotated[int | None, tyro.conf.arg(help="balanced and confusion: classes per cluster at most")] = None,
    names: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", help="class names: a line each, a .json list, or FILE.csv:COLUMN")
    ] = None,
    groups: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", help="a given group of each class, to compare with; as --names")
    ] = None,
    array: Annotated[str | None, tyro.conf.arg(help="name of the matrix, where a file holds several")] = None,
    embedding: Annotated[
        Literal["head", "head+bias", "confusion", "head+confusion"], tyro.conf.arg(help="a run's label embedding")
    ] = "head",
    map: Annotated[  # noqa: A002 - an option's name
        Literal["auto", "umap", "tsne", "pca"], tyro.conf.arg(help="how the map is drawn; auto: the best installed")
    ] = "auto",
    stability: Annotated[
        Literal["auto", "yes", "no"],
        tyro.conf.arg(help="over seeds and bootstrap, ten more partitions; auto: up to 5,000 classes"),
    ] = "auto",
    seed: Annotated[int, tyro.conf.arg(help="the same seed gives the same partition")] = 0,
) -> None:
    """Group classes by their label embeddings, say how good the groups are, and draw them."""
    from coterie import terminal
    from coterie.partition_study import StudySettings, read_labels, study, write_study

    console = _console()
    data = read_labels(source, array=array, embedding=embedding, names=names, groups=groups)
    settings = StudySettings(method, clusters, max_size, seed, map, stability)
    with terminal.make_progress(console) as progress:
        result = study(data, settings, progress)
        write_study(result, out, progress)
    terminal.print_partition(console, result)
    console.print(f"page: {out / 'partition.html'}", highlight=False, soft_wrap=True)


def report(run: RunFolder) -> None:
    """Write a run's report anew, and print where it is."""
    from datetime import UTC, datetime

    from coterie import artifact
    from coterie.run_folder import Run

    artifact.write_report(Run.open_complete(run), datetime.now(UTC).date().isoformat())
    print(run / "report.html")  # noqa: T201 - the answer


def info(run: RunFolder) -> None:
    """Say what a run folder holds, finished or not."""
    from coterie.run_folder import Run
    from coterie.terminal import print_info

    folder = Run.open(run)
    print_info(_console(), str(run), folder.manifest, sum(record.bytes for record in folder.manifest.files.values()))


def _console() -> Any:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())
