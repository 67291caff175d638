"""Small data sets that a tiny model can learn."""

import itertools
from collections.abc import Sequence

import numpy as np

from kerasllm.errors import DataError

__all__ = ["all_texts", "tiny_pairs", "tiny_reviews", "tiny_topics"]

_SUBJECTS = ("film", "story", "plot", "cast", "music", "ending", "dialogue", "camera", "script", "pace")
_ADVERBS = ("truly", "quite", "rather", "simply", "always", "often", "really", "almost")
_POSITIVE = ("wonderful", "moving", "brilliant", "charming", "funny", "superb", "clever", "delightful")
_NEGATIVE = ("awful", "boring", "clumsy", "dreadful", "stale", "tedious", "shallow", "annoying")
_CLOSINGS = (
    "and my friends agree",
    "from start to end",
    "for the whole family",
    "on a rainy evening",
    "as in the book",
    "in every single scene",
    "even on a small screen",
    "when seen in a cinema",
)
_TOPICS = {
    "food": ("the soup was warm", "we had bread and cheese", "the fish was fresh"),
    "price": ("it cost ten euros", "the bill was long", "we paid in cash"),
    "service": ("the waiter was quick", "nobody took our order", "the staff smiled"),
}
_OPENINGS = (
    "on monday",
    "last night",
    "with my sister",
    "after work",
    "in the rain",
    "before the show",
    "by the river",
    "at noon",
)


def tiny_reviews(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a two-class data set of short reviews that a tiny model can learn.

    The adjective decides the label; no text occurs twice; the labels alternate.

    Args:
        num_rows: Number of records, at most 10,240. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with a `text` and a `label`, `"negative"` or `"positive"`.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> tiny_reviews(2)[0].keys()
    dict_keys(['text', 'label'])
    """
    texts = {label: _reviews(label, -(-num_rows // 2), seed) for label in ("negative", "positive")}
    labels = ["negative", "positive"] * (num_rows // 2) + ["negative"] * (num_rows % 2)
    return [{"text": texts[label][i // 2], "label": label} for i, label in enumerate(labels)]


def tiny_pairs(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a two-class data set of sentence pairs: do both reviewers recommend?

    Args:
        num_rows: Number of records, at most 2,560. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with `text`, `text_pair` and `label`, which is `"yes"` where both
        texts are positive and `"no"` otherwise.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> sorted(tiny_pairs(1)[0])
    ['label', 'text', 'text_pair']
    """
    positive, negative = (iter(_reviews(label, num_rows * 2, seed)) for label in ("positive", "negative"))
    cycle = [("yes", positive, positive), ("no", positive, negative), ("yes", positive, positive)]
    cycle.append(("no", negative, positive))
    records = []
    for label, first, second in itertools.islice(itertools.cycle(cycle), num_rows):
        records.append({"text": next(first), "text_pair": next(second), "label": label})
    return records


def tiny_topics(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a multi-label data set: which of `food`, `price` and `service` does a text speak of?

    Args:
        num_rows: Number of records, at most 512. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with a `text` and a `label`, a sorted list of zero to three names.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> {name for record in tiny_topics(64) for name in record["label"]} == {"food", "price", "service"}
    True
    """
    names = sorted(_TOPICS)
    choices = [(None, *_TOPICS[name]) for name in names]
    shape = [len(_OPENINGS), *(len(choice) for choice in choices)]
    records = []
    for opening, *picked in _distinct(num_rows, shape, seed):
        parts = [choice[i] for choice, i in zip(choices, picked, strict=True)]
        text = " , ".join([_OPENINGS[opening], *(part for part in parts if part)])
        label = [name for name, part in zip(names, parts, strict=True) if part]
        records.append({"text": text, "label": label})
    return records


def all_texts() -> list[str]:
    """The words and phrases that the texts of this module are made of."""
    words = [*_SUBJECTS, *_ADVERBS, *_POSITIVE, *_NEGATIVE, *_CLOSINGS, *_OPENINGS]
    return ["the is", *words, *(phrase for phrases in _TOPICS.values() for phrase in phrases)]


def _reviews(label: str, num_rows: int, seed: int) -> list[str]:
    adjectives = _POSITIVE if label == "positive" else _NEGATIVE
    shape = [len(_SUBJECTS), len(_ADVERBS), len(adjectives), len(_CLOSINGS)]
    return [
        f"the {_SUBJECTS[i]} is {_ADVERBS[j]} {adjectives[k]} {_CLOSINGS[m]}"
        for i, j, k, m in _distinct(num_rows, shape, [seed, label == "positive"])
    ]


def _distinct(num_rows: int, shape: Sequence[int], seed: int | Sequence[int]) -> list[tuple[int, ...]]:
    """Draws `num_rows` different index tuples from a grid of the given shape."""
    total = int(np.prod(shape))
    if num_rows > total:
        raise DataError(f"Only {total:,} different texts can be made here, but {num_rows:,} were asked for.")
    drawn = np.random.default_rng(seed).choice(total, size=num_rows, replace=False)
    return [tuple(int(i) for i in np.unravel_index(index, shape)) for index in drawn]
