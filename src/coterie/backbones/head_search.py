"""A head is found by running the network, not by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from coterie.backbones.head import Head, cut_tensor, part_at
from coterie.backbones.linear import as_linear, is_linear, is_plain
from coterie.backbones.probe import Hook, evaluating, fitting, hooked, run
from coterie.errors import BackboneError

# Heads that are added or averaged, as those of distilled vision transformers, are looked for among so many last layers.
LAST_LAYERS = 4


def find_head(network: nn.Module, n_classes: int, example: Tensor, name: str | None = None) -> Head:
    """Find the layer that holds one row per class: to cut it to some classes is to cut the logits to these.

    The network is run on an example, in evaluation mode, with the layer's output made up: once whole, once with some
    classes only, in another order. It is the head if the second answer is the first's columns of these classes. So
    nothing that mixes classes comes after it; flattening, pooling, or a function of each logit by itself may.

    Args:
        network: any module from inputs (B, ...) to logits (B, C).
        n_classes: C.
        example: two inputs or more, such as a Preprocessing's ``example()``.
        name: path of the head, where several layers could be it.

    Raises:
        BackboneError: the network cannot run on such inputs, gives another number of logits than the data has
            classes, gives probabilities, has no head, or several that could be it, which are named.
    """
    output = run(network, example)
    title = type(network).__name__
    if not isinstance(output, Tensor):
        raise BackboneError(f"{title} returns a {type(output).__name__}; a tensor of logits is needed")
    if output.ndim != 2 or output.shape[1] != n_classes:
        width = f"{output.shape[-1]} classes" if output.ndim == 2 else f"outputs of shape {tuple(output.shape)}"
        raise BackboneError(
            f"{title} gives {width}, an output of shape {tuple(output.shape)} for {len(output)} samples; the data has "
            f"{n_classes} classes, so ({len(output)}, {n_classes}) is needed"
        )
    # Before a head is sought: a softmax mixes classes, so that none would be found and the message would blame the
    # layers.
    _refuse_probabilities(network, output, example)
    found = list(_heads(network, n_classes, example))
    # A name picks among the heads that were found: a layer does not become one by being named.
    if name is not None:
        found = [head for head in found if name in (head.path, *head.more)]
    if len(found) == 1:
        # Only now, since it takes a head whose outputs can be made up.
        _refuse_squashed(network, found[0], example)
        return found[0]
    if found:
        listed = ", ".join(_describe(network, head.path) for head in found)
        raise BackboneError(
            f"{title} has {len(found)} layers that could be its head: {listed}. Pick one by --head PATH"
        )
    raise BackboneError(_no_head(network, n_classes, example, name))


def _heads(network: nn.Module, n_classes: int, example: Tensor) -> Iterator[Head]:
    """Layers first; tensors only where no layer is a head."""
    layers = _layers_of_width(network, n_classes, example)
    single = [path for path in layers if _cuts(network, n_classes, example, _some(layers, (path,)))]
    # A wrapper passes the test as well as the head inside it: the innermost holds the rows.
    innermost = [path for path in single if not any(other.startswith(f"{path}.") for other in single)]
    found = [_layer_head(network, (path,)) for path in innermost if is_linear(layers[path])]
    # To cut one of several heads that are added breaks the sum; to cut all of them does not. Heads come last.
    plain = [path for path, layer in layers.items() if is_plain(layer)][-LAST_LAYERS:]
    for size in range(2, len(plain) + 1):
        found = found or [
            _layer_head(network, paths)
            for paths in combinations(plain, size)
            if _cuts(network, n_classes, example, _some(layers, paths))
        ]
    yield from (
        found
        or [*_adjusted_heads(network, n_classes, example, layers)]
        or [*_tensor_heads(network, n_classes, example)]
    )


def _adjusted_heads(
    network: nn.Module, n_classes: int, example: Tensor, layers: dict[str, nn.Module]
) -> Iterator[Head]:
    """Layers behind which each logit is shifted or scaled by a number of its class, which is cut along with them."""
    ended = _ends(network, example)
    for path, layer in layers.items():
        if is_linear(layer):
            after = set(ended[ended.index(path) + 1 :])
            numbers = tuple(name for name in _numbers(network, n_classes) if name.rpartition(".")[0] in after)
            if numbers and _cuts(network, n_classes, example, {path: layer}, numbers):
                found = _layer_head(network, (path,))
                yield Head(path, found.in_features, found.out_features, numbers)


def _ends(network: nn.Module, example: Tensor) -> list[str]:
    """Paths of modules, in the order in which they end; of one that runs twice, its last."""
    ended: dict[str, None] = {}
    names = {module: path for path, module in network.named_modules()}

    def note(module: nn.Module, *_: object) -> None:
        ended.pop(names[module], None)
        ended[names[module]] = None

    with hooked(dict.fromkeys(names, note)):
        run(network, example)
    return list(ended)


def _numbers(network: nn.Module, n_classes: int) -> Iterator[str]:
    """Parameters and buffers of a number a class, but for those of norms, which look at more than one sample."""
    for path, module in network.named_modules():
        if not isinstance(module, _NormBase):
            own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            yield from (f"{path}.{name}".lstrip(".") for name, tensor in own if _is_number_a_class(tensor, n_classes))


def _is_number_a_class(tensor: Tensor, n_classes: int) -> bool:
    return tuple(tensor.shape) in {(n_classes,), (1, n_classes)}


def _some(layers: dict[str, nn.Module], paths: Sequence[str]) -> dict[str, nn.Module]:
    return {path: layers[path] for path in paths}


def _layers_of_width(network: nn.Module, n_classes: int, example: Tensor) -> dict[str, nn.Module]:
    """Layers that run and have weights for, and outputs of, C classes, in the order in which they end."""
    names = {
        module: path
        for path, module in network.named_modules()
        if path and any(p.ndim > 1 and n_classes in p.shape for p in module.parameters())
    }
    ended: dict[str, nn.Module] = {}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 1 and output.shape[_class_axis(module)] == n_classes:
            ended[names[module]] = module

    with hooked(dict.fromkeys(names, note)):
        run(network, example)
    return ended


def _class_axis(layer: nn.Module) -> int:
    return 1 if isinstance(layer, _ConvNd) else -1


def _cuts(
    network: nn.Module, n_classes: int, example: Tensor, layers: dict[str, nn.Module], numbers: Sequence[str] = ()
) -> bool:
    """Whether to cut what these layers return, and the tensors ``numbers``, is to cut what the network returns."""
    # Both runs get the same noise: where they agree, nothing behind these layers looks at the other classes.
    classes = _some_classes(n_classes)
    tensors = {name: cut_tensor(part_at(network, name), classes, n_classes) for name in numbers}
    whole = _run_made_up(network, example, layers, None)
    cut = _run_made_up(network, example, layers, classes, tensors)
    return whole is not None and cut is not None and _is_cut(whole, cut, classes)


def _is_cut(whole: Tensor, cut: Tensor, classes: Tensor) -> bool:
    columns = whole[:, classes]
    if cut.shape != columns.shape or not torch.isfinite(whole).all():
        return False
    # Where all outputs are the same, any columns agree with any others. Kernels round otherwise for another width, so
    # that equal means up to single precision.
    spread = float(whole.max() - whole.min())
    return spread > 0 and torch.allclose(cut, columns, rtol=1e-4, atol=1e-5 * spread)


def _some_classes(n_classes: int) -> Tensor:
    """Half of the classes, in another order; two at least, for a network may squeeze its output."""
    if n_classes == 2:
        return torch.tensor([1, 0])
    # Out of order, so that what takes the first classes, or counts them, is found out; seeded, so that a network always
    # has the same head.
    return torch.randperm(n_classes, generator=torch.Generator().manual_seed(2))[: max(2, n_classes // 2)]


def _run_made_up(
    network: nn.Module,
    example: Tensor,
    layers: dict[str, nn.Module],
    classes: Tensor | None,
    tensors: dict[str, Tensor] | None = None,
) -> Tensor | None:
    """The network's output if these layers return noise, for all or some classes, and it has other values for some
    tensors; None where that breaks it.
    """
    generator = torch.Generator().manual_seed(1)

    def replace(layer: nn.Module, _: object, output: Tensor) -> Tensor:
        # Noise, since a fresh head may give zeros; large, so that a sigmoid behind it shows.
        noise = 10 * torch.randn(output.shape, generator=generator)
        return (noise if classes is None else noise.index_select(_class_axis(layer), classes)).to(output)

    hooks: dict[nn.Module, Hook] = dict.fromkeys(layers.values(), replace)
    with hooked(hooks), evaluating(network):
        try:
            inputs = fitting(example, network)
            # Scripted networks take no other tensors, and most need none.
            output = functional_call(network, tensors, (inputs,)) if tensors else network(inputs)
        except Exception:  # an output of another width breaks what comes after a layer that is no head
            return None
    return output if isinstance(output, Tensor) and output.ndim == 2 else None


def _layer_head(network: nn.Module, paths: Sequence[str]) -> Head:
    linears = [as_linear(network.get_submodule(path)) for path in paths]
    return Head(paths[0], sum(linear.in_features for linear in linears), linears[0].out_features, tuple(paths[1:]))


def _tensor_heads(network: nn.Module, n_classes: int, example: Tensor) -> Iterator[Head]:
    """Matrices that the network itself, or a layer of its own kind, computes with: cosine classifiers, text embeddings,
    prototypes.
    """
    classes = _some_classes(n_classes)
    # A tied matrix has several names, of which one may be the head and another none.
    of_network = (network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
    for path, matrix in chain(*of_network):
        if matrix.ndim != 2 or n_classes not in matrix.shape or not matrix.is_floating_point():
            continue
        made_up = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(3)).to(matrix)
        beside = _beside(network, path, n_classes)
        values = {path: made_up, **{name: part_at(network, name).detach() for name in beside}}
        cut = {name: cut_tensor(value, classes, n_classes) for name, value in values.items()}
        whole_NC, cut_NC = (_run_with(network, example, tensors) for tensors in (values, cut))
        if whole_NC is None or cut_NC is None or not _is_cut(whole_NC, cut_NC, classes):
            continue
        # A cosine classifier does not see how long its rows are.
        longer = _run_with(network, example, {**values, path: 2 * made_up})
        unit = longer is not None and torch.allclose(longer, whole_NC, rtol=1e-4, atol=1e-6)
        yield Head(path, matrix.numel() // n_classes, n_classes, beside, unit)


def _run_with(network: nn.Module, example: Tensor, tensors: dict[str, Tensor]) -> Tensor | None:
    """The network's output with other values for some parameters; None where they break it."""
    with evaluating(network):
        try:
            # A matrix that is tied to another stays what it is there.
            output = functional_call(network, tensors, (fitting(example, network),), tie_weights=False)
        except Exception:
            return None
    return output if isinstance(output, Tensor) and output.ndim == 2 else None


