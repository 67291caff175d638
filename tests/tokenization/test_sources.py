"""Older formats become the `tokenizer.json` that transformers makes of them."""

import json

import pytest

from kerasllm.errors import PresetError, TokenizerError
from kerasllm.testing.families import family
from kerasllm.testing.training import Training
from kerasllm.tokenization import Tokenizer, conversion
from kerasllm.tokenization.sources import read_source

VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\nworld\nhello\n  sp \nCafé\ncafe\n日\n!\n"


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    return tmp_path


FLAGS = {"normalized": False, "rstrip": False, "single_word": False, "special": True}
MASK = {"__type": "AddedToken", "content": "hello", "lstrip": True, **FLAGS}
CONFIGS = [
    None,
    {},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    {"strip_accents": False, "never_split": None, "model_max_length": 512},
    {"cls_token": "world", "mask_token": MASK},
    {
        "added_tokens_decoder": {
            "1": {
                "content": "[UNK]",
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
        }
    },
]


@pytest.mark.parametrize("config", CONFIGS)
def test_vocab_txt_is_read_as_transformers_does(directory, config):
    transformers = pytest.importorskip("transformers")
    if config is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer.load(directory)
    theirs = transformers.BertTokenizerFast.from_pretrained(directory)
    assert json.loads(ours.json) == json.loads(theirs.backend_tokenizer.to_str())
    texts = ["Hellos, WORLD! [SEP] café Café 日本 hello", ""]
    assert ours.encode(texts) == theirs(texts)["input_ids"]
    assert ours.graph_encode(texts).to_list() == theirs(texts)["input_ids"]
    assert ours.pad_id == theirs.pad_token_id


def test_lines_may_end_as_on_windows(directory):
    expected = Tokenizer.load(directory).json
    (directory / "vocab.txt").write_bytes(VOCABULARY.replace("\n", "\r\n").encode("utf-8"))
    assert Tokenizer.load(directory).json == expected


def test_a_tokenizer_json_wins(directory, as_json):
    (directory / "tokenizer.json").write_text(as_json, encoding="utf-8")
    assert Tokenizer.load(directory).json == as_json


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", '{"never_split": ["a"]}', r"comes with `never_split`, which only"),
        ("tokenizer_config.json", '{"extra_special_tokens": ["<a>"]}', r"`extra_special_tokens`.*save_pretr"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"5": {"content": "hello"}}}',
            r"`added_tokens_decoder` with 'hello'",
        ),
        ("added_tokens.json", "{}", r"comes with `added_tokens.json`"),
        ("tokenizer_config.json", '{"sep_token": "</s>"}', r"lacks the special tokens \['</s>'\]"),
        ("tokenizer_config.json", '{"tokenizer_class": "MPNetTokenizer"}', r"`tokenizer_class` 'MPNetTok"),
        (
            "special_tokens_map.json",
            '{"additional_special_tokens": ["hello"]}',
            r"comes with `special_tokens_map.json` with `additional_special_tokens`",
        ),
        ("tokenizer_config.json", "{,", r"`.*tokenizer_config.json` is not JSON at line 1"),
        ("tokenizer_config.json", "[]", r"holds a list, expected a JSON object"),
        ("tokenizer.json", b"{\xff", r"tokenizer.json` is not UTF-8 at byte 1"),
        ("vocab.txt", b"[PAD]\n\xff\n", r"vocab.txt` is not UTF-8"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(directory, name, content, message):
    (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(directory)


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer_config.json"])
def test_one_file_of_several_is_refused_with_its_directory(directory, name):
    (directory / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TokenizerError, match=rf"{name}` alone is no tokenizer.*Give the directory"):
        Tokenizer.load(directory / name)


def test_texts_may_be_cut_on_the_left(directory, as_json):
    (directory / "tokenizer_config.json").write_text('{"truncation_side": "left"}')
    tokenizer = Tokenizer.load(directory)
    [whole], [cut] = tokenizer.encode(["hello world"]), tokenizer.encode(["hello world"], sequence_length=3)
    assert cut == [whole[0], *whole[-2:]]
    tokenizer.save(directory / "copy")
    assert Tokenizer.load(directory / "copy").fingerprint == tokenizer.fingerprint


def test_a_config_that_contradicts_the_tokenizer_is_said(directory, as_json, caplog):
    (directory / "tokenizer.json").write_text(as_json, encoding="utf-8")
    lowercase = json.loads(as_json)["normalizer"]["lowercase"]
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    Tokenizer.load(directory)
    assert not caplog.records
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not lowercase}))
    Tokenizer.load(directory)
    assert "The `tokenizer.json` is used" in caplog.text


