"""Training: optimizers, losses, callbacks, checkpoints and the run directory around Keras' own `fit`."""
