"""Weights that were trained elsewhere: safetensors, or a state_dict of torch that holds tensors only."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from coterie.errors import BackboneError

# Where training scripts put a network's weights beside optimiser and epoch, and what wrappers prefix names with.
NESTED = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")


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
    faults = [
        f"{name} has shape {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in the network"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    missing, unknown = ([n for n in ours if n not in theirs] for ours, theirs in ((wanted, state), (state, wanted)))
    faults += [f"the file lacks {', '.join(missing[:5])}"] if missing else []
    faults += [f"the network has no {', '.join(unknown[:5])}"] if unknown else []
    if faults:
        raise BackboneError(f"{file} holds the weights of another network: " + "; ".join(faults[:8]))
    network.load_state_dict(state)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of unusual files before it refuses them
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, EOFError, RuntimeError) as error:
        raise BackboneError(f"cannot read the weights in {file}: {str(error).splitlines()[0]}") from None
    except pickle.UnpicklingError as error:
        named = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line]
        raise BackboneError(
            f"{file} holds more than tensors, and reading it would run code, so it is refused"
            + (f" ({named[0][:200]})" if named else "")
            + ". Save the weights alone: torch.save(network.state_dict(), FILE), or safetensors"
        ) from None
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BackboneError(f"{file} holds a {type(content).__name__} and no state_dict: names and their tensors")
    return dict(content)
