"""Specialists for the classes your classifier confuses, and an honest account of what they buy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coterie.config import FitSettings
    from coterie.ensemble.ensemble import SpecialistEnsemble
    from coterie.errors import CoterieError
    from coterie.estimator import CoterieClassifier
    from coterie.partition import Partition
    from coterie.pipeline.distil import distil
    from coterie.pipeline.fit import fit
    from coterie.run.load import load_ensemble as load

__all__ = [
    "CoterieClassifier",
    "CoterieError",
    "FitSettings",
    "Partition",
    "SpecialistEnsemble",
    "distil",
    "fit",
    "load",
]

# Imported when first used: `coterie --help` must not wait for torch.
_HOMES = {
    "CoterieClassifier": "coterie.estimator",
    "CoterieError": "coterie.errors",
    "FitSettings": "coterie.config",
    "Partition": "coterie.partition",
    "SpecialistEnsemble": "coterie.ensemble.ensemble",
    "distil": "coterie.pipeline.distil",
    "fit": "coterie.pipeline.fit",
    "load": "coterie.run.load",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("coterie")
    if name not in _HOMES:
        raise AttributeError(f"module 'coterie' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), "load_ensemble" if name == "load" else name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
