"""Plain Keras callbacks of ours, for anyone's `fit`; each is imported when it is first used.

>>> stop = keras.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=2)
>>> metrics = kerasllm.callbacks.TaskMetrics((x_validation, y_validation))
>>> resume = kerasllm.callbacks.ExactResume("runs/mine", callbacks=[metrics, stop])
>>> model.fit(batches, epochs=10, callbacks=[resume])
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm.tasks.saved_model_export import SavedModelExport
    from kerasllm.training.callbacks import FiniteLoss
    from kerasllm.training.exact_resume import ExactResume
    from kerasllm.training.meter import BatchCounts
    from kerasllm.training.optimizers.unfreezing import GradualUnfreezing
    from kerasllm.training.task_metrics import TaskMetrics
    from kerasllm.training.throughput import Throughput

_HOME = {
    "BatchCounts": "kerasllm.training.meter",
    "ExactResume": "kerasllm.training.exact_resume",
    "FiniteLoss": "kerasllm.training.callbacks",
    "GradualUnfreezing": "kerasllm.training.optimizers.unfreezing",
    "SavedModelExport": "kerasllm.tasks.saved_model_export",
    "TaskMetrics": "kerasllm.training.task_metrics",
    "Throughput": "kerasllm.training.throughput",
}

__all__ = [
    "BatchCounts",
    "ExactResume",
    "FiniteLoss",
    "GradualUnfreezing",
    "SavedModelExport",
    "TaskMetrics",
    "Throughput",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kerasllm.callbacks' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
