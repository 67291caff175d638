"""`vocab.txt` becomes the `tokenizer.json` that transformers makes of it."""

import json

import pytest

from kerasllm.errors import PresetError, TokenizerError
from kerasllm.tokenization import Tokenizer

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
        ("tokenizer_config.json", '{"truncation_side": "left"}', r"`truncation_side: left`.*Set it to"),
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


def test_a_directory_without_tokenizer_lists_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = r"has no tokenizer: expected a `tokenizer.json`, or a `vocab.txt`.*found \['config.json'\]"
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"nowhere` does not exist"):
        Tokenizer.load(tmp_path / "nowhere")
