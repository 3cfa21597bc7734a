"""Weights that were trained elsewhere, in the files in which people keep them. No code in a file is run."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from coterie.backbones.parts import within
from coterie.errors import BackboneError, first_line
from coterie.system.reading import regular

State = dict[str, Tensor]

# Where training scripts put a running average of the weights, and the weights themselves, beside optimiser and epoch.
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
NESTED = ("state_dict", "model_state_dict", "model", "module", "network", "net", "params")
# Counted by torch's AveragedModel, and by batch norms that do without it.
COUNTERS = ("n_averaged",)
# What norms know of the samples that they were trained on.
VARIANCE, STATISTICS = "running_var", ("running_mean", "running_var")
INDEX = ".safetensors.index.json"
# Names that are shown of many.
SHOWN = 5


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a file holds: its name, tensors by name, and which of several sets of weights they are, in words."""

    name: str
    state: State
    note: str = ""


@dataclass(frozen=True, eq=False)
class Match:
    """Tensors of a file by the names that a network has for them, whatever their shapes.

    ``left``: names of those that it has none for; ``alien``: names of those among them that make it another network.
    """

    taken: State
    left: list[str]
    alien: list[str]

    @property
    def left_out(self) -> str:
        """The end of a line that says what was not used; empty for nothing."""
        return f"; left out: {_some(self.left)}" if self.left else ""


def load_weights(place: Path | str, network: nn.Module) -> str:
    """Load the weights of a trained network, in place; returns what of the file was taken, and what not, in a line.

    Args:
        place: a file; ``FILE:KEY``, where it holds several sets of weights; or a folder of safetensors.
        network: of the same architecture.

    Raises:
        BackboneError: the file cannot be read, holds more than tensors, or the weights of another network.
    """
    file = read_weights(place)
    match = match_names(file.state, network)
    if faults := _faults(match, network):
        raise BackboneError(f"{file.name} holds the weights of another network: " + "; ".join(faults))
    try:
        put_weights(match.taken, network)
    except ValueError as error:
        raise BackboneError(f"{file.name} does not fit: {error}") from None
    return f"weights: {_all_of(match.taken, network)} from {file.name}{file.note}{match.left_out}"


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


def _other_shape(found: Tensor, wanted: Tensor) -> str | None:
    if found.shape == wanted.shape:
        return None
    return f"shape {tuple(found.shape)} in the file and {tuple(wanted.shape)} in the network"


def _difference(found: Tensor, wanted: Tensor) -> str | None:
    if shape := _other_shape(found, wanted):
        return shape
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


def start_from(file: WeightsFile, network: nn.Module, head: Sequence[str]) -> tuple[str, bool]:
    """Load weights that a training starts from, in place, all but a head of another width; returns a line as
    ``load_weights``, and whether the head is left as it was.

    Args:
        file: with the weights.
        network: to be trained.
        head: paths of its head.

    Raises:
        BackboneError: the file holds the weights of another architecture, or of a larger network.
    """
    match, wanted = match_names(file.state, network), network.state_dict()
    taken = match.taken
    of_head = [name for name in wanted if within(name, head)]
    fresh = [name for name in of_head if name not in taken or taken[name].shape != wanted[name].shape]
    # A head that fits in part is none: its rows belong to its biases.
    kept = {name: tensor for name, tensor in taken.items() if not (fresh and name in of_head)}
    if faults := _faults(replace(match, taken={**{name: wanted[name] for name in of_head}, **kept}), network):
        raise BackboneError(f"{file.name} holds the weights of another architecture: " + "; ".join(faults))
    try:
        put_weights({**wanted, **kept}, network)
    except ValueError as error:
        raise BackboneError(f"{file.name} does not fit: {error}") from None
    widths = [f"{name} {tuple(taken[name].shape)}" for name in fresh if name in taken]
    new = f"; the head is new, for {_some(widths)} there is of other classes" if widths else ""
    new = "; the head is new, for there is none in it" if fresh and not widths else new
    said = f"initial weights: {_all_of(kept, network)} from {file.name}{file.note}{new}{match.left_out}"
    return said, bool(fresh)


def read_weights(place: Path | str) -> WeightsFile:
    """Tensors by name, out of any file that holds a network's weights.

    Raises:
        BackboneError: it cannot be read, holds more than tensors, or none.
    """
    file, key = _file_and_key(str(place))
    try:
        file = file if file.is_dir() else regular(file)
        if file.is_dir() or file.name.endswith((".safetensors", INDEX)):
            return WeightsFile(str(file), _read_safetensors(file))
        with warnings.catch_warnings(), torch.serialization.safe_globals(_BESIDE_TENSORS):
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
        raise BackboneError(f"cannot read the weights in {file}: {first_line(error)}") from None
    return _chosen(file, content, key)


