"""Every kind of source gives the same records, and each row knows its line."""

# ruff: noqa: E501 - a case is a row of a table

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.problems import Problems
from kerasllm.data.reading import read_records, stream_records
from kerasllm.data.records import Origin, Records
from kerasllm.data.tables import read_table
from kerasllm.data.values import check_labels
from kerasllm.errors import DataError, LabelError

TEXTS = ["A joy, from start\nto end.", 'She said "no".', "Café 👩‍👩‍👧 हिन्दी", "  "]
LABELS = ["pos", "neg", "pos", "neg"]
CSV = 'text,label\n"A joy, from start\nto end.",pos\n"She said ""no"".",neg\nCafé 👩‍👩‍👧 हिन्दी,pos\n  ,neg\n'
JSONL = pd.DataFrame({"text": TEXTS, "label": LABELS}).to_json(
    orient="records", lines=True, force_ascii=False
)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS, "label": LABELS}), buffer)
    return buffer.getvalue()


FILES = [
    ("r.csv", CSV.encode()),
    ("r.csv", CSV.encode("utf-8-sig")),
    ("r.tsv", CSV.replace("text,label", "text\tlabel").replace(",pos", "\tpos").replace(",neg", "\tneg").encode()),
    ("r.csv", CSV.replace("text,label", "text;label").replace(",pos", ";pos").replace(",neg", ";neg").encode()),
    ("r.csv", CSV.replace("text,label", "text|label").replace(",pos", "|pos").replace(",neg", "|neg").encode()),
    ("r.jsonl", JSONL.encode()),
    ("r.ndjson", JSONL.replace("\n", "\r\n").encode("utf-8-sig")),
    ("r.csv.gz", gzip.compress(CSV.encode())),
    ("r.csv.gz", gzip.compress(CSV.encode()[:30]) + gzip.compress(CSV.encode()[30:])),
    ("r.csv.bz2", bz2.compress(CSV.encode())),
    ("r.jsonl.xz", lzma.compress(JSONL.encode())),
    ("r.csv.zip", zipped({"r.csv": CSV.encode()})),
    ("r.zip", zipped({"a/r.csv": CSV.encode(), "readme": b"", "__MACOSX/r.csv": b"", "a/.x.csv": b""})),
    ("r.parquet", parquet()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), FILES, ids=range(len(FILES)))
def test_files_of_every_kind(tmp_path, name, content):
    """Row D3: a byte order mark is no part of the text. Row D22: nor is any language or emoji strange."""
    (tmp_path / name).write_bytes(content)
    records = read_records(name)
    assert records.texts == TEXTS
    assert records.labels == LABELS
    streamed = list(stream_records(name, batch_size=3))
    assert [batch.num_rows for batch in streamed] == [3, 1]
    assert [text for batch in streamed for text in batch.texts] == TEXTS
    assert not streamed[0].has_labels


OBJECTS = [
    [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    list(zip(TEXTS, LABELS, strict=True)),
    (TEXTS, LABELS),
    (np.array(TEXTS), np.array(LABELS)),
    (np.array([text.encode() for text in TEXTS], object), np.array(LABELS)),
    (pd.Series(TEXTS), pd.Series(LABELS)),
    {"text": TEXTS, "label": LABELS},
    pd.DataFrame({"text": TEXTS, "label": LABELS}, index=[7, 7, 8, 9]),
    pd.DataFrame({"text": TEXTS, "label": pd.Categorical(LABELS)}),
    pd.DataFrame({"text": TEXTS, "label": LABELS, "mixed": [1, "a", None, 2.5]}),
    pl.DataFrame({"text": TEXTS, "label": LABELS}),
    pl.DataFrame({"text": TEXTS, "label": LABELS}, schema_overrides={"label": pl.Categorical}),
    pa.table({"text": TEXTS, "label": LABELS}),
    pa.record_batch({"text": TEXTS, "label": LABELS}),
    pa.table({"text": TEXTS, "label": LABELS}).to_reader(max_chunksize=3),
    pa.table({"text": pa.array(TEXTS).dictionary_encode(), "label": pa.array(LABELS, pa.string_view())}),
]


@pytest.mark.parametrize("source", OBJECTS, ids=range(len(OBJECTS)))
def test_objects_of_every_kind(source):
    records = read_records(source, name="train_data")
    assert records.texts == TEXTS
    assert records.labels == LABELS
    assert records.where(3) == "train_data[3]"


def test_hugging_face_dataset_with_named_classes():
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    dataset = datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1, 0]}, features=features)
    assert read_records(dataset).labels == LABELS
    assert read_records(dataset.select([1, 2])).texts == TEXTS[1:3]
    with pytest.raises(DataError, match=r"`data` is a dictionary of datasets \['train'\]; pass one of them"):
        read_records(datasets.DatasetDict(train=dataset))
    with pytest.raises(DataError, match=r"`data` is a streaming dataset; load it without `streaming=True`"):
        read_records(dataset.to_iterable_dataset())
    unlabelled = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(DataError, match=r"no label in 1 row \(item 0: -1\)"):
        read_records(unlabelled)


