"""Plain Keras callbacks of ours, for anyone's `fit()`.

>>> model.fit(x, y, callbacks=[kerasllm.callbacks.FiniteLoss()])
"""

from kerasllm.training.callbacks import FiniteLoss

__all__ = ["FiniteLoss"]
