"""Tiny trained classifiers, made once."""

import pytest

from kerasllm.testing import tiny_bert, tiny_pairs, tiny_reviews, tiny_topics

SETTINGS = {"training": {"epochs": 12, "batch_size": 8, "learning_rate": 5e-3}}


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """Directory of a tiny BERT that knows the words of the tiny data sets."""
    rows = [*tiny_reviews(64), *tiny_pairs(64), *tiny_topics(64)]
    texts = [row[key] for row in rows for key in ("text", "text_pair") if key in row]
    return tiny_bert(tmp_path_factory.mktemp("preset") / "bert", texts=texts)


@pytest.fixture(scope="session")
def trained(preset, tmp_path_factory):
    """Classifiers of each kind, each fine-tuned for a few seconds."""
    import kerasllm

    folder = tmp_path_factory.mktemp("runs")
    made = {}

    def get(kind):
        if kind not in made:
            rows = {"single": tiny_reviews, "pair": tiny_pairs, "multi": tiny_topics}[kind](96)
            made[kind] = kerasllm.finetune(
                preset,
                rows,
                validation_data=0.25,
                output_dir=folder / kind,
                config=SETTINGS,
            )
        return made[kind]

    return get
