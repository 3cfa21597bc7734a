"""The trained ensemble: a base, its specialists, and the rule that says whom to ask."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from typing_extensions import override

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.probe import describe_inputs
from coterie.config import HardwareSettings
from coterie.data.given import given_samples
from coterie.ensemble.answer import Plan, TensorQuestion, TensorRule
from coterie.ensemble.explanation import Decision, Explanation, explain
from coterie.ensemble.panel import Ask, Panel
from coterie.errors import InputError
from coterie.inputs import Preprocessing, Samples
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.progress import SILENT, Progress
from coterie.routing.evaluation import Outputs
from coterie.routing.rule import Rule
from coterie.system.units import how_many
from coterie.training.device import Computing, make_inference

AUTOMATIC = HardwareSettings()
# What belongs to the process and its device.
CONNECTED = {"computing", "process", "panel", "_on_device"}
NO_GRAPH = (
    "a SpecialistEnsemble cannot be traced, scripted, exported or mapped: which specialists run depends on the values "
    "in its inputs; its base and each of its specialists can"
)


class SpecialistEnsemble(nn.Module):
    """A base and one specialist per cluster: a module that can stand where the base stood.

    ``forward`` takes the base's inputs and returns (B, C) values whose softmax is the ensemble's probabilities; where
    nobody is asked, they are the base's logits, divided by its temperature. The other methods take arrays of images
    uint8 of shape (N, H, W) or (N, H, W, channels), of the size that the networks were trained on; PIL images, bytes
    that hold encoded images, paths of files and folders, or a list of these, which are cropped and scaled as the
    training images were; texts, tables and features as ``preprocessing.samples`` takes them, or paths of their files;
    or ``Samples``.
    Files are read in batches: however many there are, the pixels of one batch are in memory.

    It stays in evaluation mode, also inside a module that is trained. Threads may ask it at the same time, and get what
    one gets. ``copy.deepcopy``, ``pickle`` and ``multiprocessing`` take it; a process that was forked from the one that
    made it computes with one thread, and not on a GPU. What is kept for later is the run's folder, which, unlike a
    pickle, is loaded without running code from it.

    Args:
        base: the base network, trained.
        specialists: one network per cluster, or None for a cluster of one class; where there is a ``cut``, tails.
        partition: the clusters.
        labels: names of the classes.
        rule: which samples are routed, and how answers are combined.
        preprocessing: from sample to input.
        hardware: device and precision; its ``threads`` are for ``coterie.training.process.configure_process``.
        cut: the module of the base whose output the specialists take, so that what runs before it is run once; None:
            they take what the base takes.

    Examples:
        >>> from coterie.inputs import FeaturePreprocessing, Scale
        >>> from coterie.routing.gate import Gate
        >>> base = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))
        >>> ensemble = SpecialistEnsemble(
        ...     base,
        ...     [nn.Linear(2, 2), nn.Linear(2, 2)],
        ...     Partition.from_assignment([0, 0, 1, 1]),
        ...     LabelSpace(("cat", "dog", "car", "bus")),
        ...     Rule(Gate(threshold=0.0)),
        ...     FeaturePreprocessing(Scale(mean=(0.0, 0.0), std=(1.0, 1.0))),
        ... )
        >>> feature_NF = np.eye(2)
        >>> ensemble.predict_proba(feature_NF).sum(axis=1).round(4).tolist()
        [1.0, 1.0]
        >>> ensemble.decide(feature_NF).routed_N.tolist()
        [True, True]
        >>> len(ensemble.explain(feature_NF)[0].specialists)
        1
    """

    def __init__(
        self,
        base: nn.Module,
        specialists: list[nn.Module | None],
        partition: Partition,
        labels: LabelSpace,
        rule: Rule,
        preprocessing: Preprocessing,
        hardware: HardwareSettings = AUTOMATIC,
        cut: str | None = None,
    ) -> None:
        super().__init__()
        if len(specialists) != partition.n_clusters:
            raise InputError(f"{partition.n_clusters} clusters need as many specialists; got {len(specialists)}")
        self.base = base
        self.specialists = nn.ModuleDict(
            {str(cluster): network for cluster, network in enumerate(specialists) if network is not None}
        )
        self.partition = partition
        self.labels = labels
        self.rule = rule
        self.preprocessing = preprocessing
        self.hardware = hardware
        self.cut = cut
        # Of texts or image files in the tables that it was trained on; set where it is loaded of a run.
        self.columns: tuple[str, ...] = ()
        # From a name on the hub, and whether a new one is private, to its address; set where it is loaded of a run.
        self.push: Callable[[str, bool | None], str] | None = None
        self._connect()

    def _connect(self, index: int | None = None) -> None:
        """Choose the device, the one of this number where there are several, and put the networks there in evaluation
        mode.
        """
        self.computing: Computing = make_inference(self.hardware, self.preprocessing, index)
        self.process = os.getpid()
        asked = {int(name): network for name, network in self.specialists.items()}
        self.panel = Panel(self.computing, self.base, asked, self.preprocessing, self.cut)
        self._on_device: tuple[Rule | None, TensorRule | None] = (None, None)
        self.eval()

    @override
    def __getstate__(self) -> dict[str, Any]:
        """What copies and other processes get: they choose their device anew."""
        return {name: value for name, value in vars(self).items() if name not in CONNECTED}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch's own has no types
        self._connect()

    @override
    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, and warn where another one is asked for: nothing in an ensemble is trained, and a
        pass in training mode would change the base's running statistics for good.
        """
        if mode:
            warnings.warn("a SpecialistEnsemble stays in evaluation mode: its networks are trained", stacklevel=2)
        return super().train(False)

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to``, ``cuda``, ``half`` and their like do: move to another device, and nothing else."""
        result = fn(torch.empty(0))
        if result.dtype != torch.float32 or result.is_meta:
            raise InputError(
                f"an ensemble cannot be put into {result.dtype} on {result.device}: its weights stay float32 on a real "
                "device, and hardware.precision = 'bf16' has its networks computed in bf16"
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's own has no types
        if result.device != self.computing.device:
            self.hardware = self.hardware.model_copy(update={"accelerator": result.device.type})
            self._connect(result.device.index)
        return self

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """The base's inputs, such as (B, channels, H, W), to values (B, C) whose softmax is the probabilities.

        Where the inputs require a gradient, it flows through the networks that were asked, whom to ask being given.

        Raises:
            InputError: the base does not take such inputs; or they are no values, as under ``torch.jit.trace``,
                ``torch.export`` or ``torch.vmap``: whom it asks depends on the values.
        """
        if torch.compiler.is_compiling():  # of what numpy computes here nothing can be compiled
            return torch.compiler.disable(self._answer)(inputs)
        return self._answer(inputs)

    def _answer(self, inputs: Tensor) -> Tensor:
        self._check_process()
        wants_gradient = isinstance(inputs, Tensor) and inputs.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(not wants_gradient):
            question, plan, answer_V = self._ask(*self._ask_inputs(inputs))
            if not plan.asks:
                return question.logits_NC
            rule = self._tensor_rule()
            if answer_V is not None and question.cluster_NT.numel() == 1:
                return rule.combine_logits_of_one(question, plan, answer_V)
            return rule.combine_logits(question, rule.packed(question.logits_NC, plan, answer_V))

    def decide(self, raw: Any) -> Decision:
        """Probabilities and what led to them.

        Raises:
            DataError: a file is missing or broken, which is named.
            InputError: the samples are not such as the networks take, or a network answers with NaN or infinity.
        """
        self._check_process()
        chunks: list[tuple[np.ndarray, ...]] = []
        first = 0
        for samples in given_samples(self.preprocessing, raw, self.columns):
            chunks += (self._decide_chunk(samples, rows, first) for rows in self.panel.chunks(samples))
            first += len(samples)
        return Decision(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))

    def predict_proba(self, raw: Any) -> FloatArray:
        """Probabilities, float32 of shape (N, C); rows sum to 1."""
        return self.decide(raw).proba_NC

    @overload
    def predict(self, raw: Any, *, names: Literal[False] = False) -> IntArray: ...

    @overload
    def predict(self, raw: Any, *, names: Literal[True]) -> NDArray[np.object_]: ...

    def predict(self, raw: Any, *, names: bool = False) -> IntArray | NDArray[np.object_]:
        """Class indices of shape (N,), the argmax of ``predict_proba``; with ``names``, the classes' names."""
        class_N = self.predict_proba(raw).argmax(axis=1)
        return np.array(self.labels.names, dtype=object)[class_N] if names else class_N

    def explain(self, raw: Any, top: int = 5) -> list[Explanation]:
        """One explanation per sample."""
        return explain(self.decide(raw), self.rule, self.partition, self.labels, top)

    def outputs(self, samples: Samples, label_N: IntArray, progress: Progress = SILENT) -> Outputs:
        """Logits of the base and of *all* specialists on labelled samples, routed or not: S + 1 passes. Progress is
        told of the ``panel.n_steps``.
        """
        self._check_process()
        base_NC, packed_NM = self.panel.ask_all(self.preprocessing.check(samples), self.partition, progress)
        return Outputs(base_NC, packed_NM, label_N)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run each network and the rule once, on made-up inputs: the first pass takes longer than those after it."""
        self._check_process()
        base_NC, ask = self._ask_inputs(self.preprocessing.example())
        ask({cluster: np.arange(len(base_NC)) for cluster in self.panel.specialists})
        rule = self._tensor_rule()
        rule.combine(rule.ask(base_NC), rule.no_answers(base_NC))

    def push_to_hub(self, name: str, *, private: bool | None = None) -> str:
        """Put the run that this ensemble was loaded of on the hub, as its folder is, with a model card; the address of
        its page.

        Args:
            name: ``owner/name``, or a name of one's own.
            private: whether a new one is seen by its owner alone; None: as the owner's account has it.

        Raises:
            InputError: it was loaded of no run.
            ArtifactError: the folder is gone or damaged, or the hub refuses, or cannot be reached.
        """
        if self.push is None:
            raise InputError("only an ensemble that was loaded of a run can be pushed: its folder is what is pushed")
        return self.push(name, private)

    def __prepare_scriptable__(self) -> Any:
        """For ``torch.jit.script``."""
        raise InputError(NO_GRAPH)

    def _check_process(self) -> None:
        """Have a fork of the process that made this ensemble compute with one thread: the threads of the first stayed
        there, and to wait for them would take forever.
        """
        if os.getpid() == self.process:
            return
        if self.computing.device.type != "cpu":
            raise InputError(
                f"an ensemble on {self.computing.device} cannot be used in a fork of its process; start processes by "
                "multiprocessing.get_context('spawn'), or load the run in each"
            )
        torch.set_num_threads(1)
        self.process = os.getpid()

    def _ask_inputs(self, inputs: Any) -> tuple[Tensor, Ask]:
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # which torch documents
        if tracing or isinstance(inputs, fx.Proxy):
            raise InputError(NO_GRAPH)
        n_axes = 1 + len(self.preprocessing.shape)
        if not isinstance(inputs, Tensor) or inputs.ndim != n_axes:
            got = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
            raise InputError(f"forward takes a tensor of {n_axes} axes, the base's inputs; got {got}")
        _check_values(inputs)
        try:
            return self.panel.ask_inputs(inputs)
        except Exception as error:  # whatever a network raises on a shape that it does not take
            example = self.preprocessing.example()
            if inputs.shape[1:] == example.shape[1:]:
                raise
            raise InputError(
                f"the base takes {describe_inputs(example)}; on {describe_inputs(inputs)} it fails: "
                + str(error).partition("\n")[0]
            ) from error

    @torch.inference_mode()
    def _decide_chunk(self, samples: Samples, rows: Tensor, first: int) -> tuple[np.ndarray, ...]:
        """The fields of a decision about some samples, before which ``first`` others were asked about."""
        base_NC, ask = self.panel.ask(samples.take(rows))
        rule = self._tensor_rule()
        question, plan, answer_V = self._ask(base_NC, ask, first + int(rows[0]))
        packed_NA = rule.packed(base_NC, plan, answer_V)
        proba_NC = rule.combine(question, packed_NA) if plan.asks else question.proba_NC
        # NaN, so that an answer which was never given cannot pass for one.
        packed_NM = packed_NA[:, : rule.n_columns].masked_fill(~rule.ran_NM(question), torch.nan)
        cluster_N, asked_NS = question.cluster_NT[:, 0], rule.asked_NS(question)
        fields = (proba_NC, base_NC, question.score_N, question.routed_N, cluster_N, asked_NS, packed_NM)
        return tuple(field.cpu().numpy() for field in fields)

    def _ask(self, base_NC: Tensor, ask: Ask, first: int = 0) -> tuple[TensorQuestion, Plan, Tensor | None]:
        """Whom to ask about some samples, of which the first has this number, and what they say, as ``TensorRule``
        takes it, or None where no specialist is run. All stay on the device, which is waited for twice: to know whom to
        ask, and whether what they say is finite.
        """
        question = self._tensor_rule().ask(base_NC)
        plan = question.plan()
        if not plan.finite:
            _refuse_not_finite(base_NC, np.arange(first, first + len(base_NC)), "the base")
        if not plan.rows:
            return question, plan, None
        answers = ask(plan.rows)
        answer_V = answers[0].flatten() if len(answers) == 1 else torch.cat([each_RK.flatten() for each_RK in answers])
        if not math.isfinite(answer_V.detach().sum()):
            for (cluster, row_R), answer_RK in zip(plan.rows.items(), answers, strict=True):
                _refuse_not_finite(answer_RK, first + row_R, f"the specialist of cluster {cluster}")
        return question, plan, answer_V

    def _tensor_rule(self) -> TensorRule:
        """The rule on the device; made anew where another one was set."""
        rule, tensors = self._on_device
        if tensors is None or rule is not self.rule:
            with torch.inference_mode(False):  # what is made in that mode takes no part in a gradient
                tensors = TensorRule(self.rule, self.partition, self.computing.device)
            self._on_device = (self.rule, tensors)
        return tensors


def _check_values(inputs: Tensor) -> None:
    """Refuse what stands for a tensor, such as a fake or batched one."""
    try:
        inputs.data_ptr()
    except RuntimeError:
        raise InputError(NO_GRAPH) from None
    if inputs.is_meta:
        raise InputError(NO_GRAPH)


def _refuse_not_finite(logits_RK: Tensor, number_R: IntArray, whose: str) -> None:
    bad = np.flatnonzero(~logits_RK.isfinite().all(dim=1).cpu().numpy())
    if bad.size:
        raise InputError(
            f"{whose} answers {how_many(bad.size, 'sample')} with NaN or infinity, the first is number "
            f"{number_R[bad[0]]}, counted from 0: its values, or the network's weights, are not finite or too large"
        )
