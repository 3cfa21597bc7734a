"""Graphs to files of a target, and back to something that runs."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim, ExportedProgram
from typing_extensions import override

from coterie.errors import ExportError, SettingsError, first_line
from coterie.export.graphs import EnsembleGraph, NetworkGraph
from coterie.export.quantize import quantize_weights

TargetName: TypeAlias = Literal["onnx", "openvino", "torch", "transformers"]
GraphTargetName: TypeAlias = Literal["onnx", "openvino", "torch"]
# How weights are kept.
WeightsName: TypeAlias = Literal["fp32", "fp16", "int8"]
# From a batch to the outputs of a graph.
Runner = Callable[[Tensor], list[NDArray[Any]]]
INPUT = "inputs"


class Target(ABC):
    """A kind of file.

    Args:
        weights: how it keeps them; as fp16, the graphs that it is given hold them.

    Raises:
        SettingsError: it does not keep them so, or the extra is not installed.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def __init__(self, weights: WeightsName = "fp32") -> None: ...

    @abstractmethod
    def write(self, program: ExportedProgram, outputs: tuple[str, ...], notes: Mapping[str, str], file: Path) -> None:
        """Write a program with notes inside.

        Raises:
            ExportError: the target lacks an operation, which is named.
        """

    @abstractmethod
    def open(self, file: Path) -> Runner:
        """The file as a function, run by the target's own program."""


class Onnx(Target):
    """ONNX graphs, run by onnxruntime."""

    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    @override
    def __init__(self, weights: WeightsName = "fp32") -> None:
        self.weights = weights
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise SettingsError(f"--to onnx needs {', '.join(missing)}: pip install 'coterie[export]'")

    @override
    def write(self, program: ExportedProgram, outputs: tuple[str, ...], notes: Mapping[str, str], file: Path) -> None:
        with quiet():
            try:
                made = torch.onnx.export(
                    program, input_names=[INPUT], output_names=list(outputs), dynamo=True, verbose=False
                )
            except torch.onnx.OnnxExporterError as error:
                raise ExportError(_refusal(program, error)) from error
            assert made is not None  # no file was named
            if self.weights == "int8":
                quantize_weights(made.model)
            made.model.metadata_props.update(notes)
            made.save(file)

    @override
    def open(self, file: Path) -> Runner:
        import onnxruntime  # of the extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {INPUT: np.ascontiguousarray(batch.numpy())})


class OpenVino(Target):
    """Models of OpenVINO, read from ONNX graphs; weights are in a .bin beside each."""

    suffix = ".xml"

    @override
    def __init__(self, weights: WeightsName = "fp32") -> None:
        if importlib.util.find_spec("openvino") is None:
            raise SettingsError("--to openvino needs openvino: pip install 'coterie[openvino]'")
        self.graphs = Onnx(weights)

    @override
    def write(self, program: ExportedProgram, outputs: tuple[str, ...], notes: Mapping[str, str], file: Path) -> None:
        import openvino  # of the extra

        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "graph.onnx"
            self.graphs.write(program, outputs, {}, graph)
            try:
                # Not by its converter, which reports its use to its makers.
                model = openvino.Core().read_model(graph)
            except RuntimeError as error:
                raise ExportError(f"not written for OpenVINO: {first_line(error)}") from error
            for name, text in notes.items():
                model.set_rt_info(text, name)
            openvino.save_model(model, file, compress_to_fp16=False)

    @override
    def open(self, file: Path) -> Runner:
        import openvino  # of the extra

        model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda batch: list(model([np.ascontiguousarray(batch.numpy())]).values())


class Torch(Target):
    """Programs of torch.export, which ``torch.export.load`` reads; without coterie, and without code of its own."""

    suffix = ".pt2"

    @override
    def __init__(self, weights: WeightsName = "fp32") -> None:
        if weights == "int8":
            raise SettingsError("--to torch keeps weights as fp32 or fp16: int8 is for --to onnx and openvino")

    @override
    def write(self, program: ExportedProgram, outputs: tuple[str, ...], notes: Mapping[str, str], file: Path) -> None:
        with quiet():
            torch.export.save(program, file, extra_files=dict(notes))

    @override
    def open(self, file: Path) -> Runner:
        with quiet():
            module = torch.export.load(file).module()

        def run(batch: Tensor) -> list[NDArray[Any]]:
            with torch.no_grad():
                return [output.numpy() for output in module(batch)]

        return run


GRAPH_TARGETS: dict[GraphTargetName, type[Target]] = {"onnx": Onnx, "openvino": OpenVino, "torch": Torch}


def program_of(name: str, graph: NetworkGraph | EnsembleGraph, example: Tensor, *, any_length: bool) -> ExportedProgram:
    """The operations of a graph, for any number of samples.

    Args:
        name: of the graph, for messages.
        graph: in evaluation mode.
        example: inputs of at least two samples.
        any_length: whether the second axis varies too, as that of tokens.

    Raises:
        ExportError: its code cannot be followed, or it depends on the number of samples.
    """
    # A language model has places for so many tokens; torch finds the number.
    axes = {0: Dim.DYNAMIC} | ({1: Dim.DYNAMIC} if any_length else {})
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(graph, (example,), dynamic_shapes=({**axes},), strict=False)
        except Exception as error:  # whatever a foreign network raises on a stand-in for its inputs
            raise ExportError(
                f"{name} cannot be written as a graph for any number of samples: {first_line(error)}"
            ) from error


def _refusal(program: ExportedProgram, error: Exception) -> str:
    """Why ONNX cannot express a program: the operation that it lacks, and the module that uses it."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lacking = re.search(r"No ONNX function found for .*?'([\w.:]+)'", str(cause))
    if lacking is None:
        return f"not written as ONNX: {first_line(cause if isinstance(cause, Exception) else error)}"
    used = [node for node in program.graph.nodes if lacking[1].rpartition(".")[2] in str(node.target)]
    # From the outermost module to the one that uses it.
    paths = [path for node in used for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return f"ONNX lacks the operation {lacking[1]}" + (f", which the module {paths[-1]!r} uses" if paths else "")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters print, log and warn of: what matters of it is an error or shows in the parity."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
