# ruff: noqa: RUF001 (ambiguous characters are what these texts are for)
"""Tokenizers of KerasHub's presets give the ids of the families' tokenizers in Hugging Face format."""

import functools
import json
import tempfile
from pathlib import Path

import keras_hub
import pytest
import tokenizers
import transformers

from kerasllm.errors import PresetError
from kerasllm.models.keras_hub_tokenizers import load_keras_hub_tokenizer
from kerasllm.testing.families import family
from kerasllm.testing.sentencepiece_families import train_sentencepiece
from kerasllm.testing.strings import adversarial_strings
from kerasllm.testing.training import Training

TEXTS = [
    *("", " ", "  ", "\n", "a", " a", "a ", "  two  spaces  ", "tab\tnew\nline\r\n\n end", "Café naïve"),
    *(
        "日本語のテキスト 中文",
        "한국어 हिन्दी",
        "👩\u200d👩\u200d👧 👍🏽!",
        "ﬁ ½ … １２３",
        "e\u0301 cafe\u0301 \u212b",
    ),
    *("x<mask>y", "say <mask> it", "a [MASK] b[SEP]", "<s>in</s> text <pad>", "<bos>a<eos> <unk>"),
    *("<|endoftext|> a<|endoftext|>b", "<|begin_of_text|>x<|eot_id|>y", "<|im_start|>user\nHi<|im_end|>"),
    *("<start_of_turn>user\nHi<end_of_turn>\n", "<|user|>\nHi<|end|>\n<|assistant|>", "[INST] a [/INST] b"),
    *("<extra_id_0> x <extra_id_1>", "1234567 3.14 9,", "don't I'LL we'Ve", "``quoted'' \"x\"", "<think> x"),
    *("\t\t\t  x", "       seven", "\n\n\n", "a" + " " * 40 + "b", "\u2581\u2581a"),
    *adversarial_strings(100),
]
PAIRS = list(reversed(TEXTS))
BYTES = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
BERT_CONTROLS = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP]"}
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def parts(name):
    """The vocabulary with the added tokens, as KerasHub's converters take it from a `tokenizer.json`."""
    document = json.loads(family(name))
    vocabulary = document["model"]["vocab"]
    vocabulary |= {token["content"]: token["id"] for token in document["added_tokens"]}
    return vocabulary, [tuple(merge) for merge in document["model"]["merges"]]


def with_tokens(name, tokens):
    """A family's vocabulary with more tokens at the end."""
    vocabulary, merges = parts(name)
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, merges


def joined(merges):
    return [" ".join(merge) for merge in merges]


def of_transformers(tokenizer):
    return lambda texts, pairs=None: tokenizer(texts, pairs)["input_ids"]


def of_tokenizers(text):
    tokenizer = tokenizers.Tokenizer.from_str(text)

    def encode(texts, pairs=None):
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return [encoding.ids for encoding in tokenizer.encode_batch(rows)]

    return encode


def wordpiece(name, lowercase):
    vocabulary = json.loads(family("bert-uncased" if lowercase else "bert-cased"))["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    made = getattr(keras_hub.models, name)(tokens, lowercase=lowercase)
    expected = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=lowercase)
    return made, of_transformers(expected), {"pad_token": "[PAD]", "mask_token": "[MASK]"}


CASES |= {
    "bert": functools.partial(wordpiece, "BertTokenizer", lowercase=True),
    "bert_cased": functools.partial(wordpiece, "BertTokenizer", lowercase=False),
    "distil_bert": functools.partial(wordpiece, "DistilBertTokenizer", lowercase=True),
    "electra": functools.partial(wordpiece, "ElectraTokenizer", lowercase=True),
}


@case
def roberta(name="RobertaTokenizer"):
    vocabulary, merges = parts("roberta")
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True, normalized=False)
    expected = getattr(transformers, name)(vocab=vocabulary, merges=merges, mask_token=mask)
    made = getattr(keras_hub.models, name)(vocabulary, joined(merges))
    named = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    return made, of_transformers(expected), named


CASES["bart"] = functools.partial(roberta, "BartTokenizer")


@case
def gpt2():
    vocabulary, merges = parts("gpt2")
    expected = transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges)
    made = keras_hub.models.GPT2Tokenizer(vocabulary, joined(merges))
    return made, of_transformers(expected), dict.fromkeys(("pad_token", "eos_token"), "<|endoftext|>")


@case
def opt():
    vocabulary, merges = parts("roberta")
    tokens = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    expected = transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges, **tokens, add_bos_token=True)
    made = keras_hub.models.OPTTokenizer(vocabulary, joined(merges))
    return made, of_transformers(expected), tokens


