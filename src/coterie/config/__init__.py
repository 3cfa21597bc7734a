"""Every setting a run has: one small frozen class per stage, validated when it is read, YAML in and out.

The command line's options are derived from these classes; there is no second list.
"""

from coterie.config.data import DataSettings
from coterie.config.defaults import PROBE
from coterie.config.fit import AUTO, FREE_SETTINGS, FitSettings
from coterie.config.settings import Settings, merged
from coterie.config.source import PLACES, full_source
from coterie.config.stages import EXACT_BITS, GateSettings, PartitionSettings, SpecialistSettings, TrainingSettings
from coterie.config.system import EngineSettings, HardwareSettings, TrackSettings

__all__ = [
    "AUTO",
    "EXACT_BITS",
    "FREE_SETTINGS",
    "PLACES",
    "PROBE",
    "DataSettings",
    "EngineSettings",
    "FitSettings",
    "GateSettings",
    "HardwareSettings",
    "PartitionSettings",
    "Settings",
    "SpecialistSettings",
    "TrackSettings",
    "TrainingSettings",
    "full_source",
    "merged",
]
