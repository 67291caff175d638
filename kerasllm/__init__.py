"""Fine-tune a pretrained language model in Keras, and serve it as one SavedModel, text in and text out.

The public names are imported when they are first used, so that `import kerasllm` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm import callbacks, metrics, serving, testing
    from kerasllm.api import finetune, load
    from kerasllm.models.presets import Preset
    from kerasllm.serving.exported_model import ExportedModel
    from kerasllm.tasks.chat import Chat
    from kerasllm.tasks.text_classification import TextClassifier
    from kerasllm.tasks.text_generation import TextGenerator
    from kerasllm.tokenization.tokenizer import Tokenizer

__version__ = "0.1.0"

_HOME = {
    "Chat": "kerasllm.tasks.chat",
    "ExportedModel": "kerasllm.serving.exported_model",
    "Preset": "kerasllm.models.presets",
    "TextClassifier": "kerasllm.tasks.text_classification",
    "TextGenerator": "kerasllm.tasks.text_generation",
    "Tokenizer": "kerasllm.tokenization.tokenizer",
    "finetune": "kerasllm.api",
    "load": "kerasllm.api",
}
_MODULES = ("callbacks", "metrics", "serving", "testing")

__all__ = [
    "Chat",
    "ExportedModel",
    "Preset",
    "TextClassifier",
    "TextGenerator",
    "Tokenizer",
    "callbacks",
    "finetune",
    "load",
    "metrics",
    "serving",
    "testing",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"kerasllm.{name}")
    raise AttributeError(f"module 'kerasllm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
