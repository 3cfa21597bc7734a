"""Low-rank adapters (LoRA: Hu et al. 2021, arXiv 2106.09685) beside a network's layers, which peft puts there."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Collection

import torch
from torch import Tensor, nn

from coterie.backbones.deltas import DOWN, UP
from coterie.errors import BackboneError

# Their name, by which they are told from those of a base of its own, which have peft's, "default".
ADAPTER = "coterie"
# What an adapter gives is multiplied by this, whatever its rank: peft's lora_alpha over r, in the usual proportion.
SCALE = 2


def check_peft() -> None:
    """Check that peft is installed.

    Raises:
        BackboneError: peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise BackboneError("specialist.trainable = lora-R needs peft: pip install 'coterie[lora]'")


def has_adapters(network: nn.Module) -> bool:
    """Whether the network has adapters of its own, which further ones would disable."""
    return any(hasattr(layer, "base_layer") and hasattr(layer, "active_adapters") for layer in network.modules())


def can_be_adapted(layer: nn.Module) -> bool:
    """Whether an adapter fits beside it: torch's own linear layers and convolutions in one group, and the transposed
    linear layer of transformers. A subclass may do something else with its weights.
    """
    if type(layer) is nn.Conv2d:
        return layer.groups == 1
    return type(layer) is nn.Linear or _is_transposed(layer)


def largest_rank(layer: nn.Module) -> int:
    """The largest rank of an adapter of the layer: the smaller side of its matrix."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return min(weight.flatten(1).shape)


def adapter_parameters(path: str) -> tuple[str, str]:
    """Names of an adapter's two matrices, beside the layer at ``path``."""
    return f"{path}.lora_A.{ADAPTER}.weight", f"{path}.lora_B.{ADAPTER}.weight"


def add_adapters(network: nn.Module, layers: Collection[str], rank: int, seed: int) -> None:
    """Put an adapter beside each of the layers, in place; until it is trained, it adds 0.

    Args:
        network: any.
        layers: paths of what ``can_be_adapted``.
        rank: of the adapters.
        seed: of the first of each adapter's two matrices, which is drawn at random.

    Raises:
        BackboneError: peft is not installed.
    """
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and not everybody has it

    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules="|".join(map(re.escape, layers)))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # It sees by itself which layers are transposed.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network, adapter_name=ADAPTER)
    for parameter in trained:  # peft freezes all but its adapters; what is frozen is not for it to say
        parameter.requires_grad_(True)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, on the CPU, by the names that they have in the network without adapters. The matrix
    of a layer with an adapter is left out for the two that make up its difference from what it was.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    for path, layer in network.named_modules():
        if ADAPTER not in getattr(layer, "lora_A", ()):
            continue
        down, up = (weights.pop(name).flatten(1) for name in adapter_parameters(path))
        if _is_transposed(layer.get_submodule("base_layer")):
            down, up = up.T.contiguous(), down.T.contiguous()
        inner = f"{path}.base_layer."
        for name in [name for name in weights if name.startswith(inner)]:
            weights[f"{path}.{name.removeprefix(inner)}"] = weights.pop(name)
        del weights[f"{path}.weight"]
        weights[f"{path}.weight{UP}"], weights[f"{path}.weight{DOWN}"] = SCALE * up, down
    return weights


def _is_transposed(layer: nn.Module) -> bool:
    """Whether it is transformers' linear layer with a row per input, without an import of transformers."""
    return (type(layer).__module__, type(layer).__name__) == ("transformers.pytorch_utils", "Conv1D")
