"""The training loop, of base and specialists alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from coterie.arrays import IntArray
from coterie.backbones.parts import WHOLE, TrainedPart, within
from coterie.backbones.probe import evaluating
from coterie.config import SpecialistSettings, TrainingSettings
from coterie.data.batches import Batches
from coterie.data.splits import Split
from coterie.errors import TrainingError
from coterie.inputs import Preprocessing
from coterie.measures.epochs import EpochRecord
from coterie.progress import Progress
from coterie.training.averaging import RunningAverage
from coterie.training.checkpoint import State, capture, restore
from coterie.training.depthwise import depthwise_gradients
from coterie.training.distilling import Teacher
from coterie.training.hooks import NO_HOOK, TrainingHook
from coterie.training.mixing import Loss, mix
from coterie.training.passes import compute_logits
from coterie.training.stopping import NEVER_STOP, EarlyStopping, Stopping
from coterie.training.together import together

# Losses are read back from the device in blocks: reading each one would stall a GPU.
STEPS_PER_READ = 10
NO_STEPS = np.zeros((0, 2), dtype=np.float32)
# Between the dropout streams of neighbouring seeds: more than the steps of a training, which are added to it.
SEED_STRIDE = 1_000_003
# Between the streams of ranks: beyond every seed and step.
RANK_STRIDE = 2**53


def make_optimizer(network: nn.Module, settings: TrainingSettings, head: Sequence[str] = ()) -> Optimizer:
    """SGD with Nesterov momentum or AdamW; weight decay only on weights of two or more dimensions.

    Args:
        network: whose parameters are trained.
        settings: of the training.
        head: paths of the head, which has a learning rate of its own.
    """
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    of_head = {name for name in named if settings.head_rate != 1 and within(name, head)}
    groups = _decayed([named[name] for name in named if name not in of_head], settings.weight_decay)
    if of_head:
        rate = settings.learning_rate * settings.head_rate
        groups += [{**group, "lr": rate} for group in _decayed([named[n] for n in of_head], settings.weight_decay)]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    nesterov = settings.momentum > 0
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=nesterov, fused=True)


def _decayed(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    # Norms' scales and biases have one dimension. Decay would pull them to 0, and they are too few to overfit.
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def make_schedule(optimizer: Optimizer, settings: TrainingSettings, steps: int) -> LRScheduler:
    """The learning rate over ``steps`` steps: one-cycle or cosine, both down to (almost) 0."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    # Only the learning rate goes round: momentum is a setting, and means the same with both schedules.
    rates = [group["lr"] for group in optimizer.param_groups]
    share = settings.warmup_share
    if share * steps == 1:  # torch divides by the number of steps that the rate rises after the first
        share *= 1 + 1e-9
    return OneCycleLR(optimizer, rates, total_steps=steps, pct_start=share, cycle_momentum=False)


def train(
    fabric: Fabric,
    network: nn.Module,
    batches: Batches,
    settings: TrainingSettings,
    progress: Progress,
    *,
    part: TrainedPart = WHOLE,
    hook: TrainingHook = NO_HOOK,
    stopping: Stopping = NEVER_STOP,
    loss: Loss | None = None,
    teacher: Teacher | None = None,
    compile_network: bool = False,
) -> tuple[EpochRecord, ...]:
    """Train a network, or a part of it, in place; it ends on the fabric's device, in evaluation mode.

    Args:
        fabric: device and precision.
        network: inputs (B, ...) to logits (B, C).
        batches: of the samples; they decide the seed.
        settings: optimiser, schedule, number of epochs.
        progress: progress callback.
        part: what of the network is trained.
        hook: gives the state to start from (on a CPU: to the same bits), and is called after each step and epoch.
        stopping: may end the training after any epoch.
        loss: logits (B, C) and labels (B,) to a scalar; default: cross-entropy with the settings' label smoothing.
        teacher: whose answers about the same inputs are learned beside the labels.
        compile_network: train by ``torch.compile``.

    Raises:
        TrainingError: the loss is NaN or infinite; names the step.
    """
    network.train().to(memory_format=torch.channels_last)
    part.prepare(network, batches.seed)
    loss = loss or smoothed_cross_entropy(settings)
    plain_optimizer = make_optimizer(network, settings, part.head)
    model, optimizer = fabric.setup(_runner(network, compile_network), plain_optimizer)
    schedule = make_schedule(plain_optimizer, settings, settings.epochs * len(batches))
    average = RunningAverage(network, settings.average_decay, warmup=settings.average_warmup)
    history, steps_K2 = _resume(hook.load(), network, plain_optimizer, schedule, stopping, average)
    meter = _Meter(progress, batches, len(history), steps_K2)
    if len(history) > settings.epochs or len(steps_K2) > len(batches) or meter.step != schedule.last_epoch:
        raise _unfit(f"{len(history)} epochs and {len(steps_K2)} steps, where the schedule is at {schedule.last_epoch}")

    def captured() -> State:
        own = capture(network, plain_optimizer, schedule, history, meter.steps_K2())
        return own | stopping.state() | average.state()

    gradients = nullcontext() if compile_network else depthwise_gradients(fabric, network)
    with together(fabric), gradients, _forked_random_state(fabric.device):
        while len(history) < settings.epochs and not stopping.done:
            epoch = len(history)
            for inputs, labels in batches.epoch(epoch, fabric.device, first=meter.step - epoch * len(batches)):
                _seed_dropout(batches.seed, meter.step, fabric.global_rank)
                mixed, pair_loss = mix(inputs, labels, settings, loss)
                if teacher is not None:
                    pair_loss = teacher.loss(mixed, pair_loss)
                meter.add(fabric, *training_step(fabric, model, optimizer, settings, pair_loss, mixed, labels))
                schedule.step()
                average.step(network)
                hook.step(captured)
            history.append(meter.close())
            stopping.epoch(network)
            hook.epoch(history, captured)
    stopping.finish(network)
    average.finish(network)  # where both are asked for, the average is the result
    network.eval()
    return tuple(EpochRecord(*means) for means in history)


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    # At each step, so that a step that is done again, after a stop, draws the same.
    torch.manual_seed(seed * SEED_STRIDE + step + rank * RANK_STRIDE)