def _beside(network: nn.Module, path: str, n_classes: int) -> tuple[str, ...]:
    """Parameters and buffers of the same module with one number per class."""
    parent, _, _ = path.rpartition(".")
    owner = network.get_submodule(parent)
    own = (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))
    return tuple(f"{parent}.{name}".lstrip(".") for name, tensor in own if tuple(tensor.shape) == (n_classes,))


def _refuse_probabilities(network: nn.Module, output: Tensor, example: Tensor) -> None:
    for kind, values in (("probabilities", output), ("log-probabilities", output.exp())):
        sums = values.sum(dim=1)
        if bool((values >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            raise BackboneError(
                f"{type(network).__name__} gives {kind}, not logits, whose rows sum to 1. The last layer that runs is "
                f"{_last_layer(network, example)}. Return what goes into the softmax"
            )


def _refuse_squashed(network: nn.Module, head: Head, example: Tensor) -> None:
    """A sigmoid leaves classes apart, as logits are, and shows only where the head gives large values."""
    layers = {path: part_at(network, path) for path in (head.path, *head.more)}
    modules = {path: layer for path, layer in layers.items() if isinstance(layer, nn.Module)}
    whole = _run_made_up(network, example, modules, None)
    if modules and whole is not None and bool((whole >= 0).all()) and bool((whole <= 1).all()):
        raise BackboneError(
            f"{type(network).__name__} gives probabilities, not logits: all are within 0 and 1. The last layer that "
            f"runs is {_last_layer(network, example)}. Return what goes into the sigmoid"
        )


def _last_layer(network: nn.Module, example: Tensor) -> str:
    ended: list[str] = []
    names = {module: path for path, module in network.named_modules() if path and not list(module.children())}
    with hooked({module: lambda module, *_: ended.append(names[module]) for module in names}):
        run(network, example)
    return _describe(network, ended[-1]) if ended else type(network).__name__


def _no_head(network: nn.Module, n_classes: int, example: Tensor, name: str | None) -> str:
    title = type(network).__name__
    if name is not None and name not in dict(network.named_modules()):
        last = ", ".join(list(_layers_of_width(network, n_classes, example))[-LAST_LAYERS:]) or "none"
        return f"{title} has no layer {name!r}; its last layers of {n_classes} outputs: {last}"
    layers = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | _ConvNd)]
    wide = list(_layers_of_width(network, n_classes, example)) or layers
    listed = ", ".join(_describe(network, path) for path in wide[-LAST_LAYERS:]) or "none"
    fault = f"does not have its head at {name}" if name else "does not end in a linear layer"
    return (
        f"{title} {fault}: label embeddings are the weight rows of one, and to cut it to some classes must cut the "
        f"logits to these, so that nothing after it may mix or count classes. Its last layers of that kind: {listed}"
    )


def _describe(network: nn.Module, path: str) -> str:
    part = part_at(network, path)
    return f"{path} ({type(part).__name__} {tuple(part.shape)})" if isinstance(part, Tensor) else f"{path} ({part})"
