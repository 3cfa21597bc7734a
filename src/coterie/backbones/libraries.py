"""Networks of other libraries, and of the user: by name, without running code that was not asked for."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from coterie.backbones.packages import installed_package, place_of, remedy
from coterie.backbones.text_classifier import PoolingName, SentenceClassifier, TextClassifier
from coterie.errors import BackboneError, first_line
from coterie.inputs import Preprocessing, TokenPreprocessing
from coterie.system.units import how_many

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
TRANSFORMERS = "transformers:"
ADAPTER = "adapter_config.json"
LIBRARIES = ("timm", "torchvision", "transformers", "python")


def is_function(name: str) -> bool:
    """Whether a backbone's name is ``module:function``, which runs the user's code."""
    return FUNCTION.fullmatch(name) is not None and name.partition(":")[0] not in LIBRARIES


def call_function(name: str) -> nn.Module:
    """The network that a function of the user's builds; called without arguments.

    Args:
        name: ``module:function``; modules are found as by ``python -m``, the current folder first.

    Raises:
        BackboneError: no such module or function, it fails, or does not return a network.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        network = function()
    except Exception as error:  # whatever the user's code raises
        raise BackboneError(f"{name} builds no network: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(network, nn.Module):
        raise BackboneError(f"{name} returns a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def build_torchvision(name: str, n_classes: int, channels: int, size: int) -> nn.Module:
    """A classification model of torchvision with fresh weights, for images of a side in pixels.

    Raises:
        BackboneError: it has no such classification model, or the images are not RGB.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = [other for other in known if name in other or other in name][:8]
        raise BackboneError(
            f"torchvision has no classification model {name!r}"
            + (f"; did you mean {', '.join(close)}?" if close else "")
        )
    if channels != 3:
        raise BackboneError(f"torchvision:{name} takes RGB images; these have {how_many(channels, 'channel')}")
    # Of these two, which initialise themselves, the start is said outright: otherwise they warn.
    options: dict[str, Any] = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    if name.startswith("vit_"):
        options["image_size"] = size
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **options)
    return network


def read_tokens(place: str, longest: int) -> TokenPreprocessing | None:
    """How a text classifier of transformers is given its texts; None for a model that classifies something else.

    Args:
        place: a folder with config.json and the tokenizer's files, or a name on the hub.
        longest: tokens that are kept of a text, where the model takes as many.

    Raises:
        BackboneError: transformers is not installed or cannot load what is there, or the tokenizer does more than
            tokens can tell.
    """
    with _loading(place) as transformers:
        config = transformers.AutoConfig.from_pretrained(place_of(place), trust_remote_code=False)
        if not _classifies_texts(config):
            return None
        tokenizer = transformers.AutoTokenizer.from_pretrained(place_of(place), trust_remote_code=False)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or _knows_no_word(backend):
        raise BackboneError(
            f"{place} has no tokenizer that a run could keep; a tokenizer.json is needed, as fast tokenizers save it"
        )
    # A network is given tokens and nothing beside them.
    if any(backend.encode("a").type_ids):
        raise BackboneError(f"the tokenizer of {place} gives its tokens types, as {config.model_type} needs them")
    padding = next((token for token in _padding(tokenizer, config) if token is not None), None)
    if padding is None:
        raise BackboneError(f"neither tokenizer nor configuration in {place} names a padding token: set pad_token_id")
    # The model has no positions for more.
    longest = min(longest, _most_tokens(tokenizer, config, padding))
    added = backend.num_special_tokens_to_add(False)
    if longest <= added:
        raise BackboneError(f"of {longest} tokens a text, the tokenizer of {place} takes {added} for itself")
    return TokenPreprocessing.of(backend.to_str(), longest=longest, padding=padding, cut=tokenizer.truncation_side)


def load_transformers(place: str, preprocessing: Preprocessing) -> tuple[nn.Module, bool]:
    """A classifier of transformers, and whether it came with weights.

    Args:
        place: a folder with its config.json, and weights if it is trained; or a name on the hub.
        preprocessing: what makes its inputs: tokens, or images.

    Raises:
        BackboneError: transformers is not installed, does not know the model as such a classifier, or finds no weights
            for a part of it.
    """
    transformers = import_transformers(place)
    if not has_weights(place):
        return build_transformers(_read_config(place), preprocessing), False
    network, found = _from_pretrained(place, _auto_class(transformers, preprocessing))
    if found["missing_keys"]:
        raise BackboneError(
            f"{place} holds no weights for {', '.join(sorted(found['missing_keys'])[:5])}: it was not trained as a "
            "classifier yet; --init pretrained trains it as one"
        )
    return _in_form(network, preprocessing), True


def start_transformers(
    place: str, preprocessing: Preprocessing, names: Sequence[str]
) -> tuple[nn.Module, PoolingName | None, str]:
    """A classifier of transformers with a model's pretrained weights and a new head where its own does not fit.

    Args:
        place: a folder with config.json and weights, or a name on the hub; the model may have no head at all.
        preprocessing: what makes its inputs: tokens, or images.
        names: of the classes, in the order of the outputs.

    Returns:
        The network; how it makes one vector of a text's, where it is a sentence encoder; and in a line where its
        weights come from.

    Raises:
        BackboneError: transformers is not installed, or cannot load what is there.
    """
    transformers = import_transformers(place)
    pooling = pooling_of(place) if isinstance(preprocessing, TokenPreprocessing) else None
    package = installed_package(f"{TRANSFORMERS}{place}")
    said = f"initial weights: those of {place}" + (f", from {package}" if package else "")
    if not has_weights(place):
        raise BackboneError(f"--init pretrained: {place} holds a configuration and no weights; give --init FILE")
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    if pooling is not None:
        encoder, _ = _from_pretrained(place, transformers.AutoModel)
        encoder.config.update(labels)
        network = SentenceClassifier(encoder, pooling, len(names))
        return (
            _in_form(network, preprocessing),
            pooling,
            f"{said}; the head is new, on the {pooling} of a text's vectors",
        )
    network, found = _from_pretrained(
        place, _auto_class(transformers, preprocessing), **labels, ignore_mismatched_sizes=True
    )
    new = sorted({*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])})
    said += f"; new: {', '.join(new[:5])}" if new else ""
    return _in_form(network, preprocessing), None, said


def fresh_transformers(
    place: str, preprocessing: Preprocessing, names: Sequence[str]
) -> tuple[nn.Module, PoolingName | None]:
    """As ``start_transformers``, without weights: the network that a folder's configuration describes, for these
    classes.
    """
    pooling = pooling_of(place) if isinstance(preprocessing, TokenPreprocessing) else None
    return build_transformers(with_classes(_read_config(place), names), preprocessing, pooling), pooling


def _from_pretrained(place: str, auto: Any, **options: Any) -> tuple[Any, Any]:
    """A model with its weights, and what was found of them."""
    folder = Path(place_of(place))
    # Safetensors where there are any. Pickled weights are read as tensors alone, which runs no code.
    pickled = folder.is_dir() and not any(folder.glob("*.safetensors"))
    with _loading(place):
        if (folder / ADAPTER).is_file():
            return _merged(folder, auto, options), {"missing_keys": [], "mismatched_keys": []}
        found: tuple[Any, Any] = auto.from_pretrained(
            str(folder) if folder.is_dir() else place,
            trust_remote_code=False,
            use_safetensors=not pickled,
            output_loading_info=True,
            **options,
        )
    return found


def _merged(folder: Path, auto: Any, options: dict[str, Any]) -> Any:
    """A model with its adapter's weights in it, where the model that it adapts is at hand."""
    base = str(json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path"))
    sentence = (
        f"{folder} holds an adapter of {base} and not the model: merge them (peft's merge_and_unload), save that with "
        "save_pretrained, and give its folder"
    )
    if not Path(base).is_dir():
        raise BackboneError(sentence)
    try:
        from peft import PeftModel
    except ImportError:
        raise BackboneError(f"{sentence}; or pip install 'coterie[lora]', which merges them here") from None
    model = auto.from_pretrained(base, trust_remote_code=False, use_safetensors=True, **options)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _without_a_hub(place: str) -> str:
    if Path(place).is_dir():
        return ""
    return (
        f". Where the hub cannot be reached, a folder with its config.json, model.safetensors and tokenizer.json does: "
        f"--backbone transformers:DIR{remedy(TRANSFORMERS + place)}"
    )


def has_weights(place: str) -> bool:
    """Whether a model comes with weights: a name on the hub does; a folder may hold a configuration alone."""
    folder = Path(place_of(place))
    return not folder.is_dir() or any(any(folder.glob(kind)) for kind in ("*.safetensors", "pytorch_model*.bin"))


def pooling_of(place: str) -> PoolingName | None:
    """How a sentence encoder makes one vector of a text's, where it is in a folder of sentence-transformers; None for
    other models.
    """
    try:
        folder = Path(place_of(place))
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        path = next(module["path"] for module in modules if module["type"].endswith("Pooling"))
        said = json.loads((folder / path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, StopIteration, TypeError):
        return None
    return "mean" if said.get("pooling_mode_mean_tokens", True) else "first"


def build_transformers(
    config: dict[str, Any], preprocessing: Preprocessing, pooling: PoolingName | None = None
) -> nn.Module:
    """A classifier of transformers with fresh weights, from its configuration. Code that this names is not run.

    Raises:
        BackboneError: transformers is not installed, or knows no such classifier.
    """
    transformers = import_transformers(str(config.get("model_type")))
    # ``auto_map`` names code to be loaded and run.
    values = {name: value for name, value in config.items() if name not in ("model_type", "auto_map")}
    try:
        known = transformers.AutoConfig.for_model(config["model_type"], **values)
        known.architectures = known.architectures or []  # of some kinds there are several, and it looks here
        if pooling is not None and isinstance(preprocessing, TokenPreprocessing):
            encoder = transformers.AutoModel.from_config(known, trust_remote_code=False)
            return _in_form(SentenceClassifier(encoder, pooling, known.num_labels), preprocessing)
        network = _auto_class(transformers, preprocessing).from_config(known, trust_remote_code=False)
    except Exception as error:
        kind = "text" if isinstance(preprocessing, TokenPreprocessing) else "image"
        raise BackboneError(f"transformers cannot build this {kind} classifier: {first_line(error)}") from error
    return _in_form(network, preprocessing)


def with_classes(config: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The configuration of the same classifier with these classes."""
    return {
        **config,
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
    }


def _in_form(network: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """The network in single precision, from one tensor to its output."""
    network = network.float()
    return TextClassifier(network, preprocessing.padding) if isinstance(preprocessing, TokenPreprocessing) else network


def _auto_class(transformers: Any, preprocessing: Preprocessing) -> Any:
    if isinstance(preprocessing, TokenPreprocessing):
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForImageClassification


def _classifies_texts(config: Any) -> bool:
    from transformers.models.auto import modeling_auto as auto

    if type(config) not in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return False
    both = type(config) in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    return not both or any("SequenceClassification" in name for name in config.architectures or ())


def _knows_no_word(tokenizer: Any) -> bool:
    """Where files are missing, the library makes up a tokenizer of nothing but marks."""
    marks = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    return set(tokenizer.get_vocab()) <= marks


def _padding(tokenizer: Any, config: Any) -> tuple[int | None, ...]:
    """What stands for no token, by preference. A text that ends where the model was taught that texts end will do."""
    return tokenizer.pad_token_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id


def _most_tokens(tokenizer: Any, config: Any, padding: int) -> int:
    """Tokens that the model takes. Where the tokenizer does not say, its positions do, of which some families leave out
    those up to the padding's number.
    """
    said, positions = int(tokenizer.model_max_length), getattr(config, "max_position_embeddings", None)
    if positions is None or said <= positions:
        return said
    # Where texts are padded with their last token, as in GPT-2, that number has nothing to do with positions.
    return int(positions) - (padding + 1 if padding + 1 < positions else 0)


def _read_config(place: str) -> dict[str, Any]:
    with _loading(place) as transformers:
        config: dict[str, Any] = transformers.AutoConfig.from_pretrained(
            place_of(place), trust_remote_code=False
        ).to_dict()
    return config


@contextmanager
def _loading(place: str) -> Iterator[Any]:
    """The library, quiet, for reading a model.

    Raises:
        BackboneError: it is not installed, or cannot load what is there.
    """
    transformers = import_transformers(place)
    with _quiet(transformers):
        try:
            yield transformers
        except BackboneError:
            raise
        except Exception as error:  # the library raises OSError, ValueError and others
            raise BackboneError(
                f"transformers cannot load {place}: {first_line(error)}" + _without_a_hub(place)
            ) from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without its progress bars and reports, for a while."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def import_transformers(place: str) -> Any:
    """The library.

    Raises:
        BackboneError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise BackboneError(
            f"transformers:{place} needs transformers, which is not installed: pip install 'coterie[transformers]'"
        ) from None
    return transformers