def test_label_that_a_dataset_has_no_name_for():
    """Row D17: as in a Hugging Face dataset whose features were edited."""
    problems = Problems(Origin("reviews", "item"))
    assert check_labels([0, 2], range(2), problems, class_names=["neg", "pos"]) == ["neg", None]
    problems.num_bad_rows = 1
    with pytest.raises(LabelError, match=r"a label out of the range 0 to 1 in 1 row \(item 1: 2\)"):
        problems.check()


def test_tensorflow_datasets():
    tf = pytest.importorskip("tensorflow")
    pairs = tf.data.Dataset.from_tensor_slices((TEXTS, [1, 0, 1, 0]))
    assert read_records(pairs).labels == ["1", "0", "1", "0"]
    assert read_records(pairs.batch(3)).texts == TEXTS
    rows = tf.data.Dataset.from_tensor_slices({"text": TEXTS, "label": LABELS}).batch(3)
    assert read_records(rows).labels == LABELS
    features = tf.data.Dataset.from_tensor_slices(({"text": TEXTS, "text_pair": TEXTS}, LABELS))
    assert read_records(features).text_pairs == TEXTS
    lists = [["a", "b"], [], ["b"], ["a"]]
    ragged = tf.ragged.constant(lists)
    assert read_records(tf.data.Dataset.from_tensor_slices((TEXTS, ragged))).labels == lists
    assert read_records(tf.data.Dataset.from_tensor_slices((TEXTS, ragged)).batch(4)).labels == lists
    with pytest.raises(DataError, match=r"`train_data` is an endless `tf.data.Dataset`; end it"):
        read_records(pairs.repeat(), name="train_data")
    with pytest.raises(DataError, match=r"expected `\(text, label\)` or dictionaries"):
        read_records(tf.data.Dataset.from_tensor_slices(TEXTS))
    with pytest.raises(DataError, match=r"a `list` instead of text|the same label twice|holds no labels"):
        read_records(tf.data.Dataset.from_tensor_slices((TEXTS, np.eye(4)[:, :3])))


def test_lines_are_those_of_an_editor(tmp_path):
    body = 'text,label\r\n"two\r\nlines",a\r\n\r\nplain,b\r\n"x",c'
    (tmp_path / "r.csv").write_bytes(body.encode())
    records = read_records("r.csv")
    assert records.texts == ["two\r\nlines", "plain", "x"]
    assert [records.where(row) for row in range(3)] == ["r.csv line 2", "r.csv line 5", "r.csv line 6"]


def test_lone_carriage_returns_end_lines(tmp_path):
    (tmp_path / "r.csv").write_bytes(b"text,label\ra,x\rb,y\r")
    records = read_records("r.csv")
    assert records.texts == ["a", "b"]
    assert records.where(1) == "r.csv line 3"


def test_where_in_parquet_zip_and_several_files(tmp_path):
    (tmp_path / "r.parquet").write_bytes(parquet())
    (tmp_path / "r.zip").write_bytes(zipped({"data/r.csv": CSV.encode(), "other.csv": CSV.encode()}))
    records = read_records(["r.parquet", "r.zip/data/r.csv", tmp_path / "r.parquet"])
    assert records.num_rows == 12
    assert records.where(1) == "r.parquet row 2"
    assert records.where(5) == "r.zip/data/r.csv line 4"
    assert records.where(11) == f"{tmp_path / 'r.parquet'} row 4"
    assert records.take([5, 0]).where(0) == "r.zip/data/r.csv line 4"


def test_files_that_are_read_together_need_the_same_columns(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    (tmp_path / "b.csv").write_text("text,text_pair,label\na,b,c\n")
    with pytest.raises(DataError, match=r"`b.csv` has \['text', 'text_pair', 'label'\] but `a.csv` has"):
        read_records(["a.csv", "b.csv"])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030"])
def test_other_encodings_as_told(tmp_path, encoding):
    text = "日本" if encoding in ("shift_jis", "gb18030") else "Café"
    (tmp_path / "r.csv").write_bytes(f'text,label\n"{text}\n",a\nb,c\n'.encode(encoding))
    records = read_records("r.csv", encoding=encoding)
    assert records.texts == [f"{text}\n", "b"]
    assert records.where(1) == "r.csv line 4"


def test_numbers_become_text_where_asked():
    records = read_records([(1, "a"), (2.5, "b"), (True, "c")], cast_text=True)
    assert records.texts == ["1", "2.5", "True"]


def test_halves_of_characters_are_replaced_where_asked(tmp_path):
    """Row D21: as JSON may hold them, and TensorFlow never."""
    (tmp_path / "r.jsonl").write_text(r'{"text": "half \ud83d a", "text_pair": "\udc4d\ud83d\udc4d"}')
    for records in (
        read_records("r.jsonl", fix_unicode=True, require_label=False),
        *stream_records("r.jsonl", fix_unicode=True),
    ):
        assert records.texts == ["half \ufffd a"]
        assert records.text_pairs == ["\ufffd👍"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 0, 10], ["1", "0", "10"]),
        ([1.0, 0.0], ["1", "0"]),
        ([True, False], ["True", "False"]),
        ([" pos", "neg "], ["pos", "neg"]),
        ([["a", 1], []], [["a", "1"], []]),
        ([b"pos", b"neg"], ["pos", "neg"]),
        ([np.int64(1), np.bool_(True), np.str_("a")], ["1", "True", "a"]),
        ([np.array(["a", "b"]), np.array([])], [["a", "b"], []]),
        (np.array([3, 4], np.uint8), ["3", "4"]),
        (pd.array([1, 2], dtype="Int64"), ["1", "2"]),
    ],
)
def test_labels_of_every_kind_have_names(labels, names):
    texts = [f"text {row}" for row in range(len(labels))]
    assert read_records((texts, labels)).labels == names


