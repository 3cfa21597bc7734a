"""What the stages of a run share, and the training of whole networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from lightning_fabric import Fabric
from torch import nn

from coterie.arrays import FloatArray
from coterie.backbones.adapters import weights_of
from coterie.config import EngineSettings, FitSettings, TrainingSettings
from coterie.data.splits import Split, Splits
from coterie.pipeline.prepare import Prepared, training_batches_of
from coterie.pipeline.training_task import Trained
from coterie.progress import Progress
from coterie.run.contents import HISTORY_FILE, Kind, read_arrays, read_history, write_history
from coterie.run.folder import Run
from coterie.run.names import CHECKPOINT_FOLDER, stage_logits_folder
from coterie.system.limits import Limits
from coterie.system.ranks import Ranks
from coterie.training.checkpoint import CheckpointFile
from coterie.training.distilling import Teacher
from coterie.training.hooks import StageHook, TrainingHook
from coterie.training.loop import train
from coterie.training.passes import compute_logits, n_batches
from coterie.training.together import RankHook
from coterie.training.tracking import Trackers
from coterie.vocabulary import SplitName

PreparedT = TypeVar("PreparedT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, eq=False)
class Job:
    """What every stage needs: what was prepared, where results go, who does the work, and whom to tell.

    ``asked``: the gain in accuracy, as a share of 1, below whose forecast specialists are not trained; None: they are.
    """

    prepared: Prepared
    run: Run
    progress: Progress
    engine: EngineSettings = field(default_factory=EngineSettings)
    limits: Limits = field(default_factory=Limits)
    trackers: Trackers = field(default_factory=Trackers)
    asked: float | None = None

    @property
    def settings(self) -> FitSettings:
        """The settings of the run."""
        return self.prepared.settings

    @property
    def splits(self) -> Splits:
        """The data of the run."""
        return self.prepared.splits

    @property
    def fabric(self) -> Fabric:
        """Device and precision."""
        return self.prepared.fabric

    def checkpoint(self, file: str) -> CheckpointFile:
        """The state of the training that will leave ``file``."""
        return CheckpointFile(self.run.place(f"{CHECKPOINT_FOLDER}/{file}"))

    def keep(self, file: str, title: str, trained: Trained) -> None:
        """Write what a training gave, and delete its state."""
        known = read_history(self.run) if self.run.has(HISTORY_FILE) else {}
        write_history(self.run, {**known, title: trained.history})
        # History first: weights without one would count as a finished training whose curve is lost.
        self.run.write_tensors(file, trained.weights, seconds={**self.run.manifest.seconds, file: trained.seconds})
        self.checkpoint(file).delete()
        self.trackers.epochs(title, [(record.loss, record.accuracy) for record in trained.history])

    def train_network(
        self,
        title: str,
        file: str,
        network: nn.Module,
        training: TrainingSettings,
        seed: int,
        fabric: Fabric | None = None,
        teacher: Teacher | None = None,
        watch: Callable[[TrainingHook], TrainingHook] = lambda hook: hook,
    ) -> nn.Module:
        """Train a whole network on all training samples and keep its weights in ``file``; read them where an earlier
        start did.

        Args:
            title: of the training.
            file: in the run folder.
            network: to train, in place.
            training: its settings.
            seed: of its batches.
            fabric: of several ranks, which take part. Default: this process alone.
            teacher: as for ``train``.
            watch: puts a further hook around the one that keeps the state.
        """
        fabric = fabric or self.fabric
        if self.run.has(file):
            self.run.read_weights(file, network)
            return network.to(self.fabric.device).eval()
        self.limits.check()
        batches = training_batches_of(self.prepared, self.splits.train, training, seed)
        batches.share_out(Ranks(fabric.global_rank, fabric.world_size))
        hook = StageHook(self.checkpoint(file), self.settings.checkpoint_every, title, self.limits, self.trackers)
        self.progress.stage(title, training.epochs * len(batches))
        history = train(
            fabric,
            network,
            batches,
            training,
            self.progress,
            part=self.prepared.base.whole,
            hook=RankHook(fabric, watch(hook)),
            teacher=teacher,
            compile_network=self.settings.hardware.compile,
        )
        self.keep(file, title, Trained(weights_of(network), history, hook.seconds))
        return network

    def logits(
        self, file: str, network: nn.Module, split: SplitName, n_outputs: int, title: str | None = None
    ) -> FloatArray:
        """The ``n_outputs`` logits of a split by the network whose weights are in ``file``; those that an earlier start
        computed. Progress is told of each batch, of a stage of this title, or of the caller's.
        """
        kept = f"{stage_logits_folder(split)}{file}"
        data: Split = getattr(self.splits, split)
        form = self.splits.preprocessing
        if self.run.has(kept):
            sizes = {"N": len(data), "K": n_outputs, "C": len(self.splits.labels)}
            kinds: dict[str, tuple[Kind, str]] = {"logits_NC": ("numbers", "NK"), "label_N": ("labels", "N")}
            if title is None:
                self.progress.advance(n_batches(data.samples, form))
            return read_arrays(self.run, kept, kinds, sizes)["logits_NC"]
        if title is not None:
            self.progress.stage(title, n_batches(data.samples, form))
        logits_NC = compute_logits(self.fabric, network, data.samples, form, progress=self.progress)
        self.run.write_arrays(kept, {"logits_NC": logits_NC, "label_N": data.labels_N.numpy()})
        # A limit that is reached here loses nothing: the logits are kept.
        self.limits.check()
        return logits_NC


def unless_complete(
    run: Run,
    prepare: Callable[[], PreparedT],
    work: Callable[[PreparedT], ResultT],
    load: Callable[[], ResultT],
) -> ResultT:
    """Do the work of a run, or load its result where it is complete.

    Args:
        run: as it was opened.
        prepare: decides and refuses, before the folder is taken.
        work: writes the run.
        load: reads the result of the complete run.

    Raises:
        ArtifactError: another process writes to the run; or it is complete, and files are missing or damaged.
    """
    if run.complete:
        run.check_whole()
        return load()
    run.refuse_if_held()  # before the data is read, which may take minutes
    prepared = prepare()
    with run.writing():
        # Another process may have completed it while the data was read.
        return load() if run.complete else work(prepared)
