"""Tokenizers of KerasHub's presets give the ids of the families' tokenizers in Hugging Face format."""

import functools
import json

import keras_hub
import pytest
import tokenizers
import transformers

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
        "x<mask>y",
        "say <mask> it",
        "a [MASK] b[SEP]",
    ),
    *(
        "<s>in</s> text <pad>",
        "<|endoftext|> a<|endoftext|>b",
        "1234567 3.14 9,",
        "don't I'LL we'Ve",
        "\t\t\t  x",
    ),
    *(
        "<start_of_turn>user\nHi<end_of_turn>\n",
        "<|user|>\nHi<|end|>\n<|assistant|>",
        "<extra_id_0> x <extra_id_1>",
    ),
    *(
        "<|im_start|>user\nHi<|im_end|>",
        "<bos>a<eos> <unk>",
        "``quoted'' \"x\"",
        "       seven",
        "ﬁ ½ … １２３",
    ),
    *("[INST] a [/INST] b", "<|begin_of_text|>x<|eot_id|>y", "e\u0301 cafe\u0301 \u212b"),
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
        user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>", "\n\n", "▁▁", "▁▁▁", "▁▁▁▁"],
        pad_piece="<pad>",
        bos_piece="<bos>",
        eos_piece="<eos>",
    )


@case
def gemma(make=keras_hub.models.GemmaTokenizer, tmp=None):
    import tempfile
    from pathlib import Path

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
