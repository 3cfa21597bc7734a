"""An ensemble as files of graphs: one with everything in it, or one for each network."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coterie.arrays import FloatArray
from coterie.data.pieces import BREAK
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.export.graphs import graphs_of
from coterie.export.targets import INPUT, Runner, Target, WeightsName, program_of
from coterie.inputs import Samples, TokenPreprocessing
from coterie.run.folder import FinishedRun
from coterie.run.names import TOKENIZER_FILE
from coterie.run.values import members_of

# Of the manifest's record of the gate: what the rule is, without what it was chosen from.
RULE = (
    "score",
    "threshold",
    "gain",
    "combiner",
    "weights",
    "top",
    "temperature",
    "base_temperature",
    "specialist_temperatures",
)


class GraphFiles:
    """Graphs of a target.

    Args:
        target: which keeps weights so.
        weights: of the graphs.
        raw: have the preprocessing in them.
    """

    def __init__(self, target: Target, weights: WeightsName, *, raw: bool) -> None:
        self.target, self.weights, self.raw = target, weights, raw
        self.runners: dict[str, Runner] = {}

    def take(self, run: FinishedRun, ensemble: SpecialistEnsemble) -> None:
        """Any ensemble will do."""
        self.run, self.ensemble = run, ensemble

    def write(self, folder: Path, samples: Samples, head: dict[str, Any]) -> dict[str, Any]:
        """Graphs, with the description inside each, and the tokenizer where there is one."""
        form = self.ensemble.preprocessing
        example = samples.read(torch.zeros(2, dtype=torch.int64)) if self.raw else form.example()
        graphs = graphs_of(self.ensemble, form if self.raw else None)
        if self.weights == "fp16":  # copies: what they are compared with stays as it is
            graphs = {name: copy.deepcopy(graph).half() for name, graph in graphs.items()}
        files = {name: f"{name}{self.target.suffix}" for name in graphs}
        description = {**head, **self._described(example), "files": files}
        notes = {"coterie": json.dumps(description)}
        for name, graph in graphs.items():
            program = program_of(name, graph, example, any_length=form.shape == (-1,))
            self.target.write(program, graph.outputs, notes, folder / files[name])
            self.runners[name] = self.target.open(folder / files[name])
        if isinstance(form, TokenPreprocessing):
            (folder / TOKENIZER_FILE).write_text(form.tokenizer, encoding="utf-8")
        return description

    def answers(self, samples: Samples) -> FloatArray:
        """By the graphs; where the rule is in none of them, by the arrays-only code."""
        form = self.ensemble.preprocessing
        batches = map(samples.read, torch.arange(len(samples)).split(form.at_once))
        return np.concatenate([self._of_batch(batch if self.raw else form(batch)) for batch in batches])

    def _described(self, example: Tensor) -> dict[str, Any]:
        """What a program needs to know that runs the graphs."""
        values, ensemble = self.run.manifest.model_dump(mode="json"), self.ensemble
        axes: list[str | int] = ["samples", *example.shape[1:]]
        if ensemble.preprocessing.shape == (-1,):
            axes[1] = "length"
        texts = {"columns": list(ensemble.columns), "between": BREAK}  # of which others would make another text
        return {
            "input": {"name": INPUT, "dtype": str(example.dtype).removeprefix("torch."), "shape": axes},
            "preprocessing": values["data"]["input"],
            "preprocessing_in_graph": self.raw,
            **({"texts": texts} if ensemble.columns[1:] else {}),
            "clusters": members_of(ensemble.partition),
            "layers": list(ensemble.partition.layer_S),
            "rule": {name: values["gate"][name] for name in RULE},
        }

    def _of_batch(self, batch: Tensor) -> FloatArray:
        if "ensemble" in self.runners:
            proba_NC: FloatArray = self.runners["ensemble"](batch)[0]
            return proba_NC
        partition = self.ensemble.partition
        (base_NC,) = self.runners["base"](batch)
        question = self.ensemble.rule.ask(base_NC, partition)
        packed_NM = np.zeros((len(base_NC), len(partition.packed_class_M)), dtype=np.float32)
        for cluster in range(partition.n_clusters):
            if (runner := self.runners.get(f"specialist-{cluster}")) is not None:
                packed_NM[:, partition.columns(cluster)] = runner(batch)[0]
        return question.combine(packed_NM, question.asked(question.routed_N))
