"""An ensemble, and its base alone, judged by torch-uncertainty's classification routine.

The ensemble stands where any module does: it takes a batch of inputs and returns values whose softmax is its
probabilities. Needs ``pip install torch-uncertainty lightning``; call it with a run's folder, and have the data of that
run where it was.
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torch_uncertainty import TUTrainer
from torch_uncertainty.routines import ClassificationRoutine

import coterie
from coterie.data.splits import Split
from coterie.inputs import Preprocessing
from coterie.pipeline.prepare import load_splits
from coterie.run.folder import Run


class Inputs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples as the networks take them, with their labels."""

    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
        self.split = split
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.preprocessing(self.split.samples.read(torch.tensor([row])))[0], self.split.labels_N[row]


def main(folder: str) -> None:
    """Print what the routine finds on the run's test samples."""
    run, ensemble = Run.open_complete(Path(folder)), coterie.load(folder)
    test = DataLoader(Inputs(load_splits(run.settings, run).test, ensemble.preprocessing), batch_size=256)
    for model in (ensemble.base, ensemble):
        routine = ClassificationRoutine(model=model, num_classes=len(ensemble.labels), loss=None)
        print(type(model).__name__)
        TUTrainer(accelerator="cpu", logger=False, enable_model_summary=False).test(routine, test)


if __name__ == "__main__":
    main(*sys.argv[1:])
