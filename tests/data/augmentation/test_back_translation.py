"""Back-translation: two translators in a row, with provenance, without what says nothing new."""

import pytest

from kerasllm.data.augmentation import back_translate
from kerasllm.data.records import Records
from kerasllm.errors import DataError

GERMAN = {"good": "gut", "film": "Film", "bad": "schlecht", "movie": "Film", "fine": "gut"}
ENGLISH = {"gut": "fine", "Film": "movie", "schlecht": "bad"}


class Translator:
    """A small real translator: word by word."""

    def __init__(self, table):
        self.table, self.sizes = table, []

    def predict(self, texts):
        self.sizes.append(len(texts))
        return [" ".join(self.table.get(word, word) for word in text.split()) for text in texts]


class Generated:
    def __init__(self, text):
        self.text = text


ROWS = [
    {"text": "good film", "label": "pos"},  # fine movie
    {"text": "Fine  Movie", "label": "pos"},  # what the first becomes is there already
    {"text": "bad day", "label": "neg"},  # as it was
    {"text": "bad film", "label": "neg"},  # bad movie
    {"text": "bad movie today", "label": "neg"},
    {"text": "bad film today", "label": "neg"},  # the same as the row before
    {"text": "good day", "label": "pos"},  # fine day
]


def test_new_rows_keep_their_label_and_say_where_they_came_from():
    there, back = Translator(GERMAN), Translator(ENGLISH)
    new = back_translate(ROWS, there, back, batch_size=3)
    assert new.texts == ["bad movie", "fine day"]
    assert new.labels == ["neg", "pos"]
    assert new.where(0) == "data, translated and back, row 3"
    assert there.sizes == back.sizes == [3, 3, 1]
    both = Records.concatenate([Records.from_lists(["x"], ["pos"]), new])
    assert both.num_rows == 3
    assert both.where(2) == "data, translated and back, row 6"


def test_files_keep_their_lines(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\ngood day,pos\nbad film,neg\n")
    new = back_translate(str(path), Translator(GERMAN), Translator(ENGLISH))
    assert new.where(0) == f"{path}, translated and back, line 2"


def test_functions_and_results_with_a_text_will_do():
    there = Translator(GERMAN).predict
    new = back_translate(
        ROWS[3:4], there, lambda texts: [Generated(t) for t in Translator(ENGLISH).predict(texts)]
    )
    assert new.texts == ["bad movie"]
    new = back_translate(ROWS[3:4], there, lambda texts: [{"text": t + " indeed"} for t in texts])
    assert new.texts == ["schlecht Film indeed"]


def test_both_texts_of_a_pair_are_translated_and_empty_ones_dropped():
    rows = [
        {"text": "good film", "text_pair": "bad film", "label": "no"},
        {"text": "good", "text_pair": "gone", "label": "no"},
    ]
    gone = {**ENGLISH, "gone": ""}
    new = back_translate(rows, Translator(GERMAN), Translator(gone))
    assert (new.texts, new.text_pairs) == (["fine movie"], ["bad movie"])


def test_a_task_model_fits_too(tmp_path):
    """Not a translator, but a real task model: its answers are no texts, and that is said."""
    with pytest.raises(
        DataError, match=r"`there` gave a int \('3'\), expected a string, or something with a `text`"
    ):
        back_translate(ROWS, lambda texts: [3] * len(texts), Translator(ENGLISH))
    with pytest.raises(DataError, match="`back` gave 1 results for 7 texts, expected one for each"):
        back_translate(ROWS, Translator(GERMAN), lambda texts: ["x"])
    with pytest.raises(DataError, match="`there` is a str, expected a task model, an object with"):
        back_translate(ROWS, "German", Translator(ENGLISH))
