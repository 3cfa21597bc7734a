"""A run that answers by one network of transformers, as a folder that the library's pipelines load."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from coterie.arrays import FloatArray
from coterie.backbones.head import Head
from coterie.backbones.libraries import import_transformers
from coterie.backbones.output import LogitsOf
from coterie.backbones.prescribed import RESAMPLINGS
from coterie.backbones.text_classifier import SentenceClassifier, TextClassifier
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ExportError, SettingsError, first_line
from coterie.export.targets import WeightsName, quiet
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples, TokenPreprocessing
from coterie.run.folder import FinishedRun

OTHERWISE = "--to onnx and --to torch write it"
WHITE = 255


class PretrainedFolder:
    """A folder for ``pipeline("text-classification")`` or ``pipeline("image-classification")``.

    Args:
        weights: fp32 or fp16.
        raw: is for graphs.

    Raises:
        SettingsError: another one, or raw.
    """

    def __init__(self, weights: WeightsName, *, raw: bool) -> None:
        if weights == "int8":
            raise SettingsError("--to transformers keeps weights as fp32 or fp16: int8 is for --to onnx and openvino")
        if raw:
            raise SettingsError("--raw-inputs is for graphs: a folder of transformers has its own preprocessing")
        self.weights = weights

    def take(self, run: FinishedRun, ensemble: SpecialistEnsemble) -> None:
        """A run without specialists to ask, whose base is a classifier of transformers."""
        if run.manifest.gate.threshold is not None:
            raise ExportError(
                f"{run.path} answers by several networks, and a folder of transformers holds one: coterie distil "
                f"{run.path} --out NEW makes one of them"
            )
        self.form = ensemble.preprocessing
        base = copy.deepcopy(ensemble.base)  # what it is compared with stays as it is
        self.model = _classifier(base)
        self.temperature = ensemble.rule.temperatures.base
        _divide_logits(base, run.manifest.head, self.temperature)
        self.names = ensemble.labels.names
        self.processor = _tokenizer(self.form) if isinstance(self.form, TokenPreprocessing) else _processor(self.form)

    def write(self, folder: Path, samples: Samples, head: dict[str, Any]) -> dict[str, Any]:
        """Configuration, weights, and tokenizer or image processor."""
        config = self.model.config
        config.id2label = dict(enumerate(self.names))
        config.label2id = {name: k for k, name in enumerate(self.names)}
        config.problem_type = "single_label_classification"  # whose pipelines answer by the softmax
        model = self.model.half() if self.weights == "fp16" else self.model
        with quiet():
            model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        self.folder = folder
        return {**head, "task": self._task, "temperature_in_head": self.temperature}

    def answers(self, samples: Samples) -> FloatArray:
        """By the pipeline. Images have the network's size already, so they are neither resized nor cut."""
        transformers = import_transformers(str(self.folder))
        with quiet():
            try:
                pipeline = transformers.pipeline(self._task, model=str(self.folder), device="cpu")
            except Exception as error:  # the library raises OSError, ValueError and others
                raise ExportError(f"transformers does not load its own folder: {first_line(error)}") from error
            if self._task == "image-classification":
                pipeline.image_processor.do_resize = pipeline.image_processor.do_center_crop = False
                found = pipeline(_pictures(samples), top_k=len(self.names))
            else:
                texts = [samples.show(row) for row in range(len(samples))]
                found = pipeline(texts, top_k=len(self.names), truncation=True)
        scores = [{each["label"]: each["score"] for each in row} for row in found]
        return np.array([[row[name] for name in self.names] for row in scores], dtype=np.float32)

    @property
    def _task(self) -> str:
        return "text-classification" if isinstance(self.form, TokenPreprocessing) else "image-classification"


def _classifier(base: nn.Module) -> Any:
    """The model of transformers in a base."""
    network: Any = base
    while isinstance(network, TextClassifier | LogitsOf):
        network = network.network
    if isinstance(network, SentenceClassifier):
        raise ExportError(
            f"the base is a sentence encoder with a head on the {network.pooling} of a text's vectors, for which "
            f"transformers has no class: {OTHERWISE}"
        )
    if not hasattr(network, "save_pretrained"):
        raise ExportError(f"the base, a {type(network).__name__}, is no model of transformers: {OTHERWISE}")
    return network


def _divide_logits(base: nn.Module, head: Head, temperature: float) -> None:
    """Divide the logits of a base by a temperature, in its head."""
    if temperature == 1:
        return
    layers = head.layers(base)
    if len(layers) <= len(head.more) or not all(isinstance(layer, nn.Linear) for layer in layers):
        raise ExportError(
            f"the head at {head.path} is not linear, so the temperature {temperature:.3g} of the run's probabilities "
            f"cannot be in it: {OTHERWISE}"
        )
    with torch.no_grad():
        for parameter in {parameter for layer in layers for parameter in layer.parameters()}:
            parameter.div_(temperature)


def _tokenizer(form: TokenPreprocessing) -> Any:
    from tokenizers import Tokenizer  # of no use to a run of images

    tokenizer = Tokenizer.from_str(form.tokenizer)
    # What the file says of padding and length is undone, as in ``TokenPreprocessing``.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return import_transformers("tokenizer").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=tokenizer.id_to_token(form.padding),
        model_max_length=form.longest,
        truncation_side=form.cut,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],  # the networks are given no types
    )


def _processor(form: Preprocessing) -> Any:
    if not isinstance(form, ImagePreprocessing) or form.channels != 3:
        raise ExportError(f"the base takes {form.wanted}; pipelines give networks images in colour, or texts")
    size, crop = form.resize, (form.height, form.width)
    if not size and form.height != form.width:
        raise ExportError(
            f"the largest part of an image that is {form.width} to {form.height} is none that transformers cuts out: "
            f"{OTHERWISE}"
        )
    size = size or crop[:1]
    return import_transformers("processor").CLIPImageProcessor(
        size=dict(zip(("height", "width"), size, strict=True)) if len(size) == 2 else {"shortest_edge": size[0]},
        crop_size=dict(zip(("height", "width"), crop, strict=True)),
        resample={name: number for number, name in RESAMPLINGS.items()}[form.interpolation],
        image_mean=[value / WHITE for value in form.mean],
        image_std=[value / WHITE for value in form.std],
    )


def _pictures(samples: Samples) -> list[Image.Image]:
    return [Image.fromarray(pixels.numpy()) for pixels in samples.read(torch.arange(len(samples)))]
