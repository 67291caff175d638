"""A layer whose random numbers go on where they were, also after it was saved."""

from typing import Any

import keras
import numpy as np

__all__ = ["Seeded"]


class Seeded:
    """Gives a layer a generator whose state is saved with its weights; the first among the bases.

    Keras tracks the generators of layers, but leaves them out of `save_weights` (also those of `Dropout`).
    """

    seed_generator: keras.random.SeedGenerator

    def make_generator(self, seed: int | None) -> None:
        """Makes `seed_generator`, and `seed`, from which a config makes the same one."""
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.seed: int = self.seed_generator._initial_seed

    def save_own_variables(self, store: Any) -> None:
        """Saves the state of the generator."""
        store["random_state"] = np.asarray(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Goes on where the saved layer was."""
        self.seed_generator.state.assign(store["random_state"])
