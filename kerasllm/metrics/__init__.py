"""NumPy in, float out: metrics for anyone's arrays. No TensorFlow."""

from kerasllm.metrics.bootstrap import bootstrap_interval
from kerasllm.metrics.calibration import brier_score, calibration_bins, expected_calibration_error, log_loss
from kerasllm.metrics.classification import accuracy, confusion_matrix, f1, precision_recall_f1

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "brier_score",
    "calibration_bins",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "log_loss",
    "precision_recall_f1",
]
