"""The parts of a network in the order in which they run: where it can be cut, and which of them are trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from coterie.backbones.adapters import (
    adapter_parameters,
    add_adapters,
    can_be_adapted,
    check_peft,
    has_adapters,
    largest_rank,
)
from coterie.backbones.cut import can_be_cut
from coterie.backbones.head import Head
from coterie.backbones.probe import evaluating, fitting, hooked, run
from coterie.config import PROBE
from coterie.errors import BackboneError


@dataclass(frozen=True)
class TrainedPart:
    """Which part of a network is trained; the rest stays as it is, running statistics and dropout included.

    ``parameters``: names of those trained, besides the head's own at the paths ``head``; None for all that the network
    itself leaves trainable. ``still``: paths of modules that stay in evaluation mode, such as those that run before the
    trained part. ``cut``: the module after
    which the network can be cut in two before anything is trained (see ``tail_of``); None where it cannot.
    ``adapted``: paths of the layers that get an adapter of ``rank`` each, whose parameters are those trained.
    """

    parameters: frozenset[str] | None = None
    head: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    cut: str | None = None
    adapted: tuple[str, ...] = ()
    rank: int = 0

    def with_still_norms(self, network: nn.Module) -> TrainedPart:
        """The same part, of which the batch norms keep their running statistics; their scales are trained."""
        norms = (path for path, module in network.named_modules() if isinstance(module, _BatchNorm))
        return replace(self, still=(*self.still, *norms))

    def trains(self, name: str) -> bool:
        """Whether a parameter is trained."""
        if self.parameters is None or name in self.parameters:
            return True
        return within(name, self.head)

    def prepare(self, network: nn.Module, seed: int) -> None:
        """Put a network, or a tail of it, that was set to training in order: it has its adapters, drawn by the seed;
        what is not trained has no gradient, and what runs before the trained part is in evaluation mode. Nothing is
        thawed that was frozen already.

        Raises:
            BackboneError: it is to have adapters, and peft is not installed.
        """
        if self.adapted:
            add_adapters(network, self.adapted, self.rank, seed)
        for name, parameter in network.named_parameters():
            if not self.trains(name):
                # Never to True: what the user froze stays frozen.
                parameter.requires_grad_(False)
        still = set(self.still)
        for path, module in network.named_modules():
            if path in still:
                # Batch statistics and dropout before the trained part would make its inputs others in each epoch.
                module.eval()


WHOLE = TrainedPart()


def within(name: str, paths: Sequence[str]) -> bool:
    """Whether a parameter is one of these, or lies in one of these modules."""
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def trained_part(network: nn.Module, head: Head, example: Tensor, choice: str) -> TrainedPart:
    """The part that a choice stands for, in any architecture.

    Args:
        network: the base.
        head: of the base.
        example: inputs, as for ``find_head``.
        choice: ``all``, or ``probe``, which is another network as a whole; ``head``; ``last-N``, the last N parts of
            ``parts``, of which the head is one; ``lora-R``, an adapter of rank R beside each layer, and the head; or
            the path of a module, which is trained with all that runs after it.

    Raises:
        BackboneError: no such part.
    """
    if choice in {"all", PROBE}:
        return WHOLE
    heads = (head.path, *head.more)
    order = _Order.of(network, example)
    if match := re.fullmatch(r"lora-(\d+)", choice):
        return _adapters(network, heads, order, int(match[1]))
    cuts = _cuts(network, head, example, order)
    if choice in {"head", "last-1"}:
        if not any(within(name, heads) for name, _ in network.named_parameters(remove_duplicate=False)):
            raise BackboneError(
                f"{choice}: the head of {type(network).__name__}, {head.path}, is a buffer, which is not trained; "
                "allowed: all, last-N, lora-R, or the path of a module"
            )
        still = tuple(path for path in order.ended if not _holds(path, heads))
        # A head that is a parameter of the network itself never starts: all modules run before it.
        begin = min((order.start_of(path) for path in heads if path in order.started), default=1 << 62)
        return TrainedPart(frozenset(), heads, still, _cut_before(network, cuts, example, begin))
    if match := re.fullmatch(r"last-(\d+)", choice):
        starts = _part_starts(network, cuts, order)
        wanted = int(match[1]) - 1
        if not 1 <= wanted <= len(starts):
            raise BackboneError(
                f"{choice}: {type(network).__name__} has {len(starts)} parts and a head; allowed: last-1 (the head) to "
                f"last-{len(starts) + 1}"
            )
        begin = starts[-wanted]
    elif choice in order.started and choice:
        begin = order.started[choice]
    else:
        names = ", ".join(path for path, _ in cuts[-12:]) or "none"
        raise BackboneError(
            f"{type(network).__name__} has no part {choice!r} that runs; allowed: all, head, last-N, lora-R, or the "
            f"path of a module, such as {names}"
        )
    trained = {name for name, time in order.first_use(network).items() if time >= begin}
    still = tuple(path for path, time in order.ended.items() if time <= begin)
    return TrainedPart(frozenset(trained), heads, still, _cut_before(network, cuts, example, begin))


def last_parts(network: nn.Module, head: Head, example: Tensor) -> list[tuple[str, str]]:
    """The choices ``last-N`` of more than a head, before which the network can be cut, from the smallest on, each with
    its cut.

    Args:
        network: the base.
        head: of the base.
        example: inputs, as for ``find_head``.
    """
    order = _Order.of(network, example)
    cuts = _cuts(network, head, example, order)
    starts = reversed(_part_starts(network, cuts, order))
    found = ((f"last-{n}", _cut_before(network, cuts, example, begin)) for n, begin in enumerate(starts, 2))
    return [(name, cut) for name, cut in found if cut is not None]


def _adapters(network: nn.Module, heads: tuple[str, ...], order: _Order, rank: int) -> TrainedPart:
    """An adapter beside each layer that runs and can have one, but for the head, which is trained itself."""
    check_peft()
    if has_adapters(network):
        raise BackboneError(
            f"lora-{rank}: {type(network).__name__} has adapters of its own; merge them first (peft's "
            "merge_and_unload), or train another part"
        )
    layers = {
        path: network.get_submodule(path)
        for path in order.started
        if can_be_adapted(network.get_submodule(path)) and not _holds(path, heads)
    }
    if not layers:
        raise BackboneError(
            f"lora-{rank}: {type(network).__name__} has no linear layer or convolution before its head to put an "
            "adapter beside"
        )
    largest = max(map(largest_rank, layers.values()))
    if not 1 <= rank <= largest:
        raise BackboneError(
            f"lora-{rank}: the layers of {type(network).__name__} have ranks up to {largest}; allowed: lora-1 to "
            f"lora-{largest}"
        )
    trained = frozenset(name for path in layers for name in adapter_parameters(path))
    return TrainedPart(trained, heads, adapted=tuple(layers), rank=rank)


def cut_points(network: nn.Module, head: Head, example: Tensor) -> tuple[str, ...]:
    """Modules, in the order in which they run, whose output is all that the rest of the network knows of its input:
    between any of these and what follows the network can be cut in two.

    Found by running it: a module is one if the head, with that module's output held, does not see another input. Only
    modules with weights come into question, and of those with the same output the outermost.
    """
    return tuple(path for path, _ in _cuts(network, head, example, _Order.of(network, example)))


@dataclass(frozen=True)
class _Order:
    """When each module that runs starts and ends, counted in starts and ends; and how often it runs."""

    started: dict[str, int]
    ended: dict[str, int]
    runs: dict[str, int]

    @classmethod
    def of(cls, network: nn.Module, example: Tensor) -> _Order:
        names = {module: path for path, module in network.named_modules()}
        started: dict[str, int] = {}
        ended: dict[str, int] = {}
        runs: dict[str, int] = {}
        clock = iter(range(1 << 62))

        def start(module: nn.Module, _: object) -> None:
            started.setdefault(names[module], next(clock))

        def end(module: nn.Module, *_: object) -> None:
            ended[names[module]] = next(clock)
            runs[names[module]] = runs.get(names[module], 0) + 1

        handles = [module.register_forward_pre_hook(start) for module in names]
        try:
            with hooked(dict.fromkeys(names, end)):
                run(network, example)
        finally:
            for handle in handles:
                handle.remove()
        return cls(started, ended, runs)

    def start_of(self, path: str) -> int:
        """Of a module that is not called, such as a projection inside fused attention, that of what it is part of."""
        while path not in self.started:
            path = path.rpartition(".")[0]
        return self.started[path]

    def first_use(self, network: nn.Module) -> dict[str, int]:
        """When the first module that holds a parameter starts, by the parameter's name. Shared ones have one time."""
        # By tensor, not by name: a shared weight is in use once the first of its owners runs.
        earliest: dict[Tensor, int] = {}
        named = list(network.named_parameters(remove_duplicate=False))
        for name, parameter in named:
            time = self.start_of(name.rpartition(".")[0])
            earliest[parameter] = min(time, earliest.get(parameter, time))
        return {name: earliest[parameter] for name, parameter in named}


