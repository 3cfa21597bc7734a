"""Does a model get from coterie what its own library would feed it?

For how many of timm's architectures, and of all its models, is a preprocessing found, of those that have a
`pretrained_cfg`? And of ten pictures of several sizes and proportions, what is the largest difference between the
inputs that coterie makes and those of the library's own transform: for a model of every architecture of timm, for all
of torchvision, and for image processors of transformers? Where the weights are installed, the same of the answers: of
efficientnet-lite0's logits on these pictures, and of MiniLM's sentence vectors on ten texts. On CPUs, in single
precision; timm and torchvision resize by Pillow, as coterie does, transformers by torch.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.shared import command, markdown_table, write_result
from coterie.backbones.base import make_base, preprocessing_of_base
from coterie.backbones.head import head_inputs
from coterie.backbones.packages import LITE0, MINILM, installed_package
from coterie.backbones.prescribed import prescribed_images
from coterie.backbones.weights import read_weights
from coterie.config import DataSettings, FitSettings
from coterie.data.decode import read_images
from coterie.errors import BackboneError
from coterie.inputs import ImagePreprocessing, Preprocessing
from coterie.labels import LabelSpace

SIZES = [
    (320, 240),
    (240, 321),
    (300, 300),
    (64, 61),
    (500, 375),
    (375, 500),
    (256, 256),
    (97, 203),
    (224, 224),
    (9, 40),
]
# Equal up to single precision; where torch resizes, up to two levels of 255.
EQUAL, EQUAL_BY_TORCH = 1e-4, 2.01
PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {},
    "BeitImageProcessor": {"size": {"height": 224, "width": 224}},
    "DeiTImageProcessor": {},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}},
    "CLIPImageProcessor": {},
    "LevitImageProcessor": {},
    "MobileNetV2ImageProcessor": {},
}
TEXTS = [
    "how do I reset my password", "my card was declined", "book a table for two", "what is the weather in Oslo",
    "play something quiet", "?", "transfer 20 euros to Ana", "is this flight delayed?", "Übermorgen um acht",
    "a much longer question " * 30,
]  # fmt: skip


def main() -> None:
    """Compare all of it."""
    import timm
    from torchvision import models

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files, place = pictures(Path(folder)), Path(folder)
        counts, chosen = timm_models()
        rows = [
            compared("timm, a model of each architecture", chosen, lambda name: of_timm(name, files)),
            compared("torchvision", models.list_models(module=models), lambda name: of_torchvision(name, files)),
            compared("transformers' processors", PROCESSORS, lambda name: of_processor(name, files, place)),
        ]
        answers = [lite0(files), minilm()]
    heading = ("", "models", "equal", "largest difference", "not made, or not equal")
    write_result(
        __file__,
        f"{__doc__}\ntimm {timm.__version__}: {counts}\n\n{markdown_table(heading, rows)}\n\n"
        "Equal means inputs to 1e-4; of transformers, to two levels of 255.\n\n"
        + markdown_table(("answers", "largest difference", "largest value"), answers),
    )


def pictures(folder: Path) -> list[Path]:
    """Blurred noise, which resizing by another rule changes."""
    rng, files = np.random.default_rng(0), []
    for number, size in enumerate(SIZES):
        small = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        files.append(folder / f"{number}.png")
        small.resize(size, Image.Resampling.BICUBIC).save(files[-1])
    return files


def opened(files: list[Path]) -> list[Image.Image]:
    """In colour."""
    return [Image.open(file).convert("RGB") for file in files]


def inputs_of(form: ImagePreprocessing, files: list[Path]) -> Tensor:
    """As coterie makes them."""
    samples, _, _ = read_images(files, form)
    return form(samples.read(torch.arange(len(samples))))


def prescribed(backbone: str) -> ImagePreprocessing:
    """What coterie finds; an error where that is nothing."""
    form = prescribed_images(backbone, DataSettings(), pretrained=False)
    if form is None:
        raise BackboneError("none found")
    return form


def timm_models() -> tuple[str, list[str]]:
    """How many have a configuration, and of how many it is found; and a model of each architecture."""
    import timm

    def found(name: str) -> bool:
        try:
            return prescribed_images(f"timm:{name}", DataSettings(), pretrained=False) is not None
        except BackboneError:
            return False

    of_module = {module: timm.list_models(module=module) for module in timm.list_modules()}
    stated = {m: [n for n in names if timm.get_pretrained_cfg(n) is not None] for m, names in of_module.items()}
    stated = {module: names for module, names in stated.items() if names}
    made = {module: [name for name in names if found(name)] for module, names in stated.items()}
    n_stated, n_made = (sum(map(len, each.values())) for each in (stated, made))
    families = sum(map(bool, made.values()))
    counts = (
        f"of {len(of_module)} architectures {len(stated)} have a `pretrained_cfg`, and for {families} of these a "
        f"preprocessing is found ({families / len(stated):.1%}); of {n_stated} models with one it is for {n_made} "
        f"({n_made / n_stated:.1%})."
    )
    return counts, [min(made[module] or names, key=len) for module, names in stated.items()]


def compared(title: str, names: Iterable[str], difference: Callable[[str], tuple[float, float]]) -> list[object]:
    """A row: models, how many are equal, the largest difference among these, and the others."""
    worst, equal, others, n = 0.0, 0, [], 0
    for n, name in enumerate(names, 1):  # noqa: B007 - their number
        try:
            found, allowed = difference(name)
        except BackboneError as error:
            others.append(f"{name}: {error}")
            continue
        if found <= allowed:
            equal, worst = equal + 1, max(worst, found)
        else:
            others.append(f"{name}: {found:.3g}")
        print(title, name, found, flush=True)
    return [title, n, equal, f"{worst:.2g}", "; ".join(others) or "none"]


def of_timm(name: str, files: list[Path]) -> tuple[float, float]:
    """The largest difference from timm's own inputs, and what counts as none."""
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    form = prescribed(f"timm:{name}")
    found = timm.get_pretrained_cfg(name)
    assert found is not None
    config = resolve_data_config({}, pretrained_cfg=found.to_dict())
    transform = create_transform(**config)
    return _largest(inputs_of(form, files), [transform(image) for image in opened(files)]), EQUAL