@pytest.mark.parametrize(
    "source",
    [
        {"premise": ["a"], "hypothesis": ["b"], "label": [1]},
        {"Sentence1": ["a"], "Sentence2": ["b"], "label": [1]},
        {"text": ["a"], "text_pair": ["b"], "label": [1]},
        ((["a"], ["b"]), [1]),
        ([("a", "b")], [1]),
        ({"text": ["a"], "text_pair": ["b"]}, [1]),
    ],
    ids=range(6),
)
def test_sentence_pairs(source):
    records = read_records(source)
    assert (records.texts, records.text_pairs, records.labels) == (["a"], ["b"], ["1"])


@pytest.mark.parametrize(
    ("names", "columns", "found"),
    [
        (["id", "Review", "Sentiment"], None, ("Review", "Sentiment")),
        (["text", "review", "label", "category"], None, ("text", "label")),
        (["what", "category"], {"text": "what"}, ("what", "category")),
        (["text", "stars", "category"], {"label": "stars"}, ("text", "stars")),
    ],
)
def test_columns_are_found_where_only_one_reading_fits(names, columns, found):
    row = {name: f"value of {name}" for name in names}
    records = read_records([row], columns=columns)
    assert (records.texts, records.labels) == ([row[found[0]]], [row[found[1]]])


def test_texts_alone_where_no_label_is_required(tmp_path):
    (tmp_path / "r.txt").write_text("one\n\nthree")
    assert read_records("r.txt", require_label=False).texts == ["one", "", "three"]
    assert not read_records([{"whatever": "a"}], require_label=False).has_labels


def test_standard_input_is_one_text_a_line():
    code = (
        "from kerasllm.data.reading import stream_records\n"
        "for batch in stream_records('-', batch_size=2): print([batch.where(0), *batch.texts])\n"
        "import sys; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], input=b"a\n\nc\n", capture_output=True, check=True)
    assert result.stdout.decode().splitlines() == [
        "['standard input line 1', 'a', '']",
        "['standard input line 3', 'c']",
        "False",
    ]


def test_handle_with_a_scheme_is_resolved(tmp_path, monkeypatch):
    # The resolver has its own tests; here it only matters that it is asked, and how messages call the file.
    (tmp_path / "cached.csv").write_text("text,label\na,b\n")
    monkeypatch.setattr("kerasllm.data.reading.resolve", lambda handle, what: tmp_path / "cached.csv")
    assert read_records("pypi://reviews==1.0/reviews/data.csv").where(0) == "cached.csv line 2"


def test_table_with_all_columns(tmp_path):
    (tmp_path / "r.csv").write_text("id,text\n1,a\n2,b\n")
    assert read_table("r.csv").to_pydict() == {"id": ["1", "2"], "text": ["a", "b"]}
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n{"a": "x"}\n')
    with pytest.raises(DataError, match=r"`r.jsonl` has a column of mixed types"):
        read_table("r.jsonl")


def test_fingerprint_changes_with_any_text_or_order():
    records = read_records((TEXTS, LABELS))
    assert records.fingerprint == read_records([*zip(TEXTS, LABELS, strict=True)]).fingerprint
    assert records.fingerprint != records.take([1, 0, 2, 3]).fingerprint
    assert records.fingerprint != read_records(([*TEXTS[:3], "x"], LABELS)).fingerprint
    assert isinstance(records, Records)


def test_csv_limit_of_the_csv_module_is_left_alone(tmp_path):
    import csv

    (tmp_path / "r.csv").write_text(f"text,label\n{'x' * 1_000_000},a\n")
    before = csv.field_size_limit()
    assert len(read_records("r.csv").texts[0]) == 1_000_000
    assert csv.field_size_limit() == before


@pytest.mark.slow
def test_streaming_a_large_file_takes_little_memory(tmp_path):
    line = ("A joy from start to end, again and again. " * 20).encode()
    with gzip.open(tmp_path / "big.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"text,label\n")
        for row in range(400_000):
            file.write(b"%d " % row + line.replace(b",", b"") + b",pos\n")
    code = (
        "import resource\n"
        "from kerasllm.data.reading import stream_records\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(batch.num_rows for batch in stream_records('big.csv.gz')))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path)
    num_rows, megabytes = map(int, result.stdout.split())
    assert num_rows == 400_000
    assert megabytes < 100
