"""Bad input, one row a case: each is answered with a sentence that says where, what and what to do."""

# ruff: noqa: E501 - a case is a row of a table, and its message stays whole

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data import limits
from kerasllm.data.reading import read_records
from kerasllm.errors import ColumnError, DataError, LabelError

GOOD = "text,label\nA joy.,pos\nA bore.,neg\n"


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode() + b"\n"


def jsonl(*rows: str) -> bytes:
    return lines('{"text": "A joy.", "label": "pos"}', *rows)


def zipped(members: dict[str, bytes], *, mode: int | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode or 0) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def parquet_with_bytes(column: str) -> bytes:
    good = pa.array(["A joy.", "Good.", "B\u00e9."]).buffers()
    data = good[2].to_pybytes().replace("\u00e9".encode(), b"\xff\xff")
    bad = pa.Array.from_buffers(pa.string(), 3, [None, good[1], pa.py_buffer(data)])
    return parquet(**({"text": ["a", "b", "c"], "label": ["a", "b", "c"]} | {column: bad}))


def damaged_parquet() -> bytes:
    data = bytearray(parquet(text=["A joy."] * 1000, label=["pos", "neg"] * 500))
    data[-40:-12] = b"\xff" * 28
    return bytes(data)


def tar_header() -> bytes:
    return b"reviews.csv".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 248


MANY = "\n".join(f"text {row},pos" for row in range(50_000)).encode()
LONG = "x" * (limits.MAX_CHARACTERS + 1)

