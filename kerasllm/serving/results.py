"""What a prediction is, the same in Python, over REST and over gRPC; imports no TensorFlow."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Classification", "Generation", "Score", "classifications", "is_classification"]


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of a text classifier for one text.

    Attributes:
        label: The likeliest label.
        score: Its score, between 0 and 1.
        scores: Score of every label, in the order of the model's outputs. They add up to 1, except for a
            multi-label classifier, which scores each label by itself.

    Example:
    >>> Classification.from_scores(["negative", "positive"], [0.03, 0.97])
    Classification(label='positive', score=0.97)
    """

    label: str
    score: float
    scores: dict[str, float] = field(hash=False)

    def __repr__(self) -> str:
        return f"Classification(label={self.label!r}, score={round(self.score, 4)})"

    @classmethod
    def from_scores(cls, labels: Sequence[str], scores: Iterable[float]) -> "Classification":
        """Makes the answer from one score a label; of equal scores the first label wins."""
        by_label = dict(zip(labels, map(float, scores), strict=True))
        label = max(by_label, key=by_label.__getitem__)
        return cls(label, by_label[label], by_label)

    def to_dict(self) -> dict[str, Any]:
        """Returns the answer as plain, JSON-able Python values."""
        return {"label": self.label, "score": self.score, "scores": dict(self.scores)}


@dataclass(frozen=True, slots=True)
class Generation:
    """The answer of a language model to one prompt.

    Attributes:
        text: What it says, without the prompt and without the stop string.
        finish_reason: `"stop"` after a token or a text that ends answers, `"length"` after as many tokens as
            were allowed.
        num_tokens: Tokens that were generated, the one that ended the answer included.
        prompt_cut: Whether the prompt was longer than there is room for, so that its beginning was cut off.
        log_probs: Log-probability of each of the tokens by the model alone, before temperature and penalties;
            `None` where they were not asked for.
    """

    text: str
    finish_reason: str
    num_tokens: int
    prompt_cut: bool = False
    log_probs: tuple[float, ...] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Returns the answer as plain, JSON-able Python values."""
        plain = {"text": self.text, "finish_reason": self.finish_reason, "num_tokens": self.num_tokens}
        plain["prompt_cut"] = self.prompt_cut
        return plain if self.log_probs is None else {**plain, "log_probs": list(self.log_probs)}


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a language model finds a text after a prompt.

    Attributes:
        log_prob: Sum of the log-probabilities of its tokens.
        num_tokens: How many they are.
    """

    log_prob: float
    num_tokens: int


def is_classification(names: Iterable[str]) -> bool:
    """Whether the outputs of a signature are those of an exported text classifier."""
    return {"label", "score", "labels", "scores"} <= set(names)


def classifications(outputs: Mapping[str, Any]) -> list[Classification]:
    """Turns the outputs of an exported text classifier, as nested lists, into one result a text.

    A server prints float32 scores with as many digits as tell them apart; rounding what was read back to
    float32 gives the very numbers that the model computed, so that all ways to ask agree bit for bit.
    """
    rows = zip(outputs["label"], outputs["score"], outputs["labels"], outputs["scores"], strict=True)
    return [
        Classification(label, _float32(score), dict(zip(labels, map(_float32, scores), strict=True)))
        for label, score, labels, scores in rows
    ]


def _float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]