def _runner(network: nn.Module, compile_network: bool) -> Any:
    """The network or its compiled form, which shares its weights; a state is kept by the names of the network."""
    return torch.compile(network) if compile_network else network


def _forked_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Leave the process's random state as it was: the loop sets seeds at each step."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _resume(
    state: State | None,
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    stopping: Stopping,
    average: RunningAverage,
) -> tuple[list[tuple[float, float]], NDArray[np.float32]]:
    """The history so far, and loss and accuracy of the steps of the epoch under way: none without a state."""
    if state is None:
        return [], NO_STEPS
    try:
        stopping.restore(state, network)
        average.restore(state)
        return restore(state, network, optimizer, schedule)
    except ValueError as error:
        raise _unfit(str(error)) from None


def _unfit(why: str) -> TrainingError:
    # Not begun anew without a word: it may be hours of work, which another version or a backup can go on with.
    return TrainingError(
        f"the state of this training, below the run's folder checkpoint, is not one that it can go on from: {why}. "
        "Delete that folder, and the same command begins this training anew"
    )


def smoothed_cross_entropy(settings: TrainingSettings) -> Loss:
    """Mean cross-entropy in nats, with the settings' label smoothing."""
    return partial(F.cross_entropy, label_smoothing=settings.label_smoothing)


def training_step(
    fabric: Fabric, model: Any, optimizer: Any, settings: TrainingSettings, loss: Loss, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One step on one batch; returns loss and accuracy, still on the device."""
    logits = model(inputs)
    loss_value = loss(logits, labels)
    optimizer.zero_grad()
    fabric.backward(loss_value)
    if settings.clip_norm is not None:
        # A gradient that is not finite is no error here: the meter finds the loss and names the step.
        fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    optimizer.step()
    return loss_value.detach(), (logits.detach().argmax(1) == labels).float().mean()


def early_stopping(
    fabric: Fabric,
    specialist: nn.Module,
    classes: IntArray,
    settings: SpecialistSettings,
    validation: Split | None,
    preprocessing: Preprocessing,
) -> Stopping:
    """Stopping by the loss on the validation samples of a specialist's classes; NEVER_STOP where there are none, or
    where the settings name no patience.

    Args:
        fabric: device and precision.
        specialist: the whole network, of which a tail alone may be what is trained.
        classes: of the specialist, in the order of its head's rows.
        settings: its patience.
        validation: all validation samples.
        preprocessing: from sample to input.
    """
    if settings.patience is None or validation is None or not np.isin(validation.labels_N, classes).any():
        return NEVER_STOP
    own = validation.of_classes(classes)

    def loss_of(_: nn.Module) -> float:
        with evaluating(specialist):
            logits_NC = torch.from_numpy(compute_logits(fabric, specialist, own.samples, preprocessing))
        # Plain, whatever the training's loss: smoothed or distilled, a loss is a means; this is what is wanted.
        return float(F.cross_entropy(logits_NC, own.labels_N))

    return EarlyStopping(settings.patience, loss_of)


class _Meter:
    """Counts steps, and gathers their loss and accuracy on the device, to be read in blocks."""

    def __init__(
        self, progress: Progress, batches: Batches, epochs_done: int, steps_K2: NDArray[np.float32] = NO_STEPS
    ) -> None:
        self.progress = progress
        self.batch_size = batches.batch_size
        self.step = epochs_done * len(batches) + len(steps_K2)
        self.unread: list[Tensor] = []
        self.read = [steps_K2]
        if self.step:
            progress.advance(self.step)

    def add(self, fabric: Fabric, loss: Tensor, accuracy: Tensor) -> None:
        self.step += 1
        # The mean over ranks, each of which has an equal part of the batch.
        figures = torch.stack((loss.float(), accuracy))
        self.unread.append(cast("Tensor", fabric.all_reduce(figures, reduce_op="mean")))
        if len(self.unread) == STEPS_PER_READ:
            self._flush()

    def steps_K2(self) -> NDArray[np.float32]:
        """Loss and accuracy of the epoch's steps so far."""
        self._flush()
        return np.concatenate(self.read)

    def close(self) -> tuple[float, float]:
        """Their means; the next epoch begins."""
        # In float64: a float32 sum of an epoch's steps would lose digits.
        loss, accuracy = self.steps_K2().mean(axis=0, dtype=np.float64)
        self.read = [NO_STEPS]
        return float(loss), float(accuracy)

    def _flush(self) -> None:
        if not self.unread:
            return
        block = torch.stack(self.unread).cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(block[:, 0]))
        if bad.size:
            step = self.step - len(block) + int(bad[0]) + 1
            raise TrainingError(
                f"the loss became {block[bad[0], 0]} at step {step}. Try a lower "
                "learning_rate, clip_norm = 1, a longer warmup_share, or precision = fp32"
            )
        self.read.append(block)
        loss, accuracy = block.mean(axis=0)
        self.progress.advance(len(block), len(block) * self.batch_size, float(loss), float(accuracy))
        self.unread.clear()
