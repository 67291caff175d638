"""Random bytes, damaged files, random values: rows or an error of ours, never a traceback (D32)."""

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm.data.reading import read_records, stream_records
from kerasllm.errors import KerasLLMError

GOOD = "text,label\nA joy.,pos\nA bore.,neg\n"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", GOOD)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["A joy.", "A bore."], "label": ["pos", "neg"]}), buffer)
    return buffer.getvalue()


def answer(read) -> str:
    """The message of an error of ours; any other goes through."""
    try:
        read()
    except KerasLLMError as error:
        return str(error)
    return ""


NAMES = ["f.csv", "f.tsv", "f.jsonl", "f.txt", "f.csv.gz", "f.csv.bz2", "f.csv.xz", "f.zip", "f.parquet"]
SEEDS = {
    "f.csv": GOOD.encode(),
    "f.tsv": GOOD.replace(",", "\t").encode(),
    "f.jsonl": b'{"text": "A joy.", "label": "pos"}\n',
    "f.txt": b"A joy.\n",
    "f.csv.gz": gzip.compress(GOOD.encode()),
    "f.csv.bz2": bz2.compress(GOOD.encode()),
    "f.csv.xz": lzma.compress(GOOD.encode()),
    "f.zip": zipped(),
    "f.parquet": parquet(),
}


def read_or_refuse(tmp_path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for message in (answer(lambda: read_records(name)), answer(lambda: list(stream_records(name)))):
        assert message.replace("\n", "").isprintable()  # nothing that a terminal would obey


_QUICK = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@pytest.mark.parametrize("name", NAMES)
@_QUICK
@given(content=st.binary(max_size=300))
def test_random_bytes_never_give_a_traceback(tmp_path, name, content):
    read_or_refuse(tmp_path, name, content)


@pytest.mark.parametrize("name", NAMES)
@_QUICK
@given(data=st.data())
def test_damaged_good_files_never_give_a_traceback(tmp_path, name, data):
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(tmp_path, name, bytes(content[: data.draw(st.integers(1, len(content)))]))


@_QUICK
@given(rows=st.lists(st.tuples(st.text(), st.text())), delimiter=st.sampled_from(",;|\t"))
def test_random_text_between_delimiters_never_gives_a_traceback(tmp_path, rows, delimiter):
    body = "\n".join(f"{a}{delimiter}{b}" for a, b in rows)
    read_or_refuse(tmp_path, "f.csv", f"text{delimiter}label\n{body}".encode(errors="replace"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@_QUICK
@given(rows=st.lists(st.fixed_dictionaries({"text": JSON, "label": JSON}), max_size=5))
def test_random_values_never_give_a_traceback(tmp_path, rows):
    content = "\n".join(json.dumps(row) for row in rows).encode()
    read_or_refuse(tmp_path, "f.jsonl", content)
    assert answer(lambda: read_records(rows)).replace("\n", "").isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_never_give_a_traceback(tmp_path, name):
    """100,000 cases over all formats; a generator of our own, since hypothesis' takes most of the time."""
    generator = random.Random(name)
    for _ in range(100_000 // len(NAMES) + 1):
        content = bytearray(SEEDS[name] if generator.random() < 0.8 else generator.randbytes(200))
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(len(content))
            damage = generator.choice(
                (generator.randbytes(1), b"", b'"', b"\n", b"\0", b"\xff", content[at : at + 9] * 2)
            )
            content[at : at + 1] = damage
            content = content or bytearray(b"x")
        if generator.random() < 0.2:
            content = content[: generator.randint(1, len(content))]
        read_or_refuse(tmp_path, name, bytes(content))
