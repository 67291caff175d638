"""Muon: orthogonalised updates of hidden matrices, AdamW for everything else."""

import re

import keras

from kerasllm.training.optimizers.adamw import bias_correction, fused_adam
from kerasllm.training.optimizers.grouped import Grouped

__all__ = ["HEADS", "Muon"]

# Layers that make the final logits: they, like embeddings, want AdamW.
HEADS = r"(?:^|/)(?:\w*head|classifier|logits|predictions)(?:/|$)"


@keras.saving.register_keras_serializable(package="kerasllm")
class Muon(Grouped, keras.optimizers.Muon):
    """Keras' `Muon` with the AdamW part equal to our `AdamW`, and with parameter groups.

    Variables of two dimensions are updated by Muon, save embeddings and heads; those, and biases, norms and
    experts' stacks of matrices, by AdamW. Updates of matrices are scaled by `0.2 * sqrt(max(rows, columns))`,
    so that both parts take one learning rate and one weight decay, those one would give AdamW.

    Args:
        learning_rate: Rate or schedule. Defaults to 0.001.
        weight_decay: Decoupled weight decay of all variables. Defaults to 0.01.
        exclude_layers: Regular expressions on paths whose variables get AdamW. Defaults to those of heads.
        epsilon: Of AdamW. Defaults to 1e-8.
        **kwargs: `groups`, `layer_decay` (see `Grouped`), and those of `keras.optimizers.Muon`.

    Source: Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon/); the scale of Liu et al., 2025
    (https://arxiv.org/abs/2502.16982).
    """

    def __init__(
        self, learning_rate=0.001, weight_decay=0.01, exclude_layers=(HEADS,), epsilon=1e-8, **kwargs
    ):
        kwargs.setdefault("adam_weight_decay", weight_decay)
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            exclude_layers=list(exclude_layers),
            epsilon=epsilon,
            **kwargs,
        )

    def _should_use_adamw(self, variable):
        path = getattr(variable, "path", variable.name)
        # `tables` and `positions` of embeddings, but not the projection beside them.
        table = self.exclude_embeddings and re.search(r"embeddings?$", path)
        return len(variable.shape) != 2 or bool(table) or any(re.search(p, path) for p in self.exclude_layers)

    def uses_adamw(self, variable):
        """Whether a variable, which the optimizer was built with, is updated by AdamW."""
        return self.adam_velocities[self._get_variable_index(variable)] is not None

    def _default_decay(self, variable):
        return self.adam_weight_decay if self.uses_adamw(variable) else self.weight_decay

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        betas = (self.adam_beta_1, self.adam_beta_2)
        factor, epsilon = bias_correction(self.iterations + 1, *betas, self.epsilon)
        fused_adam(variable, (m, v), gradient, rate=learning_rate * factor, betas=betas, epsilon=epsilon)

    def get_config(self):
        """The arguments, for serialisation."""
        return {**super().get_config(), "exclude_embeddings": self.exclude_embeddings}
