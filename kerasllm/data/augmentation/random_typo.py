"""Typing errors."""

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.letters import QWERTY
from kerasllm.data.augmentation.new_words import within_room
from kerasllm.data.augmentation.rebuilding import put_in
from kerasllm.data.augmentation.seeded import Seeded
from kerasllm.data.augmentation.token_layer import Draw, TokenAugmentation, check_rate, drawing
from kerasllm.data.augmentation.typing_errors import OPERATIONS, TypingErrors
from kerasllm.data.augmentation.words import Words
from kerasllm.errors import ConfigError, DataError

__all__ = ["RandomTypo", "RandomTypoOfTokens"]

_LONGEST = 24  # tokens of a word with a typing error


class _Typo:
    """What both layers say about typing errors."""

    def _set_up(
        self, rate: float, operations: Sequence[str], keyboard: Mapping[str, str] | None, protected: Any
    ) -> None:
        unknown = sorted(set(operations) - set(OPERATIONS))
        if unknown or not operations:
            raise ConfigError(
                f"`operations` of `{type(self).__name__}` is {list(operations)}, expected some of "
                f"{list(OPERATIONS)}."
            )
        self.operations = tuple(operations)
        self.keyboard = dict(QWERTY if keyboard is None else keyboard)
        self.protected_words = tuple(word for word in protected if isinstance(word, str))
        self.errors = TypingErrors(rate, self.operations, self.keyboard, self.protected_words)

    @property
    def _options(self) -> dict[str, Any]:
        return {"operations": list(self.operations), "keyboard": self.keyboard}


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomTypo(_Typo, Seeded, keras.layers.Layer):
    """Makes typing errors in texts, before tokenization: for `tf.data` pipelines and models that take text.

    Each letter is, with probability `rate`, swapped with the next one, left out, doubled, or replaced by one
    of a neighbouring key (Belinkov and Bisk, 2018). Letters are whole characters of any script; a letter with
    a combining mark is left alone, the first letter of a word is never left out, and everything that is no
    letter stays. Where an operation is not possible, another one of those asked for is taken.
    `RandomTypoOfTokens` does the same to texts that are token ids already.

    Args:
        rate: Share of the letters that are changed. Defaults to 0.05.
        operations: Some of `"swap"`, `"delete"`, `"duplicate"`, `"neighbour"`. Defaults to all of them.
        keyboard: Neighbouring keys by key, lower case, e.g. `{"a": "qws"}`. Defaults to `None`, QWERTY.
        protected: Words that are left as they are, in any case. Defaults to none.
        seed: Defaults to `None`, another one each time.

    Call arguments:
        inputs: Strings of any shape.
        training: Whether they are changed.

    Example:
    >>> typo = RandomTypo(rate=0.05, protected=["not"], seed=0)
    >>> dataset = dataset.map(lambda text, label: (typo(text, training=True), label))
    """

    def __init__(
        self,
        rate: float = 0.05,
        *,
        operations: Sequence[str] = OPERATIONS,
        keyboard: Mapping[str, str] | None = None,
        protected: Sequence[str] = (),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **{"dtype": "string", **kwargs})
        # As Keras' own layers on text: lists of strings may be given, and become tensors in `call`.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.rate = check_rate(self, rate)
        self._set_up(self.rate, operations, keyboard, protected)
        self.make_generator(seed)
        self.built = True

    def call(self, inputs, training=None):
        """See the class."""
        texts = tf.convert_to_tensor(inputs)
        if texts.dtype != tf.string:
            raise DataError(
                f"`RandomTypo` got {texts.dtype.name}, expected strings. For token ids, there is "
                "`RandomTypoOfTokens(tokenizer)`."
            )
        if not training:
            return texts
        flat = self.errors(tf.reshape(texts, [-1]), drawing(self.seed_generator))
        return tf.ensure_shape(tf.reshape(flat, tf.shape(texts)), texts.shape)

    def compute_output_spec(self, inputs, training=None):
        """Strings of the same shape."""
        return keras.KerasTensor(inputs.shape, dtype="string")

    def get_config(self):
        """Everything that `from_config` needs."""
        mine = {"rate": self.rate, "protected": list(self.protected_words), "seed": self.seed}
        return {**super().get_config(), **self._options, **mine}


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomTypoOfTokens(_Typo, TokenAugmentation):
    """Makes typing errors in token ids: words are decoded, changed as by `RandomTypo`, and tokenized again.

    All of it is in the graph, so a batch of a cached data set has other typing errors each epoch. A word that
    would not fit into the width any more is left as it is. The ids of a word are those that the tokenizer
    gives to its decoded text. String operations run on the CPU, and not in a step compiled by XLA.

    Args:
        tokenizer: A `kerasllm.Tokenizer`, which the layer keeps.
        rate: Share of the letters that are changed. Defaults to 0.05.
        operations, keyboard: See `RandomTypo`.
        protected: Words that are left as they are; see `TokenAugmentation`.
        **kwargs: See `TokenAugmentation`.
    """

    def __init__(
        self,
        tokenizer: Any,
        rate: float = 0.05,
        *,
        operations: Sequence[str] = OPERATIONS,
        keyboard: Mapping[str, str] | None = None,
        protected: Sequence[Any] = (),
        **kwargs: Any,
    ):
        if isinstance(tokenizer, dict):
            # By name: this package is below the one that tokenizes, and needs it only to read a config.
            module = importlib.import_module("kerasllm.tokenization.tokenizer")
            tokenizer = module.Tokenizer(tokenizer["specification"], tokenizer["settings"])
        elif not hasattr(tokenizer, "graph_encode"):
            raise ConfigError(
                f"`RandomTypoOfTokens` got a {type(tokenizer).__name__}, expected a `kerasllm.Tokenizer`: "
                "words are tokenized anew."
            )
        super().__init__(tokenizer, rate, protected=protected, **kwargs)
        self._set_up(self.rate, operations, keyboard, protected)
        self.tokenizer = tokenizer
        self._graph = tokenizer.trackable

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        where = tf.cast(tf.where(words.changeable), tf.int32)
        ids = tf.cast(inputs["token_ids"], tf.int32)
        of_words = tf.boolean_mask(ids, words.real & words.of_tokens(words.changeable))
        rows = tf.RaggedTensor.from_row_lengths(of_words, tf.gather_nd(words.length, where), validate=False)
        texts = self.tokenizer.graph_decode(rows)
        if self.tokenizer.word_table.suffix:
            suffix = re.escape(self.tokenizer.word_table.suffix)
            texts = tf.strings.regex_replace(texts, f"{suffix}$", "")
        changed = self.errors(texts, draw)
        encoded = self.tokenizer.graph_encode(changed, split_special_tokens=True)
        special = tf.gather(tf.constant(self.vocabulary.flags["separates"]), encoded.flat_values)
        encoded = tf.ragged.boolean_mask(encoded, encoded.with_flat_values(~special))
        count = tf.cast(encoded.row_lengths(), tf.int32)
        count = tf.where(tf.equal(changed, texts) | (count > _LONGEST), 0, count)
        shape = tf.concat([tf.shape(ids), [_LONGEST]], 0)
        new = tf.scatter_nd(where, encoded.to_tensor(shape=[None, _LONGEST]), shape)
        lengths = tf.scatter_nd(where, count, tf.shape(ids))
        room = tf.shape(ids)[1] - tf.reduce_sum(tf.cast(words.real, tf.int32), axis=1)
        growth = tf.where(lengths > 0, lengths - words.length, 0)
        chosen = (lengths > 0) & within_room(growth, draw(tf.shape(ids)), room)
        return put_in(
            inputs,
            words,
            tf.ensure_shape(new, [None, None, _LONGEST]),
            tf.where(chosen, lengths, 0),
            replaced=chosen,
            after=tf.zeros_like(chosen),
            fillers=self.fillers,
        )

    def get_config(self):
        """Everything that `from_config` needs."""
        config = {**super().get_config(), **self._options}
        del config["vocabulary"]
        specification, settings = self.tokenizer.__reduce__()[1]
        protected = [*config["protected"], *self.protected_words]
        return {
            **config,
            "tokenizer": {"specification": specification, "settings": settings},
            "protected": protected,
        }
