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


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"reviews.csv": GOOD.encode()}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says: encrypted
        data[data.index(magic) + offset] |= 1
    return bytes(data)


def write(directory, name: str, content: bytes) -> str:
    os.chdir(directory)
    (directory / name).write_bytes(content)
    return name


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Archives (D27)

ARCHIVES = [
    ("reviews.zip", zipped({"": b"x"}), DataError, r"has a member '' that climbs out"),
    ("reviews.zip", zipped({"a\x1b.csv": b"x"}), DataError, r"a member 'a\\x1b.csv' with control characters"),
    (
        "reviews.zip",
        zipped({"../reviews.csv": b"x"}),
        DataError,
        r"a member '../reviews.csv' that climbs out",
    ),
    (
        "reviews.zip",
        zipped({"/etc/reviews.csv": b"x"}),
        DataError,
        r"a member '/etc/reviews.csv' that climbs out",
    ),
    ("reviews.zip", zipped({"C:\\reviews.csv": b"x"}), DataError, r"that climbs out of the archive"),
    (
        "reviews.zip",
        zipped({"reviews.csv": b"/etc/passwd"}, mode=0o120777),
        DataError,
        "that is no regular file",
    ),
    (
        "reviews.zip",
        zipped({"a.csv": b"x", "b.csv": b"y"}),
        DataError,
        r"holds 2 data files: 'a.csv', 'b.csv'. Name one, e.g. `reviews.zip/a.csv`",
    ),
    (
        "reviews.zip",
        zipped({"readme.md": b"x"}),
        DataError,
        r"holds no CSV, TSV, JSON Lines or text file; it has 'readme.md'",
    ),
    (
        "reviews.zip",
        zipped({"[Content_Types].xml": b"", "a.txt": b""}),
        DataError,
        "is an Excel workbook or Word document",
    ),
    (
        "reviews.zip",
        zipped({f"{row}.md": b"" for row in range(10_001)}),
        DataError,
        r"has 10,001 members; at most 10,000",
    ),
    (
        "reviews.zip",
        encrypted_zip(),
        DataError,
        "`reviews.zip` is encrypted. Unpack it with its password first",
    ),
    (
        "reviews.zip",
        zipped({"a.csv": lines("text,label", "a")}),
        DataError,
        r"`reviews.zip/a.csv` cannot be used: too few fields in 1 row \(line 2",
    ),
]


@pytest.mark.parametrize(("name", "content", "error", "message"), ARCHIVES, ids=range(len(ARCHIVES)))
def test_archive_that_is_not_read(tmp_path, name, content, error, message):
    path = write(tmp_path, name, content)
    with pytest.raises(error, match=message):
        read_records(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]  # nothing was extracted


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


@pytest.mark.parametrize("name", ["big.csv", "big.csv.xz"])
def test_file_larger_than_memory_is_refused_with_numbers(tmp_path, small_limits, monkeypatch, name):
    monkeypatch.setattr(limits, "available_memory", lambda: 2**21)
    monkeypatch.setattr(limits, "MAX_RATIO", 10**9)
    content = b"text,label\n" + ROW * 2**13
    path = write(tmp_path, name, content if name == "big.csv" else lzma.compress(content))
    message = r"`big.csv.*` holds 0.0 GiB of rows or more; reading it whole needs about .* `predict` reads files of any"
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
            r"no column 'reveiw' for `text`; it has \['id', 'review', 'stars'\]. Map them, e.g. `columns=\{'text': 'review'\}` or `-s data.columns.text=review`",
        ),
        (
            {"text": "text", "label": "label"},
            r"has no column 'text' for `text` and no column 'label' for `label`; it has .*`-s data.columns.text=review -s data.columns.label=stars`",
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


def test_bad_lines_of_a_stream_are_named_when_they_are_reached(tmp_path):
    path = write(tmp_path, "reviews.txt", b"good\n\n" + b"\xff\xfe\n")
    batches = stream_records(path, batch_size=1)
    assert next(batches).texts == ["good"]
    assert next(batches).texts == [""]
    with pytest.raises(DataError, match=r"bytes that are not UTF-8 in 1 line \(line 3: byte 6 \(0xFF\)\)"):
        next(batches)


def test_bad_rows_are_dropped_up_to_the_number_allowed(tmp_path):
    path = write(tmp_path, "reviews.csv", lines("text,label", *["good,pos"] * 20, "a,b,c", "d,"))
    with pytest.raises(DataError, match=r"drop those 2 rows with `max_bad_rows=2` \(now 1\)"):
        read_records(path, max_bad_rows=1)
    records = read_records(path, max_bad_rows=2)
    assert records.num_rows == 20
    assert records.notes == (
        "`reviews.csv`: dropped too many fields in 1 row (line 22: 3 instead of 2)",
        "`reviews.csv`: dropped no label in 1 row (line 23)",
    )
