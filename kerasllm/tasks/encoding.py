"""Token ids of the texts of a run, from the cache where they are there."""

from collections.abc import Sequence
from typing import Any

from kerasllm.data.token_cache import prepare_tokens, token_cache
from kerasllm.data.token_ids import TokenIds
from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["encode_texts"]


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    sequence_length: int | None,
    cache: str | None,
) -> TokenIds:
    """Tokenizes texts as a model reads them, special tokens included.

    Args:
        tokenizer: The checkpoint's.
        texts: Texts.
        pairs: The second text of every pair. Defaults to `None`.
        sequence_length: Most tokens of a text; `None` for all of them.
        cache: `data.cache` of a config.
    """

    def encode(some: Sequence[str], others: Sequence[str] | None) -> Any:
        return tokenizer.encode_for_model(some, others, sequence_length=sequence_length)

    return prepare_tokens(
        texts,
        pairs,
        encode=encode,
        settings={
            "tokenizer": tokenizer.fingerprint,
            "versions": tokenizer.versions,
            "pad_id": tokenizer.pad_id,
            "sequence_length": sequence_length,
        },
        cache=token_cache(cache),
        required=cache != "auto",
    )