def _part_starts(network: nn.Module, cuts: Sequence[tuple[str, int]], order: _Order) -> list[int]:
    """When each part starts. A part has weights of two dimensions at least, and ends at the last cut point before the
    next such weights: so that a norm behind a convolution belongs to it, and one inside a residual block to the block.
    """
    matrices = {name for name, parameter in network.named_parameters(remove_duplicate=False) if parameter.ndim > 1}
    first_use = order.first_use(network)
    times = sorted(first_use[name] for name in matrices if first_use[name] > order.started[""])
    starts: list[int] = []
    last_end = order.started[""]
    for _, end in cuts:
        if any(last_end < time < end for time in times):
            starts.append(last_end)
        # What ends before the first matrix runs is no part of its own, but belongs to the first one.
        last_end = end if starts else last_end
    return starts


def _cut_before(network: nn.Module, cuts: Sequence[tuple[str, int]], example: Tensor, begin: int) -> str | None:
    """The last cut point that has ended when the trained part begins, if the network can be cut there."""
    before = [path for path, end in cuts if end <= begin]
    return before[-1] if before and can_be_cut(network, before[-1], example) else None


def _cuts(network: nn.Module, head: Head, example: Tensor, order: _Order) -> list[tuple[str, int]]:
    """Cut points with the times at which they end."""
    heads = (head.path, *head.more)
    first_head = min((order.start_of(path) for path in heads if path in order.started), default=1 << 62)
    candidates = {
        path: network.get_submodule(path)
        for path, end in sorted(order.ended.items(), key=lambda item: item[1])
        if path
        and end < first_head
        # Of a module that runs twice there are two outputs, and to hold one of them cuts nothing.
        and order.runs[path] == 1
        and not _holds(path, heads)
        and any(True for _ in network.get_submodule(path).parameters())
    }
    outputs: dict[str, Tensor] = {}
    same_as: dict[int, str] = {}
    names = {module: path for path, module in candidates.items()}

    def keep(module: nn.Module, _: object, output: Any) -> None:
        if isinstance(output, Tensor):
            inner = same_as.pop(id(output), None)
            outputs.pop(inner or "", None)
            outputs[names[module]] = output.clone()  # what follows may work in place
            same_as[id(output)] = names[module]
            kept.append(output)  # alive, so that no other gets its address

    kept: list[Tensor] = []
    with hooked(dict.fromkeys(names, keep)):
        seen = _what_the_head_sees(network, heads, example)
    kept.clear()
    # The samples change places: if the head still sees the old order, it knows the input by the held output alone.
    other = example.flip(0)
    found = []
    for path, held in outputs.items():
        with hooked({candidates[path]: lambda *_, held=held: held.clone()}):
            again = _what_the_head_sees(network, heads, other)
        if len(again) == len(seen) and all(map(torch.equal, seen, again)):
            found.append((path, order.ended[path]))
    return found


def _what_the_head_sees(network: nn.Module, heads: Sequence[str], example: Tensor) -> list[Tensor]:
    """The inputs of the head's layers; of a head that is a parameter, what the network makes of them.

    Weights that are all zero, as those that end fresh residual branches often are, would hide what they multiply: they
    are made up.
    """
    silent = {name: torch.ones_like(p) for name, p in network.named_parameters() if not p.detach().any()}
    modules = dict(network.named_modules())
    inputs: list[Tensor] = []
    handles = [
        modules[path].register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].clone()))
        for path in heads
        if path in modules
    ]
    try:
        with evaluating(network):
            output = functional_call(network, silent, (fitting(example, network),))
    finally:
        for handle in handles:
            handle.remove()
    return inputs or [output]


def _holds(path: str, heads: Sequence[str]) -> bool:
    return path == "" or any(f"{head}.".startswith(f"{path}.") for head in heads)