@case
def gpt_neox():
    vocabulary, merges = with_tokens("gpt2", ["<|padding|>"])
    expected = transformers.GPTNeoXTokenizer(vocab=vocabulary, merges=merges)
    made = keras_hub.models.GPTNeoXTokenizer(vocabulary, joined(merges))
    return made, of_transformers(expected), {"pad_token": "<|padding|>", "eos_token": "<|endoftext|>"}


@case
def gpt_neox_with_spaces():
    """The author's added tokens for runs of spaces, where KerasHub's vocabulary has them."""
    runs = [" " * size for size in range(24, 1, -1)]
    vocabulary, merges = with_tokens("gpt2", ["<|padding|>"])
    expected = transformers.GPTNeoXTokenizer(vocab=dict(vocabulary), merges=merges)
    expected.add_tokens([transformers.AddedToken(run, normalized=True) for run in runs])
    vocabulary, _ = with_tokens("gpt2", ["<|padding|>", *runs])
    made = keras_hub.models.GPTNeoXTokenizer(vocabulary, joined(merges))
    return made, of_transformers(expected), {"pad_token": "<|padding|>"}


@case
def llama3():
    vocabulary, merges = parts("llama3")
    made = keras_hub.models.Llama3Tokenizer(vocabulary, joined(merges))
    return made, of_tokenizers(family("llama3")), {"eos_token": "<|end_of_text|>"}


@case
def smollm3():
    thoughts = ["<think>", "</think>"]
    vocabulary, merges = with_tokens("llama3", thoughts)
    document = json.loads(family("llama3"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    document["added_tokens"] += [{"id": vocabulary[t], "content": t, **flags} for t in thoughts]
    document["post_processor"] = None
    made = keras_hub.models.SmolLM3Tokenizer(vocabulary, joined(merges))
    return made, of_tokenizers(json.dumps(document)), {"eos_token": "<|end_of_text|>"}


@case
def qwen(name="QwenTokenizer", end="<|endoftext|>"):
    vocabulary, merges = parts("qwen2")
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    expected = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=names)
    made = getattr(keras_hub.models, name)(vocabulary, joined(merges))
    return made, of_transformers(expected), {"pad_token": "<|endoftext|>", "eos_token": end}


CASES["qwen3"] = functools.partial(qwen, "Qwen3Tokenizer", "<|im_end|>")
CASES["qwen_moe"] = functools.partial(qwen, "QwenMoeTokenizer")


def unigram(**options):
    return train_sentencepiece(Training(), "unigram", **options)


def byte_pairs(**options):
    return train_sentencepiece(Training(), "bpe", **BYTES, **options)


def scores(model):
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()
    proto.ParseFromString(model)
    return [(piece.piece, piece.score) for piece in proto.pieces], proto.normalizer_spec.precompiled_charsmap


@case
def albert():
    model = unigram(**BERT_CONTROLS, user_defined_symbols="[MASK],(,9,")
    vocabulary, characters = scores(model)
    cut = [(t, s - 100 if len(t) > 1 and t[-1] == "," and t[-2].isdigit() else s) for t, s in vocabulary]
    expected = transformers.AlbertTokenizer(vocab=cut, _spm_precompiled_charsmap=characters)
    named = {"pad_token": "<pad>", "mask_token": "[MASK]", "eos_token": "[SEP]"}
    return keras_hub.models.AlbertTokenizer(model), of_transformers(expected), named


@case
def xlm_roberta():
    model = unigram()
    vocabulary, characters = scores(model)
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    expected = transformers.XLMRobertaTokenizer(
        vocab=[*first, *vocabulary[3:], ("<mask>", 0.0)], _spm_precompiled_charsmap=characters
    )
    named = {"pad_token": "<pad>", "mask_token": "<mask>", "eos_token": "</s>"}
    return keras_hub.models.XLMRobertaTokenizer(model), of_transformers(expected), named


@case
def deberta():
    model = unigram(**{**BERT_CONTROLS, "pad_piece": "[PAD]", "unk_piece": "[UNK]"})
    expected = transformers.DebertaV2Tokenizer(vocab=scores(model)[0])
    named = {"pad_token": "[PAD]", "mask_token": "[MASK]", "eos_token": "[SEP]"}
    return keras_hub.models.DebertaV3Tokenizer(model), of_transformers(expected), named


@case
def t5():
    model = unigram(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    vocabulary, characters = scores(model)
    vocabulary += [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    expected = transformers.T5Tokenizer(vocab=vocabulary, _spm_precompiled_charsmap=characters)
    return (
        keras_hub.models.T5Tokenizer(model),
        of_transformers(expected),
        {"pad_token": "<pad>", "eos_token": "</s>"},
    )


def gemma_model():
    return byte_pairs(
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        add_dummy_prefix=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols="<mask>,<start_of_turn>,<end_of_turn>,\n\n,▁▁,▁▁▁,▁▁▁▁",
        pad_piece="<pad>",
        bos_piece="<bos>",
        eos_piece="<eos>",
    )


@case
def gemma(make=keras_hub.models.GemmaTokenizer):
    model = gemma_model()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tokenizer.model").write_bytes(model)
        expected = transformers.GemmaTokenizer.from_pretrained(folder, add_bos_token=True)
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "mask_token": "<mask>"}
    return make(model), of_transformers(expected), named


CASES["gemma3"] = functools.partial(
    gemma, lambda model: keras_hub.models.Gemma3Tokenizer(model, has_vision_tokens=False)
)


@case
def llama(name="LlamaTokenizer"):
    made = getattr(keras_hub.models, name)(byte_pairs())
    return made, of_tokenizers(family("llama2-legacy")), {"pad_token": "<unk>", "eos_token": "</s>"}


CASES["mistral"] = functools.partial(llama, "MistralTokenizer")
CASES["mixtral"] = functools.partial(llama, "MixtralTokenizer")


def llama_with(vocabulary_size, added, **components):
    """Llama 2's `tokenizer.json` with more added tokens, which follow its vocabulary."""
    document = json.loads(family("llama2-legacy")) | components
    for place, (token, flags) in enumerate(added.items()):
        usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        number = vocabulary_size + place
        document["added_tokens"].append({"id": number, "content": token, "special": True, **usual, **flags})
        document["model"]["vocab"][token] = number
    return document


def with_pieces(model, pieces):
    """A SentencePiece model with more pieces of a kind, as KerasHub's converters add them."""
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()
    proto.ParseFromString(model)
    size = len(proto.pieces)
    for text, kind in pieces.items():
        proto.pieces.add(piece=text, score=0.0, type=kind)
    return proto.SerializeToString(), size


@case
def mistral_v3():
    """Its `[INST]` is a token, and what follows it gets no space."""
    model, size = with_pieces(byte_pairs(), {"[INST]": 3, "[/INST]": 3})
    splits = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    document = llama_with(size, {"[INST]": {}, "[/INST]": {}}, normalizer=None, pre_tokenizer=splits)
    named = {"pad_token": "<unk>", "eos_token": "</s>"}
    return keras_hub.models.MistralTokenizer(model), of_tokenizers(json.dumps(document)), named


@case
def phi3():
    """Flags as in `GGUFPhi3Converter` of transformers."""
    tokens = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
    model, size = with_pieces(byte_pairs(), dict.fromkeys(tokens, 4))
    flags = {token: {"rstrip": token != "<|endoftext|>"} for token in tokens}
    document = llama_with(size, flags, post_processor=None)
    document["added_tokens"][2]["rstrip"] = True  # `</s>`
    named = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return keras_hub.models.Phi3Tokenizer(model), of_tokenizers(json.dumps(document)), named


@pytest.fixture(params=CASES, scope="module")
def loaded(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    made, expected, named = CASES[request.param]()
    made.save_to_preset(str(path))
    return load(path), expected, named


def load(path):
    return load_keras_hub_tokenizer(path, json.loads((path / "tokenizer.json").read_text()))


def test_same_ids_as_the_authors(loaded):
    tokenizer, expected, _ = loaded
    for text, ours, theirs in zip(TEXTS, tokenizer.encode(TEXTS), expected(TEXTS), strict=True):
        assert ours == theirs, text
    assert tokenizer.encode(TEXTS, PAIRS) == expected(TEXTS, PAIRS)


def test_special_tokens_are_named(loaded, tmp_path):
    tokenizer, _, named = loaded
    tokenizer.save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert {name: settings[name] for name in named} == named
    assert named.keys() <= {*settings}
    assert set(named.values()) <= {*tokenizer.special_ids}
    assert tokenizer.pad_id == tokenizer.token_to_id(settings["pad_token"])


def test_llama_and_gemma_agree_with_sentencepiece(tmp_path):
    """Where no special token stands in a text, which SentencePiece takes for text."""
    import sentencepiece

    texts = [text for text in TEXTS if not any(sign in text for sign in ("<", "[", "\u2581"))]
    for make, model in (
        (keras_hub.models.LlamaTokenizer, byte_pairs()),
        (keras_hub.models.GemmaTokenizer, gemma_model()),
    ):
        make(model).save_to_preset(str(tmp_path))
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        assert [row[1:] for row in load(tmp_path).encode(texts)] == processor.encode(texts)


def test_the_authors_runs_of_spaces_follow_the_vocabulary_of_gpt_neox(tmp_path):
    """GPT-NeoX' `vocab.json`, which KerasHub has, lacks the last 23 tokens of its `tokenizer.json`."""
    vocabulary, merges = parts("gpt2")
    vocabulary = {token: number + 1 for token, number in vocabulary.items()}
    vocabulary |= {"<|endoftext|>": 0, "<|padding|>": 1}
    names = (f"unused{number}" for number in range(50_254))
    taken = {*vocabulary.values()}
    vocabulary |= {next(names): number for number in range(50_254) if number not in taken}
    assert len(vocabulary) == 50_254
    keras_hub.models.GPTNeoXTokenizer(vocabulary, joined(merges)).save_to_preset(str(tmp_path))
    tokenizer = load(tmp_path)
    assert tokenizer.encode(["  ", " " * 24, " " * 26]) == [[50_276], [50_254], [50_254, 50_276]]
    assert tokenizer.vocabulary_size == 50_277


def write(path, made):
    made.save_to_preset(str(path))
    return path / "assets" / "tokenizer"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("bert", "vocabulary.txt"),
        ("gpt2", "vocabulary.json"),
        ("gpt2", "merges.txt"),
        ("t5", "vocabulary.spm"),
    ],
)
def test_missing_files_are_named(name, file, tmp_path):
    (write(tmp_path, CASES[name]()[0]) / file).unlink()
    with pytest.raises(PresetError, match=rf"has no `assets/tokenizer/{file}`. Is the download complete"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("bert", "vocabulary.txt", b"the\nfilm\n", r"lacks the special tokens \['\[CLS\]', '\[MASK\]'"),
        ("bert", "vocabulary.txt", b"\xff", r"vocabulary.txt` is not UTF-8 at byte 0"),
        ("gpt2", "vocabulary.json", b"{", r"vocabulary.json` is no JSON"),
        ("gpt2", "vocabulary.json", b"[]", r"must map tokens to numbers"),
        ("gpt2", "vocabulary.json", b'{"a": 0}', r"lacks \['<\|endoftext\|>'\], which every vocabulary"),
        ("gpt2", "merges.txt", b"a b c\n", r"two tokens a line, but has 'a b c'. Fetch"),
        ("gpt2", "merges.txt", b"\xc3", r"merges.txt` is not UTF-8"),
        ("t5", "vocabulary.spm", b"\x0a\xff", r"damaged or no SentencePiece model"),
        ("t5", "vocabulary.spm", b"", r"holds no tokens"),
    ],
)
def test_damaged_files_are_named(name, file, content, message, tmp_path):
    (write(tmp_path, CASES[name]()[0]) / file).write_bytes(content)
    with pytest.raises(PresetError, match=message):
        load(tmp_path)


