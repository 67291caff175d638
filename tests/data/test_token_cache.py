"""Token ids are made once, found again for the same texts and settings only, and never read when damaged."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from kerasllm.data import token_cache as module
from kerasllm.data.token_cache import prepare_tokens, token_cache
from kerasllm.errors import ResourceError

TEXTS = [f"text number {n} " + "x" * (n % 40) for n in range(5000)]
PAIRS = [f"pair {n}" for n in range(5000)]
SETTINGS = {"tokenizer": "0a1b", "sequence_length": 128}


class Encode:
    """Bytes as ids; the segment of a pair is 1. Counts its calls."""

    def __init__(self):
        self.num_texts = 0

    def __call__(self, texts, pairs):
        self.num_texts += len(texts)
        seconds = pairs or [""] * len(texts)
        ids = [list(f"{text}{pair}".encode()) for text, pair in zip(texts, seconds, strict=True)]
        segments = [[0] * len(text) + [1] * len(pair) for text, pair in zip(texts, seconds, strict=True)]
        return ids, segments


def prepare(cache, texts=TEXTS, pairs=None, settings=SETTINGS, encode=None, **options):
    encode = encode or Encode()
    found = prepare_tokens(texts, pairs, encode=encode, settings=settings, cache=cache, **options)
    return found, encode.num_texts


def assert_right(found, texts=TEXTS, pairs=None):
    ids, segments = Encode()(texts, pairs)
    np.testing.assert_array_equal(found.lengths, [len(row) for row in ids])
    np.testing.assert_array_equal(found.token_ids, np.concatenate(ids))
    if pairs is None:
        assert found.segment_ids is None
    else:
        np.testing.assert_array_equal(found.segment_ids, np.concatenate(segments))


def entries(cache):
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("pairs", [None, PAIRS, [""] * 4990 + PAIRS[4990:], PAIRS[:10] + [""] * 4990])
def test_ids_are_made_once_and_mapped_from_disk_afterwards(pairs, tmp_path):
    first, made = prepare(tmp_path, pairs=pairs)
    again, made_again = prepare(tmp_path, pairs=pairs)
    assert (made, made_again) == (5000, 0)
    for found in (first, again, prepare(None, pairs=pairs)[0]):
        assert_right(found, pairs=pairs)
    assert isinstance(again.token_ids.base, np.memmap)
    assert not again.token_ids.flags.writeable


@pytest.mark.parametrize(
    "changed",
    [
        {"texts": [*TEXTS[:-1], "another"]},
        {"texts": TEXTS[::-1]},
        {"texts": ["text number 0 t", "ext number 1 x", *TEXTS[2:]]},  # the same letters, cut elsewhere
        {"pairs": PAIRS},
        {"settings": {**SETTINGS, "tokenizer": "0a1c"}},
        {"settings": {**SETTINGS, "sequence_length": 127}},
        {"settings": {**SETTINGS, "sequence_length": None}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_the_ids_come_from_is_in_the_key(changed, tmp_path):
    prepare(tmp_path)
    found, made = prepare(tmp_path, **changed)
    assert made == 5000
    assert len(entries(tmp_path)) == 2
    assert_right(found, changed.get("texts", TEXTS), changed.get("pairs"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda entry: flip(entry / "token_ids.bin"), "token_ids.bin: sha256 differs"),
        (lambda entry: flip(entry / "offsets.bin"), "offsets.bin: sha256 differs"),
        (lambda entry: os.truncate(entry / "token_ids.bin", 400), "token_ids.bin: 400 bytes instead of"),
        (lambda entry: (entry / "offsets.bin").unlink(), "offsets.bin: missing"),
        (lambda entry: (entry / "MANIFEST.json").write_text("{"), "is damaged"),
        (lambda entry: (entry / "MANIFEST.json").unlink(), ""),  # what a killed writer leaves
    ],
    ids=["ids", "offsets", "cut", "missing", "manifest", "no manifest"],
)
def test_a_damaged_entry_is_noticed_and_made_anew(damage, told, tmp_path, caplog):
    prepare(tmp_path)
    damage(entries(tmp_path)[0])
    found, made = prepare(tmp_path)
    assert made == 5000
    assert_right(found)
    assert told in caplog.text
    assert ("tokenized again" in caplog.text) == bool(told)
    assert prepare(tmp_path)[1] == 0


def test_a_tokenizer_that_fails_leaves_nothing(tmp_path):
    def fail(texts, pairs):
        raise ValueError("not a text")

    with pytest.raises(ValueError, match="not a text"):
        prepare_tokens(TEXTS, encode=fail, settings=SETTINGS, cache=tmp_path)
    assert entries(tmp_path) == []
    assert_right(prepare(tmp_path)[0])


def test_several_writers_at_once_make_one_entry(tmp_path):
    results, encode = [], Encode()
    threads = [
        threading.Thread(target=lambda: results.append(prepare(tmp_path, encode=encode)[0])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encode.num_texts == 5000
    assert len(results) == 4
    for found in results:
        assert_right(found)
    assert len(entries(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_is_an_error_or_a_warning(tmp_path, caplog):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(ResourceError, match=r"cache `.*file/tokens` cannot be written: .*`data.cache`"):
        prepare(taken / "tokens")
    found, _ = prepare(taken / "tokens", required=False)
    assert_right(found)
    assert "kept in memory instead" in caplog.text


def test_the_entries_that_were_used_last_are_kept(tmp_path, monkeypatch):
    for number in range(3):
        prepare(tmp_path, texts=TEXTS[number:])
        os.utime(entries(tmp_path)[0].parent / module._key(TEXTS[number:], None, SETTINGS), (number, number))
    mapped, made = prepare(tmp_path)  # the oldest is used again
    assert made == 0
    size = sum(file.stat().st_size for file in entries(tmp_path)[0].iterdir())
    monkeypatch.setattr(module, "KEPT_BYTES", int(2.5 * size))
    prepare(tmp_path, texts=TEXTS[3:])
    kept = [
        number for number in range(4) if (tmp_path / module._key(TEXTS[number:], None, SETTINGS)).exists()
    ]
    assert kept == [0, 3]
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    prepare(tmp_path, texts=TEXTS[4:])
    assert len(entries(tmp_path)) == 1
    assert_right(mapped)  # what is mapped stays readable


def test_no_texts_at_all(tmp_path):
    for cache in (tmp_path, tmp_path, None):
        found, _ = prepare(cache, texts=[])
        assert found.num_texts == 0


def test_settings_name_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    assert token_cache("auto") == tmp_path / "tokens"
    assert token_cache("here") == type(tmp_path)("here")
    assert token_cache(None) is None


def test_ids_may_be_larger_than_memory(tmp_path):
    """A child that may not hold 64 MB of its own makes 128 MB of ids, and reads them in batches."""
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from kerasllm.data.batching import make_source
        from kerasllm.config.schema import TrainingConfig
        from kerasllm.data.token_cache import prepare_tokens
        from kerasllm.data.token_ids import EncodedTexts

        class Texts:
            def __iter__(self):
                return (str(number) for number in range(32_768))

        def encode(texts, pairs):
            rows = [np.full(1024, int(text), np.int32) for text in texts]
            return rows, [row[:0] for row in rows]

        used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
        limit = used + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            np.ones(2**27, np.uint8)
        except MemoryError:
            print("limited")
        found = prepare_tokens(Texts(), encode=encode, settings={}, cache=Path(sys.argv[1]))
        texts = EncodedTexts.from_token_ids(found, np.zeros(32_768, np.int32))
        source = make_source(texts, TrainingConfig(), pad_id=0, seed=0)
        for batch in range(source.num_batches(0)):
            inputs, _, _ = source.batch(0, batch)
            assert (inputs["token_ids"] == source.rows(0, batch)[:, None]).all()
        print(found.token_ids.nbytes)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.split() == ["limited", str(2**27)], run.stderr
