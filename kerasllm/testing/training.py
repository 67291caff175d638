"""Training a tokenizer, and putting it together, so that the result is always the same."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from kerasllm.testing.corpus import TEXTS

__all__ = ["Training", "finished", "letters", "special_token", "template", "trained"]


class Training(NamedTuple):
    """What a vocabulary is trained on.

    Attributes:
        texts: The texts. Defaults to the small corpus of this package.
        vocabulary_size: Most tokens that the vocabulary gets. Defaults to `1500`.
    """

    texts: tuple[str, ...] = TEXTS
    vocabulary_size: int = 1500


def letters(training: Training, normalizer: Any) -> list[str]:
    """The characters of the texts.

    The library numbers those with an affix (`##a`, `a</w>`) in an order that changes from run to run, and
    with it the vocabulary; so they are given to the trainer as special tokens, which `finished` takes out.
    """
    return sorted({letter for text in training.texts for letter in normalizer.normalize_str(text)} - {" "})


def special_token(content: str, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """An added token, as `tokenizer.json` has it, but for the id."""
    sides = {flag: flags.get(flag, False) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"content": content, **sides, "special": special}


def trained(training: Training, model: Any, trainer: Any, **components: Any) -> Any:
    """A trained `tokenizers.Tokenizer` with `components`, given as objects of the library or as JSON."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    as_json = {kind: value for kind, value in components.items() if isinstance(value, dict)}
    if as_json:
        tokenizer = Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), **as_json}))
    for kind, value in components.items():
        if kind not in as_json:
            setattr(tokenizer, kind, value)
    tokenizer.train_from_iterator(training.texts, trainer)
    return tokenizer


def finished(tokenizer: Any, added: tuple[dict[str, Any], ...], post_processor: Any = None) -> str:
    """The `tokenizer.json` with these added tokens and the post-processor, which may need their ids."""
    from tokenizers import AddedToken

    for token in added:
        flags = dict(token)
        add = tokenizer.add_special_tokens if token["special"] else tokenizer.add_tokens
        add([AddedToken(flags.pop("content"), **flags)])
    if post_processor is not None:
        tokenizer.post_processor = post_processor(tokenizer) if callable(post_processor) else post_processor
    document = json.loads(tokenizer.to_str())
    contents = {token["content"] for token in added}
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in contents]
    return json.dumps(document, ensure_ascii=False)


def template(single: str, pair: str) -> Callable[[Any], Any]:
    """A `TemplateProcessing`, made when the ids of its tokens are known."""
    from tokenizers import processors

    names = sorted({word.split(":")[0] for word in pair.split() if not word.startswith("$")})
    return lambda tokenizer: processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )
