"""The table of what is done to each character."""

import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers

from kerasllm.tokenization.characters import cache as memory
from kerasllm.tokenization.characters import entry, table
from kerasllm.tokenization.characters.compiler import compile_characters
from kerasllm.tokenization.characters.ordering import ordering_ranks
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, changes, classes
from kerasllm.tokenization.characters.table import CharacterTable
from kerasllm.tokenization.spec.normalizers import parse_normalizer
from kerasllm.tokenization.spec.pre_tokenizers import parse_pre_tokenizer

NORMALIZER = parse_normalizer({"type": "Lowercase"})
PRE_TOKENIZER = parse_pre_tokenizer({"type": "BertPreTokenizer"})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    memory.forget()
    yield tmp_path / "tokenization"
    memory.forget()


def same(first: CharacterTable, second: CharacterTable) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in CharacterTable.__dataclass_fields__
    )


def test_the_table_says_what_becomes_of_a_character():
    made = CharacterTable.of(NORMALIZER, PRE_TOKENIZER)

    def of(character):
        return made.entries[made.pages[ord(character) >> 8] + (ord(character) & 255)]

    assert of("a") == entry.pack(entry.WORD)
    assert of("A") == entry.pack(entry.WORD, value=32)
    assert of("\u2028") == entry.SPACE
    assert of("!") == entry.pack(entry.ISOLATED)
    dotted = of("İ")  # two characters
    assert dotted & entry.COMPLEX
    start = dotted >> entry.VALUE_SHIFT
    assert "".join(map(chr, made.expansion_characters[start : start + 2])) == "i\u0307"


def test_the_table_is_remembered_on_disk(cache, monkeypatch):
    first = CharacterTable.of(NORMALIZER, PRE_TOKENIZER)
    [file] = cache.iterdir()
    memory.forget()
    with monkeypatch.context() as patched:
        patched.setattr(table, "compile_characters", None)  # not needed again
        assert same(CharacterTable.of(NORMALIZER, PRE_TOKENIZER), first)
    assert file.stat().st_size < 200_000


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no archive at all"])
def test_a_damaged_file_is_made_anew(cache, damage):
    first = CharacterTable.of(NORMALIZER, PRE_TOKENIZER)
    [file] = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(damage or content[: len(content) // 2])
    memory.forget()
    assert same(CharacterTable.of(NORMALIZER, PRE_TOKENIZER), first)
    assert file.read_bytes()[:4] == content[:4]


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache):
    cache.write_text("a file where the directory should be")
    assert len(CharacterTable.of(NORMALIZER, PRE_TOKENIZER).pages) * 256 == NUM_CODE_POINTS


def test_another_version_of_the_library_is_another_file(cache, monkeypatch):
    CharacterTable.of(NORMALIZER, PRE_TOKENIZER)
    memory.forget()
    monkeypatch.setattr(memory.tokenizers, "__version__", "0.0.0")
    CharacterTable.of(NORMALIZER, PRE_TOKENIZER)
    assert len(list(cache.iterdir())) == 2


def test_marks_are_sorted_by_rank():
    decompose = normalizers.NFD().normalize_str
    ranks = ordering_ranks(decompose)
    marks = sorted(ranks)
    assert 700 < len(marks) < 1200
    generator = np.random.default_rng(0)
    for _ in range(3000):
        run = [marks[index] for index in generator.integers(len(marks), size=4)]
        assert decompose("a" + "".join(run)) == "a" + "".join(sorted(run, key=ranks.__getitem__))


@pytest.mark.slow
def test_planes_that_are_not_looked_at_page_by_page_are_uniform():
    normalize = normalizers.BertNormalizer().normalize_str
    pre_tokenize = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    found, kinds = changes(normalize), classes(pre_tokenize)
    for plane in (*range(4, 14), 15, 16):
        for start in range(plane << 16, (plane + 1) << 16, 256):
            page = "".join(map(chr, range(start, start + 256)))
            first = chr(plane << 16)
            if start + 256 < (plane + 1) << 16:
                assert normalize(page) == "".join(found.get(first, c) for c in page)
            if first not in kinds:
                assert [word for word, _ in pre_tokenize(page)] == [page]


def test_one_step_after_the_other_is_the_whole_normalizer():
    flags = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    steps = parse_normalizer({"type": "BertNormalizer", **flags})
    assert [step.kind for step in steps] == ["each", "each", "decompose", "each"]
    entries, characters, expansion_entries = compile_characters(steps, PRE_TOKENIZER)
    assert len(entries) == NUM_CODE_POINTS
    assert len(characters) == len(expansion_entries) < entry.LARGEST_VALUE
    assert entries[ord("É")] == entry.pack(entry.WORD, value=ord("e") - ord("É"))
    assert entries[ord("日")] == entry.pack(entry.ISOLATED)
    assert entries[0x301] == entry.pack(0, rank=entry.TRANSPARENT)
