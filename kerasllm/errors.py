"""What can go wrong, as one tree: catch `KerasLLMError` and you have caught us all.

Every message says what was received, what was expected and what to do about it.
"""

__all__ = [
    "AdapterError",
    "CheckpointError",
    "ColumnError",
    "ConfigError",
    "DataError",
    "DependencyError",
    "ExportError",
    "KerasLLMError",
    "LabelError",
    "PresetError",
    "ResourceError",
    "RunDirectoryError",
    "ServingError",
    "TokenizerError",
    "TrainingError",
]


class KerasLLMError(Exception):
    """Any error that kerasllm raises on purpose; the message is one that a user can act on."""


class ConfigError(KerasLLMError, ValueError):
    """A configuration that cannot be run; lists every problem found, not only the first."""


class ResourceError(KerasLLMError, OSError):
    """A handle or file that cannot be turned into a local path, or whose hash differs."""


class DataError(KerasLLMError, ValueError):
    """Data that cannot be read or learned from; names the file and the lines."""


class ColumnError(DataError):
    """A table whose columns do not fit the task."""


class LabelError(DataError):
    """Labels that are missing, unknown or cannot be learned from."""


class TokenizerError(KerasLLMError, ValueError):
    """A `tokenizer.json` that cannot be run exactly, or text that cannot be tokenized."""


class PresetError(KerasLLMError, ValueError):
    """A pretrained checkpoint that is unknown, unsupported, damaged or does not fit."""


class AdapterError(KerasLLMError, ValueError):
    """An adapter that does not fit the model, is damaged, or cannot be merged exactly."""


class TrainingError(KerasLLMError, RuntimeError):
    """A training run that cannot go on."""


class RunDirectoryError(KerasLLMError, OSError):
    """A run or model directory that is locked, damaged, incomplete or of another version."""


class CheckpointError(RunDirectoryError):
    """A training checkpoint that is missing or damaged."""


class ExportError(KerasLLMError, RuntimeError):
    """An export that was refused; nothing was published."""


class ServingError(KerasLLMError, RuntimeError):
    """A server that cannot start, or a request that a server answered with an error.

    Attributes:
        status: HTTP status or gRPC code name of the answer, `None` when there was none.
    """

    def __init__(self, message: str, *, status: int | str | None = None):
        super().__init__(message)
        self.status = status


class DependencyError(KerasLLMError, ImportError):
    """A package that an optional feature needs is not installed."""