def match_names(state: Mapping[str, Tensor], network: nn.Module) -> Match:
    """Which tensors of a file are which of a network. What wrappers put before and between names is left off."""
    wanted = network.state_dict()
    names = {name: name for name in state if name not in COUNTERS}
    compiled = _without(names, "_orig_mod.")
    best = _Names({}, "", "")
    for form in (names, compiled, _without(compiled, "module.")):
        # What is around the network here may be missing in the file, and the other way round.
        for outer in ("", _common_prefix(wanted, form)):
            inner = {name.removeprefix(outer): name for name in wanted if name.startswith(outer)}
            prefix = _common_prefix(form, inner)
            found = {form[f"{prefix}{name}"]: full for name, full in inner.items() if f"{prefix}{name}" in form}
            if len(found) > len(best.ours):  # of equals the first: a network may have a part that is called module
                best = _Names(found, prefix, outer)
    left = [name for name in names if name not in best.ours]
    # What another part of a training kept, such as its loss, lies beside the network. What lies within it, or within
    # one of its parts, belongs to a larger network.
    parts = {name.removeprefix(best.outer).partition(".")[0] for name in wanted}
    inside = {name: name.removeprefix(best.prefix).partition(".") for name in left if name.startswith(best.prefix)}
    alien = [name for name, (part, dot, _) in inside.items() if part in parts or not dot]
    return Match({ours: state[theirs] for theirs, ours in best.ours.items()}, left, alien)


@dataclass(frozen=True)
class _Names:
    """A network's names by those of a file; what the file's have before the network's, and the other way round."""

    ours: dict[str, str]
    prefix: str
    outer: str


def _faults(match: Match, network: nn.Module) -> list[str]:
    """What keeps tensors from being all of the network's weights."""
    wanted = network.state_dict()
    shared = {name: match.taken[name] for name in wanted if name in match.taken}
    faults = [f"{name} has {fault}" for name, found in shared.items() if (fault := _other_shape(found, wanted[name]))]
    faults = faults[:SHOWN]
    missing = [name for name in wanted if name not in match.taken]
    alien = match.left if missing else match.alien
    faults += [f"the file lacks {_some(missing)}"] if missing else []
    return faults + ([f"the network has no {_some(alien)}"] if alien else [])


def _all_of(taken: Mapping[str, Tensor], network: nn.Module) -> str:
    wanted = len(network.state_dict())
    return f"all {wanted} tensors" if len(taken) == wanted else f"{len(taken)} of {wanted} tensors"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _without(names: Mapping[str, str], word: str) -> dict[str, str]:
    """Shorter forms of names, each with the name in the file."""
    return {name.replace(word, ""): theirs for name, theirs in names.items()}


def _common_prefix(names: Iterable[str], wanted: Collection[str]) -> str:
    """What most names have before one that the network has."""
    found: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                found[".".join([*parts[:start], ""]) if start else ""] += 1
    return max(found, key=lambda prefix: (found[prefix], -len(prefix)), default="")


def _file_and_key(place: str) -> tuple[Path, str | None]:
    file, colon, key = place.rpartition(":")
    return (Path(file), key) if colon and not Path(place).exists() and Path(file).exists() else (Path(place), None)


def _read_safetensors(place: Path) -> State:
    """One file, or all that an index or a folder names."""
    index = next(iter(sorted(place.glob(f"*{INDEX}"))), None) if place.is_dir() else place
    if index is None:
        files = sorted(place.glob("*.safetensors"))
        if len(files) != 1:
            raise OSError(f"the folder holds {len(files)} .safetensors files and no index of them; name one")
        return safetensors.torch.load_file(files[0])
    if not index.name.endswith(INDEX):
        return safetensors.torch.load_file(index)
    parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    # A part is a file beside the index: a path would lead out of the folder.
    return {
        name: t for part in parts for name, t in safetensors.torch.load_file(index.parent / Path(part).name).items()
    }


class _Ignored:
    """In the place of what training scripts keep beside tensors: it takes whatever a file says of it, and does nothing.

    The real classes would do as the file says: a dtype of numpy takes flags by which numbers count as pointers.
    """

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


# Options, numbers and paths. Other versions of numpy and Python have other names for the same things.
_BESIDE_TENSORS: list[Any] = [
    (_Ignored, name)
    for name in (
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *(f"pathlib.{of}{name}" for of in ("", "_local.") for name in ("Path", "PosixPath", "WindowsPath")),
        *(f"pathlib.{of}{name}" for of in ("", "_local.") for name in ("PurePosixPath", "PureWindowsPath")),
    )
]


def _chosen(file: Path, content: Any, key: str | None) -> WeightsFile:
    """The weights in a checkpoint: the ones asked for, else a running average, else those that it has."""
    if isinstance(content, Mapping) and key is not None:
        if key not in content:
            raise BackboneError(f"{file} holds no {key!r}; it holds: {', '.join(map(str, content))}")
        content = content[key]
        key = f", {key}"
    sets = {name: found for name in (*AVERAGES, *NESTED) if (found := _tensors_of(content, name)) is not None}
    plain = _as_state(content)
    if plain is not None:
        return WeightsFile(str(file), plain, key or "")
    if not sets:
        raise BackboneError(f"{file} holds a {type(content).__name__} and no state_dict: names and their tensors")
    name, state = next(iter(sets.items()))
    others = [other for other in sets if other != name]
    what = "a running average" if name in AVERAGES else "one of several"
    note = f", {name} ({what}; {file}:{others[0]} takes {others[0]})" if others else (key or "")
    return WeightsFile(str(file), state, note)


def _tensors_of(content: Any, name: str) -> State | None:
    """The tensors under a name, or below one of the usual names there."""
    if not isinstance(content, Mapping) or not isinstance(content.get(name), Mapping):
        return None
    inner = content[name]
    below = (found for other in (*AVERAGES, *NESTED) if (found := _tensors_of(inner, other)) is not None)
    return _as_state(inner) or next(below, None)


def _as_state(content: Any) -> State | None:
    if not isinstance(content, Mapping) or not content:
        return None
    whole = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    return dict(content) if whole else None
