"""What is asked of a mutated run, and what answers are allowed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.robustness.fuzzing.targets import DATA, RUN, SETTINGS, TARGETS, WORDS, Target

if TYPE_CHECKING:
    from coterie.inputs import Preprocessing

# Exit codes that the command line documents: an answer; an error that coterie names, and a limit that is reached.
ANSWERED, REFUSED = (0,), (1, 75)
# Statuses of a server: an answer, and what it names as the request's fault.
SERVED = (200, 400, 413, 422)


class WrongAnswerError(Exception):
    """An answer that should have been refused."""


@dataclass(frozen=True)
class Command:
    """One way to use a run.

    Attributes:
        run: for a target: returns an exit code, or raises.
        dear: whether it takes much longer than loading a run.
        reads_data: whether it reads the data that the settings of a run name, wherever that is.
    """

    run: Callable[[Target], int]
    dear: bool = False
    reads_data: bool = False


def _line(*arguments: str) -> Callable[[Target], int]:
    """A command line; SOURCE stands for the target's data, MORE for that of cluster 0, INPUTS for its new samples."""

    def run(target: Target) -> int:
        from coterie.cli import main

        given = {"SOURCE": (target.source,), "MORE": (target.more,), "INPUTS": target.inputs}
        return main([word for argument in arguments for word in given.get(argument, (argument,))])

    return run


def _ask(target: Target) -> int:
    """The library: load, predict, explain. A probability that is none is a wrong answer."""
    import coterie
    from coterie.data import read_new

    ensemble = coterie.load(Path(RUN))
    samples = read_new(ensemble.preprocessing, target.inputs).samples
    proba_NC = ensemble.predict_proba(samples)
    if not (np.isfinite(proba_NC).all() and np.allclose(proba_NC.sum(axis=1), 1, atol=1e-4) and proba_NC.min() >= 0):
        raise WrongAnswerError(f"probabilities {proba_NC[0]}")
    ensemble.explain(samples)
    return 0


def _serve(target: Target) -> int:
    """The server, in this process: what it says to a good request, and to two that are none."""
    from fastapi.testclient import TestClient

    import coterie
    from coterie.serve.app import make_app

    ensemble = coterie.load(Path(RUN))
    good = _body(ensemble.preprocessing, target)
    (key,) = good
    bodies: tuple[dict[str, list[Any]], ...] = (good, {key: [None]}, {key: []})
    with TestClient(make_app(ensemble)) as client:
        answers = [client.post("/predict", json=body) for body in bodies]
    for answer in answers:
        if answer.status_code not in SERVED:
            raise WrongAnswerError(f"status {answer.status_code}: {answer.text[:200]}")
    for found in answers[0].json().get("predictions", ()):
        if not 0 <= found["probability"] <= 1:
            raise WrongAnswerError(f"probability {found['probability']}")
    return ANSWERED[0] if answers[0].status_code == SERVED[0] else REFUSED[0]


def _body(preprocessing: Preprocessing, target: Target) -> dict[str, list[Any]]:
    from coterie.inputs import FeaturePreprocessing, TablePreprocessing

    match preprocessing:
        case FeaturePreprocessing():
            return {"features": [[0.5] * preprocessing.width] * 2}
        case TablePreprocessing():
            return {"rows": [dict.fromkeys([*preprocessing.numeric, *preprocessing.categorical])] * 2}
        case _ if preprocessing.modality == "text":
            return {"texts": [" ".join(WORDS), ""]}
        case _:
            return {"images": [base64.b64encode(Path(name).read_bytes()).decode() for name in target.inputs]}


