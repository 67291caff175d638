"""The base of the layers that change token ids."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.phrases import Phrases
from kerasllm.data.augmentation.seeded import Seeded
from kerasllm.data.augmentation.vocabulary import Vocabulary
from kerasllm.data.augmentation.words import Words, find_words
from kerasllm.errors import ConfigError, DataError

__all__ = ["Draw", "TokenAugmentation", "check_rate", "choose", "drawing"]

Draw = Callable[[Any], Any]  # from a shape to numbers of [0, 1)
NAMES = ("token_ids", "padding_mask", "segment_ids", "labels", "weights", "protected")


class TokenAugmentation(Seeded, keras.layers.Layer):
    """A layer that changes a batch of token ids in training, and is nothing at all otherwise.

    A word is a piece that begins one and the pieces that go on with it; it is changed as a whole or not at
    all. Special tokens, padding, punctuation, protected words and words of protected spans stay as they are,
    and of each text (both texts of a pair) at least one word stays. Random numbers come from a
    `keras.random.SeedGenerator` that the layer tracks: each call draws anew, the same seed gives the same
    sequence of batches, and a model that holds the layer saves where in the sequence it is.

    Args:
        vocabulary: A `kerasllm.Tokenizer`, or a `Vocabulary` that several layers share.
        rate: Share of the words that are changed.
        protected: Words and phrases that are never changed: texts, or lists of token ids. Texts are matched
            as they are written. Defaults to none.
        ignored_label: Label of tokens that no one labelled: padding and words that are put in. Defaults to
            -100; `weights`, where there are any, are zero there.
        seed: Defaults to `None`, another one each time.

    Call arguments:
        inputs: Dict of `token_ids` and `padding_mask`, int32 of shape `(batch, sequence)`, and of what there
            is of `segment_ids`; `labels` and `weights` of tokens, `(batch, sequence, ...)`; and `protected`,
            1 for tokens that are never changed.
        training: Whether the batch is changed.

    Returns:
        A dict of the same names and shapes; padding stands on the right.
    """

    def __init__(
        self,
        vocabulary: Any,
        rate: float = 0.1,
        *,
        protected: Sequence[Any] = (),
        ignored_label: int = -100,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **{"dtype": "float32", **kwargs})
        # Arrays may be given, and become tensors of their own type in `call`.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.vocabulary = Vocabulary.of(vocabulary)
        self.rate = check_rate(self, rate)
        self.protected = Phrases(self.vocabulary.encode(protected))
        self.ignored_label = ignored_label
        self.make_generator(seed)
        self.built = True

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """Changes a batch.

        Args:
            inputs: Tensors of tokens by name.
            words: Their words.
            draw: From a shape to random numbers of [0, 1), others at each call.
        """
        raise NotImplementedError

    def call(self, inputs, training=None):
        """See the class."""
        if not training:
            return inputs
        batch = self._checked(inputs)
        words = find_words(batch, self.vocabulary, self.protected)
        return self.change(batch, words, drawing(self.seed_generator))

    @property
    def fillers(self) -> dict[str, Any]:
        """What stands behind the last token, by name."""
        return {
            **dict.fromkeys(NAMES, 0),
            "token_ids": self.vocabulary.pad_id,
            "labels": self.ignored_label,
        }

    def compute_output_spec(self, inputs, training=None):
        """The same names, shapes and types."""
        return {name: keras.KerasTensor(value.shape, value.dtype) for name, value in inputs.items()}

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary.get_config(),
            "rate": self.rate,
            "protected": [list(sequence) for sequence in self.protected.sequences],
            "ignored_label": self.ignored_label,
            "seed": self.seed,
        }

    def _checked(self, inputs: Any) -> dict[str, Any]:
        name = type(self).__name__
        if not isinstance(inputs, dict) or not {"token_ids", "padding_mask"} <= set(inputs):
            found = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise DataError(
                f"`{name}` takes a dict with `token_ids` and `padding_mask`, but got {found}. Batches of "
                "`Tokenizer.graph_batch` have both."
            )
        unknown = sorted(set(inputs) - set(NAMES))
        if unknown:
            raise DataError(
                f"`{name}` got {unknown}, which it does not know how to move with the words. It takes "
                f"{', '.join(NAMES)}: leave out what the model makes by itself, and augment before packing."
            )
        batch = {key: tf.convert_to_tensor(value) for key, value in inputs.items()}
        for key, value in batch.items():
            if value.shape.rank is None or value.shape.rank < 2:
                raise DataError(
                    f"`{name}` got `{key}` of the shape {value.shape}, expected (batch, sequence). One text "
                    "alone goes into a batch of one."
                )
        return batch


def choose(words: Words, rate: float, draw: Draw) -> Any:
    """Bool `(batch, sequence)`: words drawn at a rate; of each text at least one is not among them."""
    numbers = draw(tf.shape(words.start))
    # The word with the largest number stays: that changes nothing unless all would be chosen.
    held = tf.where(words.changeable, numbers, tf.where(words.is_word, 2.0, -1.0))
    return words.changeable & (numbers < rate) & (numbers < words.reduce_texts(held, "max"))


def drawing(generator: keras.random.SeedGenerator) -> Draw:
    """Numbers of [0, 1) from one state of a generator, others at each call.

    The same numbers on each device: the algorithm is named, not left to TensorFlow.
    """
    seed = tf.cast(generator.next(), tf.int64)
    count = 0

    def draw(shape: Any) -> Any:
        nonlocal count
        count += 1
        mine = tf.random.experimental.stateless_fold_in(seed, tf.constant(count, tf.int64), alg="philox")
        return tf.random.stateless_uniform(shape, mine, alg="philox")

    return draw


def check_rate(layer: Any, rate: Any, *, name: str = "rate") -> float:
    """The rate as a float.

    Raises:
        ConfigError: If it is no share.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ConfigError(
            f"`{name}` of `{type(layer).__name__}` is {rate!r}, expected a share between 0 and 1, such as "
            "0.1."
        )
    return float(rate)
