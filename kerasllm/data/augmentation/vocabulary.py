"""What augmentation has to know about token ids, in a form that a layer's config can hold."""

import base64
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["Vocabulary", "pack", "unpack"]

_FLAGS = ("continues", "closes", "glued", "letters", "whole", "separates", "special")


class Vocabulary:
    """The words, special tokens and padding of a tokenizer, as arrays over its token ids.

    Made once by `Vocabulary.of(tokenizer)` and shared by several layers; `get_config` and `from_config` carry
    it through a saved model without the tokenizer.

    Args:
        continues, closes, glued, letters, whole, separates, special: bool arrays of the length of the
            vocabulary: see `kerasllm.tokenization.word_table.WordTable`; `special` are the ids that are never
            changed.
        spaced: int32 array, the same piece with a space before it.
        pad_id: Id that fills short rows.
        mask_id: Id that hides a word, or `None`. Defaults to `None`.
    """

    def __init__(self, *, spaced: np.ndarray, pad_id: int, mask_id: int | None = None, **flags: np.ndarray):
        self.flags = {name: np.asarray(flags[name], bool) for name in _FLAGS}
        self.spaced = np.asarray(spaced, np.int32)
        self.pad_id = int(pad_id)
        self.mask_id = None if mask_id is None else int(mask_id)
        self.tokenizer: Tokenizer | None = None

    @classmethod
    def of(cls, tokenizer: "Vocabulary | Tokenizer | dict[str, Any]") -> "Vocabulary":
        """The vocabulary of a tokenizer, or of a layer's config; a vocabulary is returned as it is.

        Raises:
            TokenizerError: If the tokenizer's pieces do not show where words begin, or it has no padding.
            ConfigError: If it is something else.
        """
        if isinstance(tokenizer, Vocabulary):
            return tokenizer
        if isinstance(tokenizer, dict):
            return cls.from_config(tokenizer)
        if not hasattr(tokenizer, "word_table"):
            raise ConfigError(
                f"augmentation got a {type(tokenizer).__name__} as its vocabulary. Give a "
                "`kerasllm.Tokenizer`, "
                "e.g. `Preset.load(handle).tokenizer`, or `Vocabulary.of(tokenizer)`."
            )
        table = tokenizer.word_table
        special = table.separates.copy()
        special[list(tokenizer.special_ids.values())] = True
        special[tokenizer.pad_id] = True
        flags = {name: getattr(table, name) for name in _FLAGS if name != "special"}
        made = cls(
            **flags,
            special=special,
            spaced=table.spaced,
            pad_id=tokenizer.pad_id,
            mask_id=tokenizer.mask_id,
        )
        made.tokenizer = tokenizer
        return made

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self.spaced)

    @property
    def words(self) -> np.ndarray:
        """The ids that by themselves are words of letters, ascending."""
        return np.flatnonzero(self.flags["whole"] & ~self.flags["special"]).astype(np.int32)

    @property
    def bare(self) -> np.ndarray:
        """int32: the same piece without the space before it; -1 where the vocabulary has no such piece."""
        bare = np.where(self.spaced == np.arange(self.size), -1, np.arange(self.size)).astype(np.int32)
        without = np.flatnonzero((bare >= 0) & (self.spaced >= 0))
        bare[self.spaced[without]] = without
        return bare

    @property
    def has_spaces(self) -> bool:
        """Whether pieces carry the space before them."""
        return bool((self.spaced != np.arange(self.size)).any())

    def encode(self, words: Sequence[Any]) -> list[list[int]]:
        """The id sequences of words and phrases; sequences of ids stay as they are.

        Raises:
            ConfigError: If there are texts, but no tokenizer that could read them.
        """
        sequences = [list(map(int, word)) for word in words if not isinstance(word, str)]
        texts = [word for word in words if isinstance(word, str)]
        if texts and self.tokenizer is None:
            raise ConfigError(
                f"the words {texts[:5]} cannot be turned into token ids without a tokenizer. Give the layer "
                "the `kerasllm.Tokenizer` as its vocabulary, or the words as lists of ids."
            )
        if texts and self.tokenizer is not None:
            sequences += [ids for found in self.tokenizer.encode_words(texts) for ids in found]
        return sequences

    def get_config(self) -> dict[str, Any]:
        """Plain values from which `from_config` makes the same vocabulary."""
        packed = {name: pack(np.packbits(values)) for name, values in self.flags.items()}
        mine = {"size": self.size, "pad_id": self.pad_id, "mask_id": self.mask_id}
        # Differences of neighbours compress well where spaces are not part of pieces.
        return {**packed, **mine, "spaced": pack(np.diff(self.spaced, prepend=np.int32(0)))}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Vocabulary":
        """The vocabulary of `get_config`."""
        size = config["size"]
        flags = {
            name: np.unpackbits(unpack(config[name], np.uint8), count=size).astype(bool) for name in _FLAGS
        }
        spaced = np.cumsum(unpack(config["spaced"], np.int32), dtype=np.int32)
        return cls(**flags, spaced=spaced, pad_id=config["pad_id"], mask_id=config["mask_id"])


def pack(values: np.ndarray) -> str:
    """An array as text that JSON can hold."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")


def unpack(text: str, dtype: Any, shape: Sequence[int] = (-1,)) -> np.ndarray:
    """The array of `pack`."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(shape)
