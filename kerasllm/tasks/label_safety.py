"""How often a trained model changes its mind when texts are augmented."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.data.augmentation.building import build
from kerasllm.data.augmentation.texts import augment_texts
from kerasllm.errors import DataError
from kerasllm.metrics.proportions import wilson_interval

if TYPE_CHECKING:
    from kerasllm.serving.results import Classification
    from kerasllm.tasks.text_classification import TextClassifier

__all__ = ["Flip", "LabelSafety", "Share", "label_safety"]

_THRESHOLD = 0.5  # of a label that is one of several


@dataclass(frozen=True)
class Share:
    """A share of augmented texts, with its interval.

    Attributes:
        value: The share.
        low, high: Ends of the interval.
        num_texts: Texts behind it, before augmentation.
    """

    value: float
    low: float
    high: float
    num_texts: int

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.num_texts:,} texts"


@dataclass(frozen=True)
class Flip:
    """A text on which the model changed its mind.

    Attributes:
        before, after: The text, or the pair of texts.
        label_before, label_after: What the model said.
    """

    before: Any
    after: Any
    label_before: str
    label_after: str


@dataclass(frozen=True)
class LabelSafety:
    """How often a model changes its mind on augmented texts.

    Attributes:
        changed: Share of the augmented texts with another answer than the text itself.
        by_label: The same for texts of each answer.
        altered: Share of the augmented texts that are not the text itself.
        num_samples: Augmented texts of each text.
        examples: Some texts with another answer.
    """

    changed: Share
    by_label: dict[str, Share]
    altered: float
    num_samples: int
    examples: tuple[Flip, ...]

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {
            "changed": vars(self.changed),
            "by_label": {label: vars(share) for label, share in self.by_label.items()},
            "altered": self.altered,
            "num_samples": self.num_samples,
            "examples": [vars(flip) for flip in self.examples],
        }

    def __str__(self) -> str:
        lines = [
            f"The model changes its mind on {self.changed}, {self.num_samples} samples each; "
            f"{self.altered:.1%} of the samples differ from their text."
        ]
        lines += [f"  answered {label} as they are: {share}" for label, share in self.by_label.items()]
        for flip in self.examples:
            lines += ["", f"  {flip.label_before}: {flip.before}", f"  {flip.label_after}: {flip.after}"]
        return "\n".join(lines)


def label_safety(
    classifier: "TextClassifier",
    texts: Sequence[Any],
    augmentation: Sequence[Any],
    *,
    num_samples: int = 5,
    confidence: float = 0.95,
    num_examples: int = 5,
    seed: int = 0,
) -> LabelSafety:
    """Measures how often a classifier answers an augmented text otherwise than the text itself.

    An augmentation that often turns a trained model's answer may turn the meaning, too: the label in the
    training data is then wrong. Compare rates, or protect words, before training with it.

    Args:
        classifier: A trained classifier.
        texts: Texts, or `(text, text_pair)` tuples.
        augmentation: Layers on token ids or strings, or entries of a config as for `finetune`. What works on
            token vectors has no text, and is refused.
        num_samples: Augmented texts of each text. Defaults to 5.
        confidence: Of the intervals, which count each text once, however many samples it has; so they are
            rather too wide than too narrow. Defaults to 0.95.
        num_examples: How many examples are kept. Defaults to 5.
        seed: Of entries, which become layers here. Defaults to 0.

    Raises:
        DataError: If there are no texts.
        ConfigError: If an entry is wrong, or a layer works on token vectors.

    Example:
    >>> print(label_safety(classifier, reviews, [{"name": "random_deletion", "rate": 0.2}]))
    The model changes its mind on 4.2% [2.6%, 6.7%] of 400 texts, 5 samples each; …
    """
    rows = list(texts)
    if not rows or num_samples < 1:
        raise DataError(
            f"label safety got {len(rows)} texts and `num_samples={num_samples}`, expected one or more of "
            "each."
        )
    layers = _layers(classifier, rows, augmentation, seed)
    columns = [list(column) for column in zip(*rows, strict=True)] if classifier.pair else [rows]
    answers = _answers(classifier, rows)
    turned = np.zeros((len(rows), num_samples), bool)
    altered = 0
    flips: list[Flip] = []
    for sample in range(num_samples):
        changed = augment_texts(layers, classifier.tokenizer, *columns)
        others = _answers(classifier, changed)
        for number, (before, after) in enumerate(zip(rows, changed, strict=True)):
            altered += _plain(before) != _plain(after)
            if answers[number] != others[number]:
                turned[number, sample] = True
                flips.append(Flip(before, after, answers[number], others[number]))
    shares = turned.mean(axis=1)
    labels = np.asarray(answers)
    return LabelSafety(
        _share(shares, confidence),
        {str(label): _share(shares[labels == label], confidence) for label in sorted(set(answers))},
        altered / turned.size,
        num_samples,
        tuple(flips[:: max(1, len(flips) // max(1, num_examples))][:num_examples]),
    )


def _layers(
    classifier: "TextClassifier", rows: list[Any], augmentation: Sequence[Any], seed: int
) -> list[Any]:
    tokenizer = classifier.tokenizer

    def counts() -> np.ndarray:
        texts = [text for row in rows for text in (row if classifier.pair else (row,))]
        flat = np.fromiter((token for ids in tokenizer.encode(texts) for token in ids), np.int64)
        return np.bincount(flat, minlength=tokenizer.vocabulary_size)

    def embeddings() -> np.ndarray:
        return np.asarray(classifier.keras_model.backbone.token_embedding.embeddings, np.float32)

    return build(augmentation, tokenizer, embeddings=embeddings, counts=counts, seed=seed)


def _answers(classifier: "TextClassifier", rows: Sequence[Any]) -> list[str]:
    return [_answer(result, classifier.label_map.multi_label) for result in classifier.predict(rows)]


def _answer(result: "Classification", multi_label: bool) -> str:
    if not multi_label:
        return result.label
    chosen = [label for label, score in result.scores.items() if score > _THRESHOLD]
    return ", ".join(chosen) or "none"


def _plain(row: Any) -> tuple[str, ...]:
    return (row,) if isinstance(row, str) else tuple(row)


def _share(shares: np.ndarray, confidence: float) -> Share:
    value = float(shares.mean())
    return Share(value, *wilson_interval(value, len(shares), confidence), len(shares))