# name of the file, its bytes, the error, and what it says
FILES = [
    # Nothing there (D1)
    ("reviews.csv", b"", DataError, r"`reviews.csv` has no rows: the file is empty \(0 bytes\)"),
    ("reviews.csv", b"text,label\n", DataError, r"`reviews.csv` has no rows\."),
    ("reviews.csv", b"\n\n  \n", DataError, r"`reviews.csv` has no rows: it holds nothing but empty lines"),
    ("reviews.jsonl", b"\n\n", DataError, r"`reviews.jsonl` has no rows"),
    ("reviews.csv.gz", gzip.compress(b"text,label\n"), DataError, r"`reviews.csv.gz` has no rows"),
    (
        "reviews.parquet",
        parquet(text=pa.array([], "str"), label=pa.array([], "str")),
        DataError,
        "has no rows",
    ),
    # Columns (D2, D9)
    (
        "reviews.csv",
        lines("text,lable", "A joy.,pos"),
        ColumnError,
        r"needs the columns \['label', 'text'\] for the task `text_classification`, but has \['lable', 'text'\]. "
        r"Rename them or map them, e.g. `columns=\{'label': 'lable'\}` or `-s data.columns.label=lable`",
    ),
    (
        "reviews.csv",
        lines("who,what it says", "Ann,A joy."),
        ColumnError,
        r"e.g. `columns=\{'text': 'who', 'label': 'what it says'\}` or "
        r"`-s data.columns.text=who -s data.columns.label='what it says'`",
    ),
    (
        "reviews.csv",
        lines("text,sentiment,topic", "A joy.,pos,film"),
        ColumnError,
        r"Several could be meant: \['sentiment', 'topic'\]",
    ),
    (
        "reviews.csv",
        lines("review,comment,label", "A joy.,yes,pos"),
        ColumnError,
        r"Several could be meant: \['review', 'comment'\]",
    ),
    (
        "reviews.csv",
        lines("text,label,text", "a,b,c"),
        ColumnError,
        r"line 1 names the column 'text' more than once \(columns \[1, 3\]\)",
    ),
    ("reviews.jsonl", b'{"story": "A joy."}\n', ColumnError, r"but has \['story'\]"),
    ("reviews.parquet", parquet(body=["a"], stars=[1]), ColumnError, r"but has \['body', 'stars'\]"),
    (
        "reviews.csv",
        lines("x" * 5000 + ",y", "a,b"),
        ColumnError,
        r"e.g. `columns=\{'text': 'COLUMN', 'label': 'y'\}`",
    ),
    (
        "reviews.csv",
        lines(",spam,text", "0,1,A joy."),
        ColumnError,
        r"but has \['', 'spam', 'text'\]. Rename them or map them, e.g. `columns=\{'label': 'spam'\}`",
    ),
    # Encodings (D4, D5)
    (
        "reviews.csv",
        "text,label\nGood.,pos\nCaf\xe9.,neg\n".encode("cp1252"),
        DataError,
        r"bytes that are not UTF-8 in 1 line \(line 3: byte 24 \(0xE9\)\). It looks like cp1252: pass "
        r"`encoding='cp1252'` or `-s data.encoding=cp1252`",
    ),
    (
        "reviews.csv",
        "text,label\nCafé.,pos\n".encode() + "Café.,neg\n".encode("latin-1"),
        DataError,
        r"line 3: byte 25 \(0xE9\)\). Lines before it are UTF-8, so the file mixes encodings",
    ),
    (
        "reviews.csv",
        GOOD.encode("utf-16"),
        DataError,
        r"not UTF-8 at byte 0 \(0xFF\) on line 1; it looks like UTF-16",
    ),
    ("reviews.csv", GOOD.encode("utf-16-le"), DataError, r"it looks like UTF-16: pass `encoding='utf-16'`"),
    ("reviews.jsonl", b'{"text": "\x81\xff", "label": "a"}\n', DataError, "Pass the file's encoding as"),
    # Delimiters (D6)
    (
        "reviews.csv",
        lines("text;label|x", "a;b|c"),
        ColumnError,
        r"has only one column 'text;label\|x'; it looks as if separated by ';' or '\|'",
    ),
    # Quotes (D7)
    (
        "reviews.csv",
        lines("text,label", "good,pos", '"never closed,neg', *["more,pos"] * 1000),
        DataError,
        r"a quote that is never closed in 1 row \(line 3: the quote opened there swallows everything up to line "
        r"1,003\). Inside quotes, write a quote as two",
    ),
    (
        "reviews.csv",
        lines("text,label", '"He said "no" twice",neg', "fine,pos"),
        DataError,
        r"text after a closing quote in 1 row \(line 2\)",
    ),
    (
        "reviews.csv",
        lines("text,label", '"open,neg', "fine,pos", '"closed",pos'),
        DataError,
        r"a quote that is never closed in 1 row \(line 2: the quote opened there swallows everything up to line 4\)",
    ),
    # Long fields (D8)
    (
        "reviews.csv",
        lines("text,label", "fine,pos", f"{LONG},neg"),
        DataError,
        r"a text longer than 1,048,576 characters in 1 row \(line 3: 1,048,577\)",
    ),
    (
        "reviews.csv",
        lines("text,label", f"{LONG * 5},neg"),
        DataError,
        r"a field longer than 4,194,304 characters",
    ),
    ("reviews.jsonl", jsonl(json.dumps({"text": LONG, "label": "a"})), DataError, r"line 2: 1,048,577"),
    (
        "reviews.csv",
        lines("text,label", f"good,{'l' * 1001}"),
        LabelError,
        r"a label longer than 1,000 characters",
    ),
    # Ragged rows and NUL (D9)
    (
        "reviews.csv",
        lines("text,label", "A joy.,pos", "Well, well.,neg", "alone"),
        DataError,
        r"cannot be used:\n  - too many fields in 1 row \(line 3: 3 instead of 2\)\n  - too few fields in 1 row "
        r"\(line 4: 1 instead of 2\)\nMend them, or drop those 2 rows with `max_bad_rows=2` or "
        r"`-s data.max_bad_rows=2`",
    ),
    ("reviews.csv", lines("text,label", "a\0b,pos"), DataError, r"a NUL character in 1 line \(line 2\)"),
    (
        "reviews.csv",
        b"text,label\na\rb,pos\n",
        DataError,
        r"a carriage return outside quotes in 1 row \(line 2\)",
    ),
    # Texts that are none (D10, D11)
    (
        "reviews.jsonl",
        jsonl('{"text": null, "label": "a"}', '{"label": "a"}', '{"text": null, "label": "b"}'),
        DataError,
        r"no text in 3 rows \(lines 2, 3, 4\)",
    ),
    (
        "reviews.jsonl",
        jsonl('{"text": 3, "label": "a"}', '{"text": true, "label": "a"}'),
        DataError,
        r"a number instead of text in 2 rows \(line 2: 3; line 3: True\). To read numbers as text, pass "
        r"`cast_text=True` or `-s data.cast_text=true`",
    ),
    (
        "reviews.jsonl",
        jsonl('{"text": ["a"], "label": "a"}'),
        DataError,
        r"a `list` instead of text .*line 2: \['a'\]",
    ),
    (
        "reviews.parquet",
        parquet(text=[1.5, 2.5], label=["a", "b"]),
        DataError,
        r"a number instead of text in 2 rows \(row 1",
    ),
    (
        "reviews.parquet",
        parquet(text=["a", None], label=["a", "b"]),
        DataError,
        r"no text in 1 row \(row 2\)",
    ),
    (
        "reviews.parquet",
        parquet_with_bytes("text"),
        DataError,
        r"bytes that are not UTF-8 as text in 1 row \(row 3: byte 1\)",
    ),
    (
        "reviews.parquet",
        parquet_with_bytes("label"),
        LabelError,
        r"bytes that are not UTF-8 as label in 1 row \(row 3",
    ),
    (
        "reviews.parquet",
        parquet(text=pa.array([2**62], pa.timestamp("us")), label=["a"]),
        DataError,
        r"has a column 'text' that cannot be read: ",
    ),
    # Labels that are none (D12)
    (
        "reviews.csv",
        lines("text,label", "good,", "bad,neg", "fine,NaN"),
        LabelError,
        r"no label in 2 rows \(lines 2, 4\)",
    ),
    ("reviews.jsonl", jsonl('{"text": "a", "label": null}'), LabelError, r"no label in 1 row \(line 2\)"),
    (
        "reviews.jsonl",
        jsonl('{"text": "a", "label": 0.5}'),
        LabelError,
        r"a number with decimals as label.*line 2: 0.5",
    ),
    ("reviews.jsonl", jsonl('{"text": "a", "label": {"b": 1}}'), LabelError, r"a `dict` instead of a label"),
    (
        "reviews.jsonl",
        jsonl('{"text": "a", "label": ["b"]}'),
        LabelError,
        r"Some rows have one label and some a list",
    ),
    (
        "reviews.jsonl",
        lines('{"text": "a", "label": [0, 1, 0]}'),
        LabelError,
        r"the same label twice in a list .*not a vector of zeros and ones",
    ),
    (
        "reviews.parquet",
        parquet(text=["a"], label=[float("inf")]),
        LabelError,
        r"a number with decimals as label.*inf",
    ),
    # Unicode (D21)
    (
        "reviews.jsonl",
        jsonl(r'{"text": "bad \ud800 half", "label": "a"}'),
        DataError,
        r"invalid Unicode in the text in 1 row \(line 2: U\+D800 at character 4\). A lone surrogate is half of a character: .* or pass `fix_unicode=True` or `-s data.fix_unicode=true` to read U\+FFFD instead",
    ),
    (
        "reviews.jsonl",
        jsonl(r'{"text": "a", "label": "\udfff"}'),
        LabelError,
        r"invalid Unicode in the label",
    ),
    # Damaged compression (D24, D25, D26)
    (
        "reviews.csv.gz",
        gzip.compress(b"text,label\n" + MANY)[:-20_000],
        DataError,
        r"`reviews.csv.gz` is incomplete: it ends too early, after [1-4]\d,\d{3} good lines. Fetch it again",
    ),
    ("reviews.csv.bz2", bz2.compress(GOOD.encode())[:-10], DataError, r"`reviews.csv.bz2` is incomplete"),
    ("reviews.csv.xz", lzma.compress(GOOD.encode())[:-10], DataError, r"`reviews.csv.xz` is incomplete"),
    (
        "reviews.csv.gz",
        gzip.compress(GOOD.encode())[:-8] + b"\0" * 8,
        DataError,
        r"`reviews.csv.gz` is corrupt after \d+ good lines",
    ),
    (
        "reviews.csv.gz",
        GOOD.encode(),
        DataError,
        r"is named `.gz` but does not hold gzip data \(it begins with 74 65 78 74\)",
    ),
    ("reviews.csv.zip", GOOD.encode(), DataError, r"is named `.zip` but does not hold ZIP data"),
    ("reviews.zip", zipped({"reviews.csv": GOOD.encode()})[:-30], DataError, "is incomplete or corrupt"),
    # Something else under a wrong name (D26)
    (
        "reviews.csv",
        gzip.compress(GOOD.encode()),
        DataError,
        r"is named like CSV but holds gzip data. Name it `.gz`",
    ),
    (
        "reviews.csv",
        zipped({"xl/workbook.xml": b""}),
        DataError,
        "holds a ZIP archive or Excel workbook. Save a workbook as CSV",
    ),
    ("reviews.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", DataError, "holds an old Excel or Word file"),
    ("reviews.jsonl", parquet(text=["a"]), DataError, "named like JSON Lines but holds a Parquet file"),
    ("reviews.csv", b"%PDF-1.7\n", DataError, "holds a PDF document"),
    ("reviews.csv", b"SQLite format 3\0more", DataError, "holds an SQLite database"),
    ("reviews.csv", b"\x80\x04\x95\x10\0\0\0", DataError, "holds a Python pickle, which is never loaded"),
    (
        "reviews.csv",
        b"<!DOCTYPE html>\n<html>",
        DataError,
        "holds a web page, perhaps a log-in or error page",
    ),
    ("reviews.csv", tar_header(), DataError, "holds a tar archive, which is not read"),
    ("reviews.tar.gz", gzip.compress(tar_header()), DataError, "is a tar archive, which is not read"),
    (
        "reviews.parquet",
        GOOD.encode(),
        DataError,
        r"named like Parquet but is none: it begins with 74 65 78 74",
    ),
    (
        "reviews.parquet",
        parquet(text=["a"] * 99)[:-10],
        DataError,
        "is an incomplete Parquet file: its end is missing",
    ),
    ("reviews.parquet", damaged_parquet(), DataError, "is a damaged Parquet file"),
    ("reviews.parquet", b"PARE" + b"\0" * 20 + b"PARE", DataError, "is an encrypted Parquet file"),
    (
        "reviews.xlsx",
        b"PK\x03\x04",
        DataError,
        r"has the ending `.xlsx`, which names no format that is read. Read are CSV",
    ),
    ("reviews", GOOD.encode(), DataError, "has no ending, which names no format"),
    ("reviews.parquet.gz", b"\x1f\x8b", DataError, "is a compressed Parquet file"),
    ("reviews.txt", b"A joy.\n", DataError, "`reviews.txt` is plain text, which has no labels"),
    # JSON Lines (D28)
    (
        "reviews.jsonl",
        jsonl('{"text": "a",'),
        DataError,
        r"invalid JSON in 1 row \(line 2: Expecting property name .*at column \d+\). Each line must be one object",
    ),
    (
        "reviews.json",
        b'[{"text": "a"},\n{"text": "b"}]',
        DataError,
        r"is a JSON array, not JSON Lines.*`jq -c '.\[\]' reviews.json > rows.jsonl`",
    ),
    ("reviews.json", b'{\n  "text": "a"\n}', DataError, "spreads an object over several lines"),
    (
        "reviews.jsonl",
        jsonl('{"text": "a", "label": NaN}'),
        DataError,
        r"line 2: NaN is not JSON; write null",
    ),
    ("reviews.jsonl", jsonl('{"text": "a", "text": "b"}'), DataError, r"line 2: the key 'text' twice"),
    ("reviews.jsonl", jsonl("[" * 100_000), DataError, r"line 2: nested too deeply"),
    (
        "reviews.jsonl",
        jsonl('{"text": "a", "label": ' + "9" * 5000 + "}"),
        DataError,
        r"line 2: a number of more than 4,300 digits",
    ),
    ("reviews.jsonl", jsonl('"A joy."'), DataError, r"line 2: 'A joy.' is no object"),
    (
        "reviews.jsonl",
        jsonl('{"text": "a", "label": 1000000000000000000}'),
        LabelError,
        "a number that is too large for a label",
    ),
]


def write(directory, name: str, content: bytes) -> str:
    (directory / name).write_bytes(content)
    return name


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "content", "error", "message"), FILES, ids=range(len(FILES)))
def test_bad_file_is_answered_with_its_message(tmp_path, name, content, error, message):
    path = write(tmp_path, name, content)
    with pytest.raises(error, match=message) as raised:
        read_records(path)
    assert type(raised.value) is error
    assert raised.value.__cause__ is None
    assert len(str(raised.value)) < 1000


def test_corpus_is_as_large_as_promised():
    assert len(FILES) >= 60