_FAST = ("--clusters", "2", "--out", "out")
_PICTURE = ("--map", "pca", "--stability", "no")
COMMANDS = {
    "info": Command(_line("info", RUN)),
    "load, predict, explain": Command(_ask),
    "predict": Command(_line("predict", RUN, "INPUTS")),
    "predict as JSON": Command(_line("predict", RUN, "INPUTS", "--format", "jsonl", "--skip-broken")),
    "evaluate": Command(_line("evaluate", RUN)),
    "evaluate as JSON": Command(_line("evaluate", RUN, "--split", "validation", "--json")),
    "report": Command(_line("report", RUN)),
    "tune to a rule": Command(_line("tune", RUN, "--combiner", "hard", "--score", "margin", "--threshold", "0.2")),
    "repair": Command(_line("repair", RUN)),
    "tune": Command(_line("tune", RUN, "--passes", "1.5"), dear=True),
    "evaluate on a source": Command(
        _line("evaluate", RUN, "--source", "SOURCE", "--split", "all"), dear=True, reads_data=True
    ),
    "compare": Command(_line("compare", RUN, "--no-train", "--allow-shared"), dear=True, reads_data=True),
    "compare with groups": Command(
        _line("compare", RUN, "--no-train", "--allow-shared", "--superclasses", f"{DATA}/groups.txt"),
        dear=True,
        reads_data=True,
    ),
    "refit": Command(
        _line("refit", RUN, "--cluster", "0", "--source", "MORE", "--out", "new"), dear=True, reads_data=True
    ),
    "plan from the base": Command(_line("fit", "--base", RUN, "--out", "new", "--dry-run"), dear=True, reads_data=True),
    "fit that goes on": Command(
        _line("fit", "--config", SETTINGS, "--out", RUN, "--workers", "1"), dear=True, reads_data=True
    ),
    "headroom": Command(_line("headroom", RUN, *_FAST, "--methods", "average"), dear=True, reads_data=True),
    "partition": Command(_line("partition", RUN, *_FAST, *_PICTURE), dear=True, reads_data=True),
    "serve": Command(_serve, dear=True),
    "export": Command(_line("export", RUN, "out/new", "--to", "torch"), dear=True, reads_data=True),
    "distil": Command(
        _line("distil", RUN, "--out", "new", "--epochs", "1", "--no-controls"), dear=True, reads_data=True
    ),
    "plan of settings": Command(  # without a source they draw images of their own, which takes seconds
        _line("fit", "--config", SETTINGS, "--data.source", "SOURCE", "--out", "new", "--dry-run")
    ),
    "plan": Command(_line("fit", "--config", SETTINGS, "--out", "new", "--dry-run"), reads_data=True),
    "plan with weights": Command(
        _line("fit", "--config", SETTINGS, "--weights", f"{DATA}/weights.pt", "--out", "new", "--dry-run")
    ),
    "plan with safetensors": Command(
        _line("fit", "--config", SETTINGS, "--weights", f"{DATA}/weights.safetensors", "--out", "new", "--dry-run")
    ),
    "predict rows": Command(_line("predict", RUN, f"{DATA}/table.csv")),
    "predict lines": Command(_line("predict", RUN, f"{DATA}/new.jsonl", "--format", "jsonl")),
    "predict texts": Command(_line("predict", RUN, f"{DATA}/texts.csv")),
    "predict features": Command(_line("predict", RUN, f"{DATA}/features.npz")),
    "plan from lines": Command(
        _line(
            *("fit", "--data.source", f"jsonl:{DATA}/new.jsonl", "--data.label", "label"),
            *("--backbone", "table-mlp-8", "--out", "new", "--dry-run"),
        )
    ),
    "evaluate on lines": Command(
        _line("evaluate", RUN, "--source", f"jsonl:{DATA}/new.jsonl", "--split", "all"), reads_data=True
    ),
    "evaluate on images": Command(
        _line("evaluate", RUN, "--source", f"folder:{DATA}/images", "--split", "all"), reads_data=True
    ),
    "compare logits": Command(_line("compare", "--logits", f"{DATA}/logits.npz")),
    "headroom of logits": Command(_line("headroom", f"{DATA}/logits.npz", *_FAST, "--methods", "average")),
    "headroom of tensors": Command(_line("headroom", f"{DATA}/logits.safetensors", *_FAST, "--methods", "average")),
    "partition logits": Command(_line("partition", f"{DATA}/logits.npz", *_FAST, *_PICTURE), dear=True),
    "partition vectors": Command(
        _line("partition", f"{DATA}/features.npz", "--array", "features", *_FAST, *_PICTURE), dear=True
    ),
    **{
        f"partition with names from {kind}": Command(
            _line("partition", RUN, *_FAST, *_PICTURE, "--names", place, "--groups", place), dear=True
        )
        for kind, place in (
            ("lines", f"{DATA}/names.txt"),
            ("JSON", f"{DATA}/names.json"),
            ("a column", f"{DATA}/names.csv:name"),
        )
    },
}


def judged(name: str, target: str) -> str:
    """Runs a command: "answered" or "refused".

    Raises:
        BaseException: whatever coterie did not name.
    """
    from coterie.errors import CoterieError

    try:
        code = COMMANDS[name].run(TARGETS[target])
    except CoterieError:
        return "refused"
    if code not in (*ANSWERED, *REFUSED):
        raise WrongAnswerError(f"exit code {code}")
    return "answered" if code in ANSWERED else "refused"
