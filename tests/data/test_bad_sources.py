"""Paths that are no files, bombs, wrong encodings and mappings, objects that are no tables."""

# ruff: noqa: E501 - a case is a row of a table, and its message stays whole

import bz2
import gzip
import io
import lzma
import os
import socket
import zipfile

import pandas as pd
import pyarrow as pa
import pytest

from kerasllm.data import limits
from kerasllm.data.reading import read_records, stream_records
from kerasllm.errors import ColumnError, DataError

GOOD = "text,label\nA joy.,pos\nA bore.,neg\n"
ROW = b"a" * 1021 + b",b\n"


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode() + b"\n"


def zipped(members: dict[str, bytes], *, mode: int | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode or 0) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def write(directory, name: str, content: bytes) -> str:
    os.chdir(directory)
    (directory / name).write_bytes(content)
    return name


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Paths (D30)


def make_fifo(path):
    os.mkfifo(path)


def make_directory(path):
    path.mkdir()
    (path / "part.csv").write_text(GOOD)


def make_loop(path):
    path.symlink_to("other.csv")
    path.with_name("other.csv").symlink_to(path.name)


def make_dangling(path):
    path.symlink_to("gone.csv")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path.name))


PATHS = [
    (make_fifo, r"`reviews.csv` is a named pipe \(FIFO\), not a regular file"),
    (
        make_directory,
        r"`reviews.csv` is a directory, not a regular file. Pass its files, one or a list: `reviews.csv/part.csv`",
    ),
    (make_loop, r"`reviews.csv` is a loop of symbolic links, not a regular file"),
    (make_dangling, r"`reviews.csv` is a symbolic link to `gone.csv`, which does not exist"),
    (make_socket, r"`reviews.csv` is a socket, not a regular file"),
]


@pytest.mark.parametrize(("make", "message"), PATHS)
def test_path_that_is_no_regular_file(tmp_path, make, message):
    make(tmp_path / "reviews.csv")
    with pytest.raises(DataError, match=message):
        read_records("reviews.csv")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/zero", r"`/dev/zero` is a character device, not a regular file"),
        ("reviews.csv", r"`reviews.csv` does not exist \(looked from `.*`\). Did you mean `review.csv`\?"),
        ("missing/reviews.csv", r"Nor does the directory `missing`"),
        ("*.csv", r"Patterns are not expanded: pass a list of paths"),
        ("What a film", r"Strings are read as paths; texts themselves are passed as `\(texts, labels\)`"),
        ("x" * 5000, r"is too long for a path"),
        ("a\0b", r"is not a path: it holds a NUL character"),
        ("review.csv/x.csv", r"does not exist"),
        ("archive.zip/gone.csv", r"has no member 'gone.csv'; it has 'a.csv'"),
    ],
)
def test_path_that_leads_nowhere(tmp_path, path, message):
    (tmp_path / "review.csv").write_text(GOOD)
    (tmp_path / "archive.zip").write_bytes(zipped({"a.csv": b"x"}))
    with pytest.raises(DataError, match=message):
        read_records(path)


def test_unreadable_file(tmp_path):
    (tmp_path / "reviews.csv").write_text(GOOD)
    (tmp_path / "reviews.csv").chmod(0)
    was_root = os.geteuid() == 0
    if was_root:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(
            DataError, match=r"reviews.csv` may not be read by this user; change its permissions"
        ):
            read_records(str(tmp_path / "reviews.csv"))
    finally:
        if was_root:
            os.seteuid(0)


# Bombs (D25) and memory (D31)


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(limits, "RATIO_FROM_BYTES", 2**21)
    monkeypatch.setattr(limits, "MAX_UNCOMPRESSED_BYTES", 2**24)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
def test_bomb_stops_at_its_ratio(tmp_path, small_limits, suffix):
    plain = b"text,label\n" + ROW * 2**13
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    content = zipped({"a.csv": plain}) if suffix == ".zip" else pack[suffix](plain)
    path = write(tmp_path, f"bomb.csv{suffix}", content)
    with pytest.raises(
        DataError, match=r"unpacks to \d[\d,]* times its size \(at most 200 are read\), which is taken"
    ):
        read_records(path)


