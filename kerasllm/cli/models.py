"""The task model that a command needs."""

from typing import TYPE_CHECKING

from kerasllm.errors import PresetError

if TYPE_CHECKING:
    from kerasllm.tasks.text_classification import TextClassifier

__all__ = ["load_classifier"]


def load_classifier(path: str) -> "TextClassifier":
    """Loads a model that classifies.

    Raises:
        PresetError: If it continues texts instead.
    """
    from kerasllm.api import load
    from kerasllm.tasks.text_classification import TextClassifier

    model = load(path)
    if not isinstance(model, TextClassifier):
        raise PresetError(
            f"`{path}` continues texts, and this is for models that classify them. Let it speak by "
            f"`kerasllm predict {path} TEXT` or, with a chat template, `kerasllm chat {path}`."
        )
    return model
