"""What normalizer and pre-tokenizer do to each Unicode character: tables made by running them."""

from kerasllm.tokenization.characters.table import CharacterTable

__all__ = ["CharacterTable"]