def test_bomb_stops_at_its_size(tmp_path, small_limits, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RATIO", 10**9)
    path = write(tmp_path, "bomb.csv.gz", gzip.compress(b"text,label\n" + ROW * 2**15))
    with pytest.raises(DataError, match=r"unpacks to more than 0 GiB, which is taken for an attack"):
        read_records(path)


def test_file_larger_than_memory_is_refused_with_numbers(tmp_path, small_limits, monkeypatch):
    monkeypatch.setattr(limits, "available_memory", lambda: 2**21)
    path = write(tmp_path, "big.csv", b"text,label\n" + ROW * 2**13)
    message = r"`big.csv` holds at least 0.0 GiB of rows; reading it whole needs about .* `predict` reads files of any"
    with pytest.raises(DataError, match=message):
        read_records(path)
    assert sum(batch.num_rows for batch in stream_records(path)) == 2**13


def test_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_LINE_BYTES", 2**20)
    path = write(tmp_path, "reviews.jsonl", b" " * 2**21)
    with pytest.raises(DataError, match=r"reviews.jsonl line 1 is longer than 1 MiB. Is this a text file"):
        read_records(path)


# Encodings and columns as told


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf8x", r"'utf8x' is no text encoding that Python knows. Did you mean 'utf-8'"),
        ("rot13", r"'rot13' is no text encoding"),
        ("ascii", r"bytes that are not ascii in 1 line \(line 2: byte 14 \(0xC3\)\)"),
        ("utf-32", r"`reviews.csv` is not utf-32 after line 0"),
    ],
)
def test_wrong_encoding(tmp_path, encoding, message):
    path = write(tmp_path, "reviews.csv", "text,label\nCafé.,pos\n".encode())
    with pytest.raises(DataError, match=message):
        read_records(path, encoding=encoding)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": "reveiw"},
            r"no column 'reveiw' for `text`; it has \['id', 'review', 'stars'\] \(did you mean 'review'\?\). Map it, e.g. `columns=\{'text': 'review'\}` or `-s data.columns.text=review`",
        ),
        ({"lable": "stars"}, r"`columns` has the key 'lable', but the keys are .*Did you mean 'label'\?"),
        ({"text": "review", "label": "review"}, r"maps \['label', 'text'\] to the same column 'review'"),
    ],
)
def test_wrong_column_mapping(tmp_path, columns, message):
    path = write(tmp_path, "reviews.csv", lines("id,review,stars", "1,A joy.,5"))
    with pytest.raises(ColumnError, match=message):
        read_records(path, columns=columns)


# Objects

OBJECTS = [
    (3, r"`train_data` is a `int`; expected a path or a list of paths, a list of dictionaries"),
    ({1, 2}, r"`train_data` is a `set`"),
    ([], r"`train_data` has no rows"),
    (["a.csv", 3], r"`train_data\[0\]` is a `str`; expected a dictionary"),
    ([{"text": "a", "label": "b"}, "c"], r"`train_data\[1\]` is a `str`"),
    ((["a", "b"], [1]), r"columns of different lengths: 2 of 'text', 1 of 'label'"),
    (("a text", "pos"), r"read as `\(texts, labels\)`, but its texts are a `str`"),
    ({"text": "a", "label": "b"}, r"is a dictionary whose 'text' is a `str`; expected a list of values"),
    ({"text": ["a"], "label": ["b", "c"]}, r"columns of different lengths"),
    (
        {"train": pa.table({"text": ["a"]})},
        r"is a dictionary of datasets \['train'\]; pass one of them, e.g. `data\['train'\]`",
    ),
    (([b"\xff"], ["a"]), r"bytes that are not UTF-8 as text in 1 row \(item 0: byte 0\)"),
    (([float("nan"), None, "a"], [1, 2, 3]), r"no text in 2 rows \(items 0, 1\)"),
    (
        (["a", "b"], [0.5, float("nan")]),
        r"a number with decimals as label.*\n  - no label in 1 row \(item 1\)",
    ),
    (pd.DataFrame({"text": ["a", 3, None], "label": [1, 2, 3]}), r"no text in 1 row \(item 2\)"),
    (pd.DataFrame({"text": ["a", "b"], "label": [1.0, float("nan")]}), r"no label in 1 row \(item 1\)"),
    (
        pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]),
        r"has the column 'text' more than once",
    ),
    (([10**5000], [1]), r"a number instead of text in 1 row \(item 0: "),
    ([("\ud800", "a")], r"invalid Unicode in the text in 1 row \(item 0: U\+D800"),
]


@pytest.mark.parametrize(("source", "message"), OBJECTS, ids=range(len(OBJECTS)))
def test_bad_object_is_answered_with_its_message(source, message):
    with pytest.raises(DataError, match=message):
        read_records(source, name="train_data")