def of_torchvision(name: str, files: list[Path]) -> tuple[float, float]:
    """The same of torchvision's."""
    from torchvision import models

    form = prescribed(f"torchvision:{name}")
    transform = models.get_model_weights(name).DEFAULT.transforms()
    return _largest(inputs_of(form, files), [transform(image) for image in opened(files)]), EQUAL


def of_processor(name: str, files: list[Path], folder: Path) -> tuple[float, float]:
    """The same of a processor of transformers, in levels of 255."""
    import transformers

    made = getattr(transformers, name)(**PROCESSORS[name])
    made.save_pretrained(folder / name)
    form = prescribed(f"transformers:{folder / name}")
    theirs = [made(image, return_tensors="pt")["pixel_values"][0] for image in opened(files)]
    levels = torch.tensor(form.std)[:, None, None]
    return _largest(inputs_of(form, files) * levels, [each * levels for each in theirs]), EQUAL_BY_TORCH


def _largest(ours: Tensor, theirs: list[Tensor]) -> float:
    if ours.shape[1:] != theirs[0].shape:
        return float("inf")
    return float((ours - torch.stack(theirs)).abs().max())


def lite0(files: list[Path]) -> list[object]:
    """Logits by coterie's base, and by timm's model in timm's transform, with the package's weights, mean and std."""
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    package, settings = installed_package(LITE0), FitSettings(backbone=LITE0, init="pretrained")
    assert package is not None, "the extra images is not installed"
    form = preprocessing_of_base(settings)
    assert isinstance(form, ImagePreprocessing)
    ours = make_base(settings, LabelSpace(tuple(f"class {k}" for k in range(1000))), form).network.eval()
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    state = read_weights(str(package.path)).state
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    config = resolve_data_config({}, model=theirs)
    config |= {"mean": tuple(m / 255 for m in package.mean), "std": tuple(s / 255 for s in package.std)}
    transform = create_transform(**config)
    with torch.no_grad():
        wanted = theirs(torch.stack([transform(image) for image in opened(files)]))
        difference = float((ours(inputs_of(form, files)) - wanted).abs().max())
    return ["efficientnet-lite0, logits of ten pictures", f"{difference:.2g}", f"{float(wanted.abs().max()):.3g}"]


def minilm() -> list[object]:
    """What enters the head of coterie's text classifier, and sentence-transformers' vectors; both of length 1."""
    from sentence_transformers import SentenceTransformer

    package, settings = installed_package(MINILM), FitSettings(backbone=MINILM, init="pretrained")
    assert package is not None, "the extra minilm is not installed"
    form = preprocessing_of_base(settings)
    assert isinstance(form, Preprocessing)
    base = make_base(settings, LabelSpace(("yes", "no")), form)
    samples = form.samples(TEXTS)
    with torch.no_grad(), head_inputs(base.network.eval(), base.head) as seen:
        base.network(form(samples.read(torch.arange(len(TEXTS)))))
    model = SentenceTransformer(str(package.path), local_files_only=True)
    wanted = model.encode(TEXTS, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
    difference = float((torch.nn.functional.normalize(seen[0]) - wanted.cpu()).abs().max())
    return ["MiniLM, sentence vectors of ten texts", f"{difference:.2g}", f"{float(wanted.abs().max()):.3g}"]


if __name__ == "__main__":
    command(main)
