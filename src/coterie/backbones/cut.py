"""A network cut in two: a trunk that runs once, and tails that continue from its output."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from typing_extensions import override

from coterie.backbones.probe import evaluating, fitting
from coterie.errors import BackboneError

# Padding by which a sequence is made longer, to see whether that matters.
LONGER = 3


class _Rest(nn.Module):
    """A network, on an example, as a function of what its module at the cut gives."""

    def __init__(self, network: nn.Module, example: Tensor, tracer: _FromTheCut) -> None:
        super().__init__()
        self.network = network
        self.example = example
        self.tracer = tracer

    def forward(self, features: Tensor) -> Any:
        self.tracer.features = features
        return self.network(self.example)


class _FromTheCut(fx.Tracer):
    """Runs a network up to the cut, and records what it does from there on. Modules are taken as they are."""

    features: Any

    def __init__(self, cut: nn.Module) -> None:
        super().__init__()
        self.cut = cut

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # The tail calls the network's own modules, so that to train it is to train them; what they do inside need not
        # be followed.
        return True

    @override
    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if m is self.cut:
            return self.features
        # What does not depend on the cut's output runs here and now and leaves no trace in the graph: that is the
        # trunk.
        recorded = any(isinstance(each, fx.Proxy) for each in torch.utils._pytree.tree_leaves((args, kwargs)))
        return super().call_module(m, forward, args, kwargs) if recorded else forward(*args, **kwargs)

    @override
    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # a parameter is recorded where something recorded uses it


def tail_of(network: nn.Module, cut: str, example: Tensor) -> nn.Module:
    """All of a network that runs after the module ``cut``, as a network of its own: from that module's output to the
    network's. It holds the network's own modules under their own names, so that to train it is to train the network.

    Args:
        network: any, in training mode or not, as the tail is to be; its trunk in evaluation mode. What it does between
            its modules, after the cut, must not depend on the values in its tensors.
        cut: the path of a module whose output is all that the rest needs to know of the input (see ``cut_points``).
        example: inputs of shape (B, ...), on which it is run up to the cut.

    Raises:
        BackboneError: the network's own code cannot be followed, or the rest looks at the input again.
    """
    refused = BackboneError(f"{type(network).__name__} cannot be cut in two behind its module {cut}")
    try:
        tracer = _FromTheCut(network.get_submodule(cut))
        # The trunk runs for real on the example, but nobody needs its gradients.
        with torch.no_grad():
            graph = tracer.trace(_Rest(network, fitting(example, network), tracer))
    except Exception as error:  # a network's own code, given a stand-in for a tensor, can raise anything
        raise refused from error
    for node in graph.nodes:
        if node.op in {"call_module", "get_attr"}:
            if not node.target.startswith("network."):  # a tensor that was made on the way to the cut
                raise refused
            node.target = node.target.removeprefix("network.")
    return fx.GraphModule(network, _without_tracer(graph))


def _without_tracer(graph: fx.Graph) -> fx.Graph:
    """A copy that does not name its tracer, which pickle would make anew to trace the tail's code, without a cut."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    return copied


def can_be_cut(network: nn.Module, cut: str, example: Tensor) -> bool:
    """Whether ``tail_of`` gives, from the trunk's output, what the whole network gives, bit for bit: also for inputs
    that it was not made with, another number of them, and sequences of another length, whose trunk's output has to have
    the same form, so that those of all samples can lie side by side. Not behind a module that runs more than once.
    """
    # Another sample, and one instead of several: values or a batch size that the graph has taken over would show.
    other = example.flip(0)[:1]
    if example.ndim == 2 and not example.is_floating_point():
        # Tokens, padded further: a length that the graph has taken over would show.
        other = F.pad(other, (0, LONGER), value=-1)
    with evaluating(network):
        try:
            tail = tail_of(network, cut, example)
            shape = run_trunk(network, cut, fitting(example, network)).shape[1:]
            features = run_trunk(network, cut, fitting(other, network))
            # Bit for bit: the answer of a specialist must not depend on whether its trunk is shared.
            return features.shape[1:] == shape and torch.equal(network(fitting(other, network)), tail(features))
        except (BackboneError, RuntimeError):
            return False


# What a pass wants to be told of a module's output, and of which module. A context variable, so that threads which run
# the same network at once are each told of their own pass.
_observed: ContextVar[tuple[nn.Module, Callable[[Any], None]] | None] = ContextVar("_observed", default=None)


def _tell(module: nn.Module, _: object, output: Any) -> None:
    observed = _observed.get()
    if observed is not None and observed[0] is module:
        observed[1](output)


def make_observable(network: nn.Module, cut: str) -> nn.Module:
    """Give the module ``cut`` the hook by which its output is observed, and return it. The hook stays, since hooks that
    come and go while other threads run the network break their passes; where nobody observes, it does nothing.
    """
    module = network.get_submodule(cut)
    if _tell not in module._forward_hooks.values():
        module.register_forward_hook(_tell)
    return module


class _Observing:
    """A context in which a function is told of the output of a module that is observable. A class, since a generator
    would take as long as a small module's pass.
    """

    def __init__(self, module: nn.Module, tell: Callable[[Any], None]) -> None:
        self.observed = (module, tell)

    def __enter__(self) -> Self:
        self.token = _observed.set(self.observed)
        return self

    def __exit__(self, *_: object) -> None:
        _observed.reset(self.token)


class TrunkOutput(_Observing):
    """A context in which ``latest`` is the output of the trunk's last module, made observable by ``make_observable``,
    in the latest pass of this thread.

    Args:
        module: the trunk's last.
        copied: keep a copy, as where what follows works in place.
    """

    latest: Tensor

    def __init__(self, module: nn.Module, copied: bool = True) -> None:
        super().__init__(module, self._copy if copied else self._keep)

    def _copy(self, output: Any) -> None:
        self.latest = output.clone()

    def _keep(self, output: Any) -> None:
        self.latest = output


@torch.inference_mode(False)
def is_overwritten(network: nn.Module, cut: str, example: Tensor) -> bool:
    """Whether what runs after the module ``cut`` works in place on that module's output, in evaluation mode."""
    seen: list[tuple[Tensor, int]] = []

    def note(output: Tensor) -> None:
        # A version is counted up with each operation in place, whatever the values.
        seen.append((output, output._version))

    with evaluating(network), _Observing(make_observable(network, cut), note):
        network(fitting(example.clone(), network))
    output, version = seen[-1]
    return output._version != version


class _ReachedTheCut(BaseException):  # so that no network's own code takes it for a failure
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def run_trunk(network: nn.Module, cut: str, inputs: Tensor) -> Tensor:
    """The output of the module ``cut`` for inputs, in the network's current mode; nothing after it is run."""

    def stop(output: Any) -> None:
        raise _ReachedTheCut(output)

    with _Observing(make_observable(network, cut), stop):
        # An exception is the one way out of the middle of a network's own code.
        try:
            network(inputs)
        except _ReachedTheCut as reached:
            return reached.output
    raise BackboneError(f"{type(network).__name__} does not run its module {cut}")


def trunk_features(network: nn.Module, cut: str, example: Tensor) -> Tensor:
    """The output of the module ``cut`` for an example, in evaluation mode."""
    with evaluating(network):
        return run_trunk(network, cut, fitting(example, network))
