"""Is the head of a classifier found, whatever its architecture?

Every classification model of torchvision, one small model of every architecture module of timm, and tiny sequence and
image classifiers of transformers, all with fresh weights and 7 classes. A head is right if it is, or holds, or is held
by, what the library itself declares, and if zeroing row k of each of its layers, and of all, changes logit k and no
other, for the first, a middle and the last k.
"""

import json
import warnings
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.shared import alone, command, write_result
from coterie.backbones import Head, LogitsOf, find_head, logit_parts
from coterie.errors import BackboneError

N_CLASSES = 7
SLICE = 25
# In names of models, from small to large: one of the first is taken for its family.
SIZE_WORDS = (
    "test",
    "atto",
    "femto",
    "pico",
    "zepto",
    "nano",
    "xxt",
    "xxs",
    "xtiny",
    "tiny",
    "_t",
    "xs",
    "mini",
    "small",
    "_s",
)
# A tiny configuration of each, and where its classifier is by its source code.
TEXT_FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier"),
    "distilbert": ({"n_layers": 1, "dim": 16, "n_heads": 2, "hidden_dim": 32}, "classifier"),
    "roberta": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier.out_proj"),
    "xlm-roberta": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier.out_proj"),
    "albert": ({"num_hidden_layers": 1, "intermediate_size": 32, "embedding_size": 8}, "classifier"),
    "deberta-v2": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier"),
    "electra": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier.out_proj"),
    "modernbert": ({"num_hidden_layers": 1, "intermediate_size": 32}, "classifier"),
    "xlnet": ({"n_layer": 1, "d_model": 16, "n_head": 2, "d_inner": 32}, "logits_proj"),
    "gpt2": ({"n_layer": 1, "n_embd": 16, "n_head": 2}, "score"),
    "llama": ({"num_hidden_layers": 1, "intermediate_size": 32, "num_key_value_heads": 2}, "score"),
    "qwen2": ({"num_hidden_layers": 1, "intermediate_size": 32, "num_key_value_heads": 2}, "score"),
    "bart": (
        {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        "classification_head.out_proj",
    ),
    "t5": (
        {"num_layers": 1, "d_model": 16, "num_heads": 2, "d_kv": 8, "d_ff": 32, "decoder_start_token_id": 0},
        "classification_head.out_proj",
    ),
}  # fmt: skip
IMAGE_FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "vit": ({"num_hidden_layers": 1, "intermediate_size": 32, "image_size": 32}, "classifier"),
    "beit": ({"num_hidden_layers": 1, "intermediate_size": 32, "image_size": 32}, "classifier"),
    "mobilevit": ({"image_size": 32}, "classifier"),
    "convnext": ({"depths": [1, 1, 1, 1], "hidden_sizes": [4, 8, 8, 16], "image_size": 32}, "classifier"),
    "resnet": ({"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}, "classifier.1"),
}
COMMON = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}


def main(results: Path) -> None:
    """Judge all models, in slices.

    Args:
        results: file of JSON lines; models that it names already are not judged again.
    """
    import timm
    import torchvision

    jobs = {
        "torchvision": [f"torchvision:{n}" for n in torchvision.models.list_models(module=torchvision.models)],
        "timm": [f"timm:{m}" for m in timm.list_modules()],
        "transformers, text": [f"text:{name}" for name in TEXT_FAMILIES],
        "transformers, images": [f"image:{name}" for name in IMAGE_FAMILIES],
    }
    for names in jobs.values():
        while missing := [name for name in names if name not in _read(results)]:
            _judge_slice(missing[:SLICE], results)
    known = _read(results)
    lines = ["| library | models | right | share |", "|---|---|---|---|"]
    for library, names in jobs.items():
        right = sum(known[name]["fault"] is None for name in names)
        lines.append(f"| {library} | {len(names)} | {right} | {right / len(names):.1%} |")
    failures = [f"- {r['title']}: {r['fault']}" for r in known.values() if r["fault"] is not None]
    kinds = [f"- {r['title']}: {r['head']}" for r in known.values() if r["special"]]
    write_result(
        __file__,
        f"{__doc__}\n" + "\n".join(lines) + "\n\nNot found or not right:\n\n" + ("\n".join(failures) or "none")
        + "\n\nHeads that are no single linear layer:\n\n" + ("\n".join(kinds) or "none"),
    )  # fmt: skip