def test_other_classes_are_refused():
    settings = {"registered_name": "keras_hub>WhisperTokenizer", "config": {}}
    with pytest.raises(PresetError, match=r"'WhisperTokenizer', which is not supported. Supported: A"):
        load_keras_hub_tokenizer(Path("preset"), settings)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bert", {"suffix_indicator": "@@"}, r"`suffix_indicator`: '@@', but BERT has '##'"),
        ("gpt2", {"add_prefix_space": True}, r"`add_prefix_space`: true, but no author's"),
    ],
)
def test_settings_that_no_author_has_are_refused(name, change, message, tmp_path):
    CASES[name]()[0].save_to_preset(str(tmp_path))
    settings = json.loads((tmp_path / "tokenizer.json").read_text())
    settings["config"].update(change)
    with pytest.raises(PresetError, match=message):
        load_keras_hub_tokenizer(tmp_path, settings)


@pytest.mark.parametrize(
    ("make", "model", "message"),
    [
        (keras_hub.models.LlamaTokenizer, lambda: unigram(), r"trained as Unigram, but .* of the kind BPE"),
        (
            keras_hub.models.LlamaTokenizer,
            lambda: train_sentencepiece(Training(), "bpe"),
            r"normalizes texts, but the author's tokenizer for `LlamaTokenizer` leaves them",
        ),
        (
            keras_hub.models.XLMRobertaTokenizer,
            lambda: unigram(bos_id=0, unk_id=1, eos_id=2),
            r"begins with \['<s>', '<unk>', '</s>'\], but XLM-RoBERTa's ids",
        ),
    ],
)
def test_models_of_another_kind_are_refused(make, model, message, tmp_path):
    make(model()).save_to_preset(str(tmp_path))
    with pytest.raises(PresetError, match=message):
        load(tmp_path)


def test_a_model_without_the_familys_tokens_is_refused(tmp_path):
    (write(tmp_path, CASES["t5"]()[0]) / "vocabulary.spm").write_bytes(
        unigram(pad_id=-1, eos_id=1, unk_id=0, bos_id=-1)
    )
    with pytest.raises(PresetError, match=r"lacks \['<pad>'\], which every vocabulary of KerasHub's `T5"):
        load(tmp_path)
