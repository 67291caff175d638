"""How often a trained model changes its mind: counted on a model whose mind is known."""

import pytest

from kerasllm.data.augmentation import Cutoff
from kerasllm.data.labels import LabelMap
from kerasllm.errors import ConfigError, DataError
from kerasllm.serving.results import Classification
from kerasllm.tasks.label_safety import label_safety
from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer


class Decides:
    """A classifier that says positive where a text has the word `lovely`."""

    pair = False
    label_map = LabelMap(("negative", "positive"))

    def __init__(self):
        self.tokenizer = Tokenizer.from_json(family("bert-uncased"))

    def predict(self, rows):
        return [Classification.from_scores(self.label_map.names, self._scores(row)) for row in rows]

    def _scores(self, row):
        texts = row if self.pair else (row,)
        return (0.0, 1.0) if any("lovely" in text.lower() for text in texts) else (1.0, 0.0)


class DecidesOnPairs(Decides):
    pair = True


TEXTS = ["Lovely music in the cinema"] * 30 + ["The waiter brought the bill"] * 30


def test_a_deleted_word_that_decides_changes_the_mind():
    found = label_safety(
        Decides(), TEXTS, [{"name": "random_deletion", "rate": 0.2}], num_samples=10, num_examples=3
    )
    assert found.by_label["positive"].value == pytest.approx(0.2, abs=0.08)
    assert found.by_label["negative"].value == 0
    assert found.by_label["negative"].high > 0
    assert found.changed.value == pytest.approx(found.by_label["positive"].value / 2)
    assert found.changed.low < found.changed.value < found.changed.high
    assert found.changed.num_texts == 60
    assert found.altered == pytest.approx(1 - 0.8**5, abs=0.08)
    assert len(found.examples) == 3
    assert all("Lovely" in flip.before and "Lovely" not in flip.after for flip in found.examples)
    assert "The model changes its mind on" in str(found)
    assert "  positive: Lovely music in the cinema" in str(found)
    assert found.to_dict()["num_samples"] == 10


def test_a_protected_word_keeps_the_mind():
    entry = {"name": "random_deletion", "rate": 0.4, "protected": ["lovely"]}
    found = label_safety(Decides(), TEXTS, [entry], num_samples=3)
    assert found.changed.value == 0
    assert found.examples == ()
    assert found.altered > 0.5


def test_pairs_are_augmented_as_pairs():
    rows = [(text, "we paid in cash") for text in TEXTS[:10]]
    found = label_safety(DecidesOnPairs(), rows, [{"name": "random_swap", "rate": 0.9}], num_samples=2)
    assert found.changed.value == 0
    assert found.altered > 0.9


def test_the_same_seed_gives_the_same_figures():
    entry = [{"name": "random_deletion", "rate": 0.2}]
    first, second = (label_safety(Decides(), TEXTS, entry, seed=3).to_dict() for _ in range(2))
    assert first == second


def test_nothing_to_ask_is_refused():
    with pytest.raises(DataError, match="label safety got 0 texts and `num_samples=5`, expected one or more"):
        label_safety(Decides(), [], [{"name": "random_deletion"}])
    with pytest.raises(ConfigError, match="Cutoff changes token vectors"):
        label_safety(Decides(), TEXTS, [Cutoff()])
