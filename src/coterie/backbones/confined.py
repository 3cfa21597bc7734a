"""Networks built of what a stranger wrote: within the size of their weights, and of nothing that is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from typing_extensions import override

from coterie.errors import ArtifactError, CoterieError
from coterie.system.offline import offline

# Beside its weights a network makes tables, masks and what it draws its weights from.
TIMES_WEIGHTS, BESIDE_WEIGHTS = 4, 2**28
# In a file, a tensor takes 64 bytes at least, its name included; the largest networks of libraries have some thousands.
TENSOR_BYTES, BESIDE_TENSORS, MOST_TENSORS = 64, 1_000, 20_000
# The ways in which transformers computes attention by itself; other names are those of packages and of code on a hub.
OWN_ATTENTION = (None, "eager", "sdpa", "flex_attention")
# Sources that timm knows beside its own names.
SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


@contextmanager
def confined(weights_bytes: int) -> Iterator[None]:
    """Build networks within some multiple of the size of their weights, and without leaving the machine.

    Args:
        weights_bytes: of the file that holds their weights.

    Raises:
        ArtifactError: a network of another size, one that no library can build, or one that would be fetched.
    """
    with offline("rebuilding the base of a run"), _Allowance(weights_bytes):
        try:
            yield
        except CoterieError:
            raise
        except Exception as error:  # whatever a library raises on sizes that make no network
            raise ArtifactError(f"the base of this run cannot be rebuilt: {_in_a_line(error)}") from error


def refuse_foreign(config: dict[str, Any]) -> None:
    """Refuse a configuration of transformers by which a network would be built of more than the configuration says.

    Raises:
        ArtifactError: it names a model or code that is elsewhere; says where it does.
    """
    for path, value in _leaves(config):
        name = path.rpartition(".")[2]
        elsewhere = isinstance(value, str) and (value.startswith(SOURCES) or name in ("architecture", "backbone"))
        if (
            (elsewhere and any(sign in value for sign in ":/\\"))
            or (name.endswith("attn_implementation") and value not in OWN_ATTENTION)
            or (name in ("pretrained", "use_pretrained_backbone", "checkpoint_path") and value)
        ):
            raise ArtifactError(
                f"the base of this run is built with {path} = {value!r}, which is not in the run; a run is rebuilt of "
                "what it holds"
            )


def without_places(config: Any) -> Any:
    """The configuration without what it says of files and code: where a model lay is no part of what it is."""
    if isinstance(config, dict):
        kept = {name: value for name, value in config.items() if name not in ("_name_or_path", "auto_map")}
        return {name: without_places(value) for name, value in kept.items()}
    return [without_places(value) for value in config] if isinstance(config, list) else config


def _leaves(value: Any, path: str = "transformers") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


class _Allowance(TorchDispatchMode):
    """Counts tensors that are made, and their bytes, each before it is made."""

    def __init__(self, weights_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own has no types
        self.bytes_left = TIMES_WEIGHTS * weights_bytes + BESIDE_WEIGHTS
        self.tensors_left = min(MOST_TENSORS, weights_bytes // TENSOR_BYTES + BESIDE_TENSORS)

    @classmethod
    @override
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise the compiler is imported, to be told to stay out: as long as all the rest of loading a run.
        return False

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(argument.name == "device" for argument in func._schema.arguments):
            # What has no memory has a size all the same.
            made = func(*args, **{**kwargs, "device": torch.device("meta")})
            self.bytes_left -= sum(each.nbytes for each in tree_iter(made) if isinstance(each, Tensor))
            self.tensors_left -= 1
            if min(self.bytes_left, self.tensors_left) < 0:
                raise ArtifactError(
                    "the base of this run would be far larger than the file of its weights: its name, or its "
                    "configuration, is not the one that it was trained with"
                )
        return func(*args, **kwargs)


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"
