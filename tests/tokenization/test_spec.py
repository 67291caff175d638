"""Components without an exact implementation are refused by name, damaged files by place."""

import json

import pytest

from kerasllm.errors import TokenizerError
from kerasllm.tokenization import Tokenizer


def changed(specification, path, value):
    *parents, last = path
    place = specification
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(specification)


TOKEN = ("added_tokens", 4)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model",), {"type": "Odd", "vocab": {}}, r"model `Odd` has no exact.*`BPE`.*`WordPiece`"),
        (("model", "continuing_subword_prefix"), "", r"`continuing_subword_prefix` = ``"),
        (("normalizer",), {"type": "ByteLevel"}, r"normalizer `ByteLevel` has no exact.*`BertNormalizer`"),
        (
            ("normalizer",),
            {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Odd"}]},
            r"normalizer `Odd` has no exact",
        ),
        (("normalizer", "new_flag"), True, r"normalizer `BertNormalizer` has the parameters \['new_flag'\]"),
        (("pre_tokenizer",), None, r"= '##' and the pre-tokenizer `null`"),
        (("pre_tokenizer",), BYTE_LEVEL, r"model `WordPiece` with the pre-tokenizer|and the pre-tokenizer"),
        (("pre_tokenizer",), {"type": "UnicodeScripts"}, r"pre-tokenizer `UnicodeScripts` has no exact"),
        (("pre_tokenizer",), {"type": "WhitespaceSplit"}, r"= '##' and the pre-tokenizer `.*WhitespaceSplit"),
        (
            ("post_processor", "single"),
            [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}],
            r"`single` = `a template that leaves out or repeats a text`",
        ),
        (("decoder",), {"type": "Odd"}, r"decoder `Odd` has no exact"),
        (("new_section",), {}, r"file `tokenizer.json` has the parameters \['new_section'\]"),
    ],
)
def test_what_is_not_exact_is_refused(specification, path, value, message):
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_json(changed(specification, path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "vocab"), ..., r"model `WordPiece` lacks `vocab`.*damaged"),
        (("model", "max_input_chars_per_word"), "100", r"is '100', expected int"),
        (("model", "max_input_chars_per_word"), True, r"is True, expected int"),
        (("model", "unk_token"), "<unk>", r"unknown token '<unk>' is not in the vocabulary"),
        (("model", "vocab", "new"), 5, r"gives 'new' the id 5, which is also the id of 'a'"),
        (("model", "vocab", "new"), -1, r"gives 'new' the id -1; expected one whole number, 0 or more"),
        (("model", "vocab", "a\0b"), 99, r"vocabulary entry `'a\\x00b'`.*without NUL"),
        (("model",), "WordPiece", r"`model` of the file `tokenizer.json` is 'WordPiece', expected dict"),
        ((*TOKEN, "id"), 7, r"added token '\[MASK\]' has the id 7, but 4 in the vocabulary"),
        ((*TOKEN, "content"), "<new>", r"token '<new>' has the id 4 in.*library reads it as 26"),
        ((*TOKEN, "content"), "", r"an added token of the `tokenizer.json` is empty"),
        (("added_tokens",), {}, r"`added_tokens`.* is \{\}, expected list"),
        (("added_tokens", 0), "[PAD]", r"added token.*is '\[PAD\]', expected a JSON object"),
        (("post_processor", "single", 0), "$A", r"the template of the post-processor holds '\$A'"),
        (
            ("post_processor", "single", 0, "SpecialToken", "id"),
            "<s>",
            r"names '<s>', which is not among its special tokens \['\[CLS\]', '\[SEP\]'\]",
        ),
        (
            ("post_processor",),
            {"type": "BertProcessing", "cls": "[CLS]", "sep": ["[SEP]", 3]},
            r"`cls` of the post-processor `BertProcessing` is '\[CLS\]', expected list",
        ),
        (
            ("post_processor",),
            {"type": "BertProcessing", "cls": ["[CLS]"], "sep": ["[SEP]", 3]},
            r"`cls` of the post-processor `BertProcessing` is \['\[CLS\]'\], expected a token and its id",
        ),
    ],
)
def test_damaged_files_are_refused(specification, path, value, message):
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_json(changed(specification, path, value))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(TokenizerError, match=r"not JSON at line 2, column 1: .*download it again"):
        Tokenizer.from_json("{\n")
    with pytest.raises(TokenizerError, match=r"file of the `tokenizer.json` is \[\], expected a JSON object"):
        Tokenizer.from_json("[]")


def test_what_only_the_library_can_refuse_is_refused(specification):
    specification["post_processor"]["special_tokens"]["[CLS]"]["tokens"] = 3
    with pytest.raises(TokenizerError, match=r"the `tokenizers` library .* cannot read this"):
        Tokenizer.from_json(json.dumps(specification))


def test_a_token_that_is_too_long_for_the_graph_is_refused(specification):
    specification["model"]["vocab"]["\U0001d4d0" * 90] = 26
    tokenizer = Tokenizer.from_json(json.dumps(specification))
    with pytest.raises(TokenizerError, match=r"cannot be run in a TensorFlow graph: .*exceeds the max"):
        _ = tokenizer.trackable


BERT = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
SPLIT_AND_PUNCTUATION = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Punctuation", "behavior": "Isolated"},
        {"type": "Digits", "individual_digits": True},
    ],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("post_processor",), None),
        (("post_processor",), BERT),
        (("normalizer",), None),
        (("normalizer",), {"type": "Lowercase"}),
        (("normalizer",), {"type": "StripAccents"}),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFD"}]}),
        (("pre_tokenizer",), SPLIT_AND_PUNCTUATION),
        (("decoder", "cleanup"), False),
        (("model", "max_input_chars_per_word"), 3),
        (("model", "vocab", "far"), 1000),
        (("model", "vocab", "##"), 26),
        (("model", "vocab", "y" * 300), 26),
        ((*TOKEN, "lstrip"), True),
        ((*TOKEN, "rstrip"), True),
        ((*TOKEN, "special"), False),
        ((*TOKEN, "single_word"), True),
        ((*TOKEN, "normalized"), True),
        (("added_tokens",), []),
        (("decoder",), None),
        (("normalizer",), {"type": "NFKC"}),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFD"}]}),
        (
            ("truncation",),
            {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
        ),
    ],
)
def test_what_is_accepted_is_exact(specification, path, value):
    tokenizer = Tokenizer.from_json(changed(specification, path, value))
    tokenizer.check_graph()
    texts = ["far [MASK] cafés 123 ' a1b\t[MASK]x", "film## ##s unaffable, a.b yyy"]
    assert tokenizer.graph_encode(texts).to_list() == tokenizer.encode(texts)