def test_a_message_names_the_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version"')
    with pytest.raises(TokenizerError, match=rf"`{tmp_path}`: the `tokenizer.json` is not JSON at line 1"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(("given", "shown"), [(None, "None"), (5, "5"), ('{"version": "1.0"}', "version")])
def test_what_is_no_handle_is_refused(given, shown):
    with pytest.raises(TokenizerError, match=rf"got .*{shown}.*goes to `Tokenizer.from_json`"):
        Tokenizer.load(given)


def test_a_conversion_to_another_kind_of_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "spiece.model").write_bytes(sentencepiece_file("bpe"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    with pytest.raises(TokenizerError, match=r"trained as BPE, but .*`T5Tokenizer` makes Unigram of it"):
        Tokenizer.load(tmp_path)


def test_a_directory_without_tokenizer_lists_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = r"has no tokenizer: expected a `tokenizer.json`, a `vocab.txt`.*but found \['config.json'\]"
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"nowhere` does not exist"):
        Tokenizer.load(tmp_path / "nowhere")


def merges_files() -> dict[str, str]:
    """A byte-level vocabulary in the two files of GPT-2."""
    model = json.loads(family("gpt2"))["model"]
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return {"vocab.json": json.dumps(model["vocab"]), "merges.txt": "#version: 0.2\n" + merges}


def sentencepiece_file(model_type: str) -> bytes:
    pytest.importorskip("sentencepiece")
    from kerasllm.testing.sentencepiece_families import train_sentencepiece

    return train_sentencepiece(Training(), model_type)


def files_of(name: str) -> dict[str, str | bytes]:
    match name:
        case "gpt2":
            return {**merges_files(), "config.json": '{"model_type": "gpt2"}'}
        case "qwen2":
            return {**merges_files(), "tokenizer_config.json": '{"tokenizer_class": "Qwen2Tokenizer"}'}
        case "llama":
            config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "add_bos_token": True}
            return {"tokenizer.model": sentencepiece_file("bpe"), "tokenizer_config.json": json.dumps(config)}
        case "t5":
            return {"spiece.model": sentencepiece_file("unigram"), "config.json": '{"model_type": "t5"}'}
        case _:
            file, config = "sentencepiece.bpe.model", '{"model_type": "xlm-roberta"}'
            return {file: sentencepiece_file("unigram"), "config.json": config}


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "llama", "t5", "xlm-roberta"])
def test_other_vocabularies_are_converted_by_transformers(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    for file, content in files_of(name).items():
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    text, config = read_source(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert json.loads(text) == json.loads(theirs.backend_tokenizer.to_str())
    given = json.loads(files_of(name).get("tokenizer_config.json", "{}"))
    assert config == given | ({"pad_token": theirs.pad_token} if theirs.pad_token else {})
    if theirs.pad_token:
        assert Tokenizer.load(tmp_path).pad_id == theirs.pad_token_id
    assert read_source(tmp_path)[0] == text
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    assert read_source(tmp_path)[0] == text


def test_a_conversion_needs_transformers(tmp_path, monkeypatch):
    for file, content in merges_files().items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(
        TokenizerError, match=r"`vocab.json` and `merges.txt`, but nothing says how texts are cut"
    ):
        read_source(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard"}')
    with pytest.raises(TokenizerError, match=r"transformers cannot convert `vocab.json` and `merges.txt` of"):
        read_source(tmp_path)
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        TokenizerError, match=r"\['transformers'\] are not installed. Run `pip install transformers`"
    ):
        read_source(tmp_path)
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(
        TokenizerError, match=r"Run `pip install transformers sentencepiece`\. Or take another way\. Load it"
    ):
        read_source(tmp_path)


def test_added_tokens_of_the_settings_are_taken_as_transformers_does(tmp_path):
    transformers = pytest.importorskip("transformers")
    specification = json.loads(family("gpt2"))
    size = len(specification["model"]["vocab"])
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    added = {
        str(size): {**plain, "content": "<first>", "lstrip": True},
        str(size + 1): {**plain, "content": "<second>", "special": True},
        "0": {**plain, "content": "<|endoftext|>", "special": True, "rstrip": True},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added}
    (tmp_path / "tokenizer.json").write_text(json.dumps(specification), encoding="utf-8")
    assert read_source(tmp_path)[0] == json.dumps(specification)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = json.loads(read_source(tmp_path)[0])["added_tokens"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer
    assert found == json.loads(theirs.to_str())["added_tokens"]
    assert len(found) == 3
    config["added_tokens_decoder"] = {"0": specification["added_tokens"][0]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_source(tmp_path)[0] == json.dumps(specification)
