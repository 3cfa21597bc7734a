"""Weights that were trained elsewhere: safetensors, or a state_dict of torch that holds tensors only."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from coterie.errors import BackboneError

# Where training scripts put a network's weights beside optimiser and epoch, and what wrappers prefix names with.
NESTED = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
# What norms know of the samples that they were trained on.
VARIANCE, STATISTICS = "running_var", ("running_mean", "running_var")


def load_weights(file: Path, network: nn.Module) -> None:
    """Load weights into a network, in place. No code in the file is run.

    Raises:
        BackboneError: the file cannot be read, holds more than tensors, or the weights of another network.
    """
    state = _read(file)
    wanted = network.state_dict()
    for prefix in PREFIXES:
        # Only if no name fits as it is: a network may well have a module called model.
        if not any(name in wanted for name in state) and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    try:
        put_weights(state, network)
    except ValueError as error:
        raise BackboneError(f"{file} does not fit: {error}") from None


def put_weights(state: Mapping[str, Tensor], network: nn.Module) -> None:
    """Put tensors into a network, in place, if they can be its weights.

    Raises:
        ValueError: names, shapes or types are another network's; or a weight is NaN or infinite, or a variance
            negative, as no training leaves them.
    """
    check_weights(state, network)
    network.load_state_dict(state)


def check_weights(state: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raises ValueError as ``put_weights``; the network stays as it is."""
    wanted = network.state_dict()
    faults = [
        f"{name} has {fault}"
        for name, tensor in wanted.items()
        if name in state and (fault := _difference(state[name], tensor))
    ]
    missing, unknown = ([n for n in ours if n not in theirs] for ours, theirs in ((wanted, state), (state, wanted)))
    faults += [f"the file lacks {', '.join(missing[:5])}"] if missing else []
    faults += [f"the network has no {', '.join(unknown[:5])}"] if unknown else []
    if faults:
        raise ValueError("another network's weights: " + "; ".join(faults[:8]))
    # Of buffers, such as masks, a network may have infinite ones; of norms' statistics it may not.
    trained = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    trained |= {name for name in wanted if name.endswith(STATISTICS)}
    bad = [f"{name} has {fault}" for name in wanted if name in trained and (fault := _unusable(name, state[name]))]
    if bad:
        raise ValueError("no training leaves such weights: " + "; ".join(bad[:8]))


def _difference(found: Tensor, wanted: Tensor) -> str | None:
    if found.shape != wanted.shape:
        return f"shape {tuple(found.shape)} in the file and {tuple(wanted.shape)} in the network"
    # Half precision is turned into single; whole or complex numbers would be without a word.
    if found.dtype != wanted.dtype and not (found.is_floating_point() and wanted.is_floating_point()):
        return f"type {found.dtype} in the file and {wanted.dtype} in the network"
    return None


def _unusable(name: str, tensor: Tensor) -> str | None:
    if not tensor.is_floating_point() or not tensor.numel():
        return None
    # One pass that makes nothing: a NaN anywhere is both the least and the greatest.
    low, high = (float(end) for end in tensor.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        return "NaN or infinite values"
    return f"a negative variance ({low:g})" if name.endswith(VARIANCE) and low < 0 else None


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of unusual files before it refuses them
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line]
        raise BackboneError(
            f"{file} holds more than tensors, and reading it would run code, so it is refused"
            + (f" ({named[0][:200]})" if named else "")
            + ". Save the weights alone: torch.save(network.state_dict(), FILE), or safetensors"
        ) from None
    except Exception as error:  # damaged bytes make it raise anything
        raise BackboneError(f"cannot read the weights in {file}: {_first_line(error)}") from None
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not all(map(_named_tensor, content.items())):
        raise BackboneError(f"{file} holds a {type(content).__name__} and no state_dict: names and their tensors")
    return dict(content)


def _named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:400]
