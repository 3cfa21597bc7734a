"""Every error that coterie raises on purpose.

::

    CoterieError
    ├── SettingsError     a setting's value, or a settings file
    ├── DataError         a data set: missing, broken, or unfit for the task
    ├── BackboneError     a network: unknown, unfit for the data, or without the head that the method needs
    ├── PartitionError    label embeddings or a number of clusters that cannot be partitioned
    ├── TrainingError     a training that went wrong (the loss is not finite)
    ├── ArtifactError     a run folder: missing, damaged, newer, held by another process, or of another run
    ├── DeclinedError     no error: the forecast is below the gain that was asked for; the run can go on
    ├── ExportError       a network that a target of export cannot express
    ├── LimitError        a limit of time or memory is reached; the run can go on
    ├── EngineError       workers or a cluster: none there, other versions, or one that died
    └── InputError        arrays, texts or tables passed to a trained ensemble

The message of each is one screen at most and names the value that was given and the values allowed; the command
line prints it as it is and exits with 1, with 75 where a limit was reached, and with 0 where training was declined.
"""

# Characters of a message, which may quote names of any length.
LONGEST = 2500


class CoterieError(Exception):
    """The root: ``except CoterieError`` catches all that coterie raises on purpose.

    Of a message that is longer than a screen, the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        half = (LONGEST - 5) // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:half]} ... {message[-half:]}")


class SettingsError(CoterieError):
    """A setting has a value that is not allowed, or a settings file cannot be read."""


class DataError(CoterieError):
    """A data set is missing, broken, or does not fit the task."""


class BackboneError(CoterieError):
    """A network is unknown, does not fit the data, or has no head that can be found."""


class PartitionError(CoterieError):
    """Label embeddings cannot be partitioned into the number of clusters asked for."""


class TrainingError(CoterieError):
    """A training cannot go on."""


class ArtifactError(CoterieError):
    """A run folder is missing, damaged, from a newer version, held by another process, or holds another run."""


class ExportError(CoterieError):
    """A network cannot be written as a graph, or the target lacks one of its operations."""


class LimitError(CoterieError):
    """A limit of time or memory is reached. The state is kept, and the same command goes on."""


class DeclinedError(CoterieError):
    """Specialists are forecast to gain less than was asked for. The base is kept, and the run can go on."""


class EngineError(CoterieError):
    """Workers or a cluster cannot be used, or died during the work."""


class InputError(CoterieError):
    """Arrays, texts or tables passed to a trained ensemble are not as its networks take them."""


def first_line(error: Exception, most: int = 400) -> str:
    """What a library's error says first, in so many characters at most; its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:most]