def _read(results: Path) -> dict[str, dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def _judge_slice(names: list[str], results: Path) -> None:
    """In a process of its own, whose memory goes back with it; what kills the process is the next model's fault."""
    with suppress(BrokenProcessPool):
        alone(judge, names, results)
    left = [name for name in names if name not in _read(results)]
    if left:
        _append(results, {"name": left[0], "title": left[0], "fault": "its process died", "head": "", "special": False})


def _append(results: Path, line: dict[str, Any]) -> None:
    with results.open("a") as stream:
        print(json.dumps(line), file=stream)


def judge(names: list[str], results: Path) -> None:
    """Write a line for each model: what is wrong with its head, if anything."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    _start_cheaply()
    for name in names:
        line = _judged(name)
        _append(results, line)
        print(line["title"], line["fault"] or "right", line["head"], flush=True)


def _judged(name: str) -> dict[str, Any]:
    line: dict[str, Any] = {"name": name, "title": name, "fault": None, "head": "", "special": False}
    try:
        line["title"], network, examples, declared = build(name)
        network, head, example = _find(network, examples)
        paths = (head.path, *head.more)
        line["head"] = " + ".join(_describe(network, path) for path in paths)
        line["special"] = len(paths) > 1 or not isinstance(network.get_submodule(head.path), nn.Linear)
        line["fault"] = _fault(network, head, example, declared)
    except Exception as error:
        line["fault"] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"
    return line


def _start_cheaply() -> None:
    """Which random numbers a network starts with does not matter here, and drawing them takes most of the time: one
    draw is repeated.
    """
    noise = 0.02 * torch.randn(2**20)

    def fill(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        if tensor.device.type == "cpu":
            with torch.no_grad():
                tensor.copy_(noise.repeat(-(-tensor.numel() // len(noise)))[: tensor.numel()].view(tensor.shape))
        return tensor

    drawn = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
    for name in (*drawn, "xavier_normal_", "orthogonal_"):
        setattr(nn.init, name, fill)
    from timm.layers import weight_init

    weight_init._trunc_normal_ = fill


def build(name: str) -> tuple[str, nn.Module, list[torch.Tensor], tuple[str, ...] | None]:
    """A title, the network, inputs to try in turn, and where the library says that the head is, if it does."""
    kind, _, model = name.partition(":")
    if kind == "torchvision":
        import torchvision

        options: dict[str, Any] = {"init_weights": False} if model in {"googlenet", "inception_v3"} else {}
        patch = int(model.rpartition("_")[2]) if model.startswith("vit_") else 32
        if model.startswith("vit_"):
            options["image_size"] = 2 * patch
        network: Any = torchvision.models.get_model(model, weights=None, num_classes=N_CLASSES, **options)
        return name, network, [_images(2 * patch), _images(96), _images(224)], None
    if kind == "timm":
        import timm

        small = smallest(model)
        network = timm.create_model(small, pretrained=False, num_classes=N_CLASSES)
        config = network.pretrained_cfg
        native = config["input_size"][1]
        # What patches of 16 and of 14 pixels fill, and what the model was made for.
        sizes = [native] if config.get("fixed_input_size") else [96, 112, native]
        declared = config["classifier"]
        return (
            f"{name} ({small})",
            network,
            [_images(size, config["input_size"][0]) for size in sizes],
            (declared,) if isinstance(declared, str) else tuple(declared),
        )
    import transformers

    text = kind == "text"
    options, declared = (TEXT_FAMILIES if text else IMAGE_FAMILIES)[model]
    common = {**COMMON, "pad_token_id": 0} if text else {n: COMMON[n] for n in ("hidden_size", "num_attention_heads")}
    transformers.logging.set_verbosity_error()
    config = transformers.AutoConfig.for_model(model, **{**common, **options, "num_labels": N_CLASSES})
    if text:
        network = transformers.AutoModelForSequenceClassification.from_config(config)
        ids = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))
        ids[:, -1] = getattr(config, "eos_token_id", None) or ids[0, -1]  # BART and T5 read the class off the last mark
        return name, network, [ids], (declared,)
    return name, transformers.AutoModelForImageClassification.from_config(config), [_images(32)], (declared,)


def smallest(module: str) -> str:
    """Of the four models of a family whose names look smallest, the one with the fewest weights."""
    import timm

    def rank(name: str) -> int:
        return next((place for place, word in enumerate(SIZE_WORDS) if word in name), len(SIZE_WORDS))

    def weights(name: str) -> int:
        with torch.device("meta"):
            try:
                network = timm.create_model(name, num_classes=N_CLASSES)
                # Some are encoders, and no classifiers.
                return sum(p.numel() for p in network.parameters()) if network.num_classes else 10**12
            except Exception:  # some compute with their weights while they are built, which this device cannot
                return 10**12

    names = sorted(timm.list_models(module=module), key=lambda name: (rank(name), len(name)))[:4]
    return names[0] if rank(names[0]) == 0 else min(names, key=weights)


def _images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn((2, channels, size, size), generator=torch.Generator().manual_seed(0))


def _find(network: nn.Module, examples: list[torch.Tensor]) -> tuple[nn.Module, Head, torch.Tensor]:
    """The network, returning logits, with its head; on the first inputs that it takes."""
    for example in examples:
        try:
            part = logit_parts(network, N_CLASSES, example)[0]
        except BackboneError:
            if example is examples[-1]:
                raise
            continue
        wrapped = network if part is None else LogitsOf(network, part)
        return wrapped, find_head(wrapped, N_CLASSES, example), example
    raise AssertionError("no inputs")


def _fault(network: nn.Module, head: Head, example: torch.Tensor, declared: tuple[str, ...] | None) -> str | None:
    paths = (head.path, *head.more)
    names = [path.removeprefix("network.") if isinstance(network, LogitsOf) else path for path in paths]
    for wanted in declared or ():
        if not any(_is_part(name, wanted) or _is_part(wanted, name) for name in names):
            return f"found {', '.join(names)}; the library declares {wanted}"
    network.eval()
    rows = {path: _layers_with_rows(network.get_submodule(path)) for path in paths}
    with torch.no_grad():
        for layer in chain(*rows.values()):
            layer.weight.normal_(std=0.5)  # some heads start at zero
            if layer.bias is not None:
                layer.bias.fill_(0.5)
        before = network(example)
        for k in (0, N_CLASSES // 2, N_CLASSES - 1):
            for path, layers in {**rows, "all": [*chain(*rows.values())]}.items():
                if (changed := _changed(network, example, before, layers, k)) != [k]:
                    return f"zeroing row {k} of {path} changes logits {changed}"
    return None


def _is_part(path: str, of: str) -> bool:
    return path == of or path.startswith(f"{of}.")


def _layers_with_rows(part: nn.Module) -> list[Any]:
    """A layer of a row a class; of a module that is linear as a whole, those in it."""
    return [part] if hasattr(part, "weight") else [one for one in part.modules() if isinstance(one, nn.Linear)]


def _changed(network: nn.Module, example: torch.Tensor, before: torch.Tensor, layers: list[Any], k: int) -> list[int]:
    """The logits that change where row k of some layers is 0."""
    kept = [
        (tensor, tensor[k].clone()) for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None
    ]
    for tensor, _ in kept:
        tensor[k] = 0
    changed = ~torch.isclose(network(example), before, rtol=1e-3, atol=1e-5).all(dim=0)
    for tensor, row in kept:
        tensor[k] = row
    return changed.nonzero().flatten().tolist()


def _describe(network: nn.Module, path: str) -> str:
    part = network.get_submodule(path)
    rows = ", ".join(str(tuple(layer.weight.shape)) for layer in _layers_with_rows(part))
    return f"{path.removeprefix('network.')} {type(part).__name__} {rows}"


if __name__ == "__main__":
    command(main)
