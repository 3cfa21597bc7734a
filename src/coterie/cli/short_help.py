"""The help of ``coterie fit`` that shows what most people set; ``--help-all`` shows the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from coterie.config import DataSettings, EngineSettings, FitSettings, GateSettings, Settings

HELP, HELP_ALL = {"--help", "-h"}, "--help-all"
REST = "What most people set; `coterie fit --help-all` shows all options, by group."
# Settings that are shown, by group, in fewer words where there are some.
SHOWN: Mapping[type[Settings], Mapping[str, str]] = {
    FitSettings: {
        "data": "",
        "backbone": "auto (the best for the data that is installed) | convnet-WIDTH | ngram-WIDTH | mlp-WIDTH | "
        "timm:NAME | torchvision:NAME | transformers:DIR-or-NAME | module:function | ...",
        "weights": "FILE with the weights of a trained base, which is not trained again",
        "init": "pretrained, or a FILE: weights that the training of the base starts from",
        "recipe": "what specialists are; auto: by what the base is, and the plan says which",
        "budget": "",
        "storage": "weights in all, in those of the base",
        "seed": "",
        "gate": "",
    },
    DataSettings: {"source": "", "text": "", "label": ""},
    GateSettings: {"passes": "limit of the average passes per sample, the base's included; auto: 1.5"},
    EngineSettings: {"workers": ""},
}
# Of what a command itself takes, all is shown but these.
RARE = {"trust", "base_only"}


def shown_alone() -> ConstructorRegistry:
    """For a help alone: with it, no other options are known."""
    registry = ConstructorRegistry()
    registry.struct_rule(_shown)
    return registry


def _shown(info: StructTypeInfo) -> StructConstructorSpec | None:
    made: Any = info.type  # a function too, whatever tyro's type says
    if inspect.isfunction(made):
        return StructConstructorSpec(made, tuple(_arguments(made)))
    if isinstance(made, type) and issubclass(made, Settings):
        return StructConstructorSpec(made, tuple(_settings(made, info.default)))
    return None


def _arguments(command: Callable[..., None]) -> Iterator[StructFieldSpec]:
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in RARE:
            default = MISSING_NONPROP if parameter.default is parameter.empty else parameter.default
            yield StructFieldSpec(name, hints[name], default)


def _settings(group: type[Settings], defaults: Settings) -> Iterator[StructFieldSpec]:
    for name, text in SHOWN.get(group, {}).items():
        field = group.model_fields[name]
        kind: Any = field.annotation
        yield StructFieldSpec(name, kind, getattr(defaults, name), text or field.description)
