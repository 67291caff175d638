"""Special tokens, truncation and trimmed offsets in the graph are those of `tokenizers`."""

import functools
import itertools
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library

from kerasllm.errors import TokenizerError
from kerasllm.testing.families import family
from kerasllm.testing.strings import adversarial_strings
from kerasllm.tokenization.graph.post_processors import Assembly, OffsetTrimmer, cut, truncate
from kerasllm.tokenization.spec.models import Unigram
from kerasllm.tokenization.spec.post_processors import parse_post_processor


def template(single: str, pair: str) -> dict:
    def piece(entry: str) -> dict:
        name, _, segment = entry.partition(":")
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        return {kind: {"id": name, "type_id": int(segment or 0)}}

    special = {"<s>": [0], "</s>": [2], "<two>": [1, 3]}
    return {
        "type": "TemplateProcessing",
        "single": [piece(entry) for entry in single.split()],
        "pair": [piece(entry) for entry in pair.split()],
        "special_tokens": {
            name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in special.items()
        },
    }


def byte_level(trim: bool, space: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": trim, "use_regex": True}


def roberta(trim: bool, space: bool) -> dict:
    ends = {"sep": ["</s>", 2], "cls": ["<s>", 0]}
    return {"type": "RobertaProcessing", **ends, "trim_offsets": trim, "add_prefix_space": space}


def sequence(*members: dict) -> dict:
    return {"type": "Sequence", "processors": list(members)}


BERT = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
TEMPLATE = template("<s> A </s>", "<s> A </s> B:1 </s>:1")
POST_PROCESSORS = {
    "none": None,
    "BertProcessing": BERT,
    "ByteLevel": byte_level(False, True),
    "ByteLevel that trims": byte_level(True, False),
    "ByteLevel that trims and keeps a space": byte_level(True, True),
    "RobertaProcessing": roberta(False, True),
    "RobertaProcessing that trims": roberta(True, False),
    "RobertaProcessing that trims and keeps a space": roberta(True, True),
    "TemplateProcessing": TEMPLATE,
    "TemplateProcessing with the second text first": template("A", "B:1 <two>:3 A </s>:2"),
    "TemplateProcessing with several tokens": template("<two>:1 A:1 <s> <s>", "<two> A:1 B:2 <two>:1"),
    "Sequence": sequence(byte_level(True, False), TEMPLATE),
    "Sequence as in Llama 3": sequence(byte_level(False, True), TEMPLATE),
    "Sequence that trims twice": sequence(byte_level(True, True), sequence(byte_level(True, False)), BERT),
    "Sequence with an idle last one": sequence(roberta(True, True), byte_level(False, False)),
    "Sequence of nothing": sequence(),
}


def tokenizer_json(post_processor) -> str:
    value = json.loads(family("roberta"))
    next_id = max(token["id"] for token in value["added_tokens"])
    assert value["added_tokens"][next_id]["content"] == "<mask>"
    value["added_tokens"][3]["rstrip"] = True  # <unk>
    return json.dumps({**value, "post_processor": post_processor})


def specification(text: str) -> SimpleNamespace:
    value = json.loads(text)
    vocabulary = value["model"]["vocab"]
    return SimpleNamespace(
        model=SimpleNamespace(vocabulary=vocabulary),
        added_tokens=[SimpleNamespace(pattern=token["content"], **token) for token in value["added_tokens"]],
        vocabulary_size=len(vocabulary),
        post_processor=parse_post_processor(value["post_processor"]),
    )


def swallowed(encodings, contents) -> tuple[list[int], list[int]]:
    """How much white space added tokens have taken in on each side, which the pipeline knows."""
    before, behind = [], []
    for encoding in encodings:
        for token_id, token in zip(encoding.ids, encoding.tokens, strict=True):
            content = contents.get(token_id, token)
            before.append(token.index(content) if token != content else 0)
            behind.append(len(token) - len(content) - before[-1])
    return before, behind


@functools.cache
def plain_library() -> Library:
    return Library.from_str(tokenizer_json(None))


class Graph:
    """Texts as the library tokenizes them without a post-processor, to be put together in the graph."""

    def __init__(self, text: str, parts: list[list[str]]):
        plain = plain_library()
        self.specification = specification(text)
        self.encodings = [plain.encode_batch(texts) for texts in parts]
        self.flat = [encoding for encodings in self.encodings for encoding in encodings]
        self.ids = tf.constant([token for e in self.flat for token in e.ids], tf.int32)
        offsets = np.array([offset for e in self.flat for offset in e.offsets], np.int32).reshape(-1, 2)
        self.offsets = tf.constant(offsets[:, 0]), tf.constant(offsets[:, 1])
        splits = np.cumsum([0, *(len(e.ids) for e in self.flat)])
        size = len(parts[0])
        self.starts = [tf.constant(splits[i * size : (i + 1) * size]) for i in range(len(parts))]
        self.lengths = [tf.constant(np.diff(splits)[i * size : (i + 1) * size]) for i in range(len(parts))]

    def answers(self, limit, **options):
        starts, lengths = self.starts, self.lengths
        templates = self.specification.post_processor
        pieces = templates.single if len(starts) == 1 else templates.pair
        if limit is not None:
            limit -= sum(len(piece.ids) for piece in pieces)
            starts, lengths = cut(starts, lengths, limit, **options)
        assembly = Assembly(pieces, tf.size(self.ids, tf.int64), starts, lengths)
        offsets = assembly.offsets(*self.trimmed(starts))
        return [ragged.to_list() for ragged in (assembly.ids(self.ids), assembly.segments(), offsets)]

    def trimmed(self, starts):
        trimmer = OffsetTrimmer(self.specification)
        if not trimmer.needed:
            return self.offsets
        contents = {token.id: token.content for token in self.specification.added_tokens}
        before, behind = (tf.constant(v, tf.int32) for v in swallowed(self.flat, contents))
        places = tf.range(tf.size(self.ids, tf.int64))
        first = tf.reduce_any(places[:, None] == tf.concat(starts, axis=0)[None], axis=1)
        return trimmer(self.ids, *self.offsets, first, before, behind)


def by_library(text: str, parts: list[list[str]], limit, **options):
    library = Library.from_str(text)
    if limit is not None:
        library.enable_truncation(limit, **options)
    inputs = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
    encodings = library.encode_batch(inputs)
    offsets = [[list(offset) for offset in e.offsets] for e in encodings]
    return [[e.ids for e in encodings], [e.type_ids for e in encodings], offsets]


TEXTS = [
    *(
        "",
        " ",
        "  ",
        " the",
        "  the",
        "the reader",
        "\u3000the",
        "\xa0 the \n",
        "<mask>",
        " <mask>",
        "   <mask> <mask>",
    ),
    *(
        "the <mask> a",
        "<unk>  ",
        " <unk> the",
        "\n<mask>\t<unk>\u2003",
        "Ġ Ġthe",
        "日本 語",
        "a\u2028",
        "</s> <s>",
    ),
    *adversarial_strings(100, seed=5),
]


@pytest.mark.parametrize("name", POST_PROCESSORS)
@pytest.mark.parametrize("pair", [False, True])
def test_results_are_put_together_as_the_library_does(name, pair):
    text = tokenizer_json(POST_PROCESSORS[name])
    parts = [TEXTS, TEXTS[7:] + TEXTS[:7]] if pair else [TEXTS]
    graph = Graph(text, parts)
    for limit in (None, 9, 30):
        for found, expected in zip(graph.answers(limit), by_library(text, parts, limit), strict=True):
            for row, ours, theirs in zip(zip(*parts, strict=True), found, expected, strict=True):
                assert ours == theirs, row


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("name", ["ByteLevel that trims and keeps a space", "TemplateProcessing"])
def test_texts_are_cut_at_either_end(name, direction):
    text = tokenizer_json(POST_PROCESSORS[name])
    for parts in ([TEXTS], [TEXTS, TEXTS[::-1]]):
        graph = Graph(text, parts)
        for limit in (5, 13):
            found = graph.answers(limit, direction=direction)
            assert found == by_library(text, parts, limit, direction=direction)


@pytest.mark.parametrize(("strategy", "which"), [("only_first", 0), ("only_second", 1)])
def test_one_of_two_texts_is_cut(strategy, which):
    text = tokenizer_json(TEMPLATE)
    library = Library.from_str(text)
    generator = random.Random(0)
    for first, second, limit in itertools.product([0, 1, 9], [0, 1, 4, 12], [4, 5, 8, 40]):
        parts = [[" the" * first], [" a" * second]]
        graph = Graph(text, parts)
        direction = generator.choice(["left", "right"])
        library.enable_truncation(limit, strategy=strategy, direction=direction)
        lengths = [len(graph.flat[0].ids), len(graph.flat[1].ids)]
        excess = sum(lengths) + 3 - limit
        if excess > 0 and (excess >= lengths[which] and limit > 3):
            with pytest.raises(Exception, match="too short"):
                library.encode(parts[0][0], parts[1][0])
            with pytest.raises(tf.errors.InvalidArgumentError, match="nothing would be left of the one"):
                graph.answers(limit, strategy=strategy, direction=direction)
            continue
        expected = by_library(text, parts, limit, strategy=strategy, direction=direction)
        assert graph.answers(limit, strategy=strategy, direction=direction) == expected
    lengths = [tf.constant([3]), tf.constant([2])]
    assert [int(length[0]) for length in truncate(lengths, 0, strategy=strategy)] == [0, 0]


def test_a_batch_of_nothing():
    pieces = parse_post_processor(TEMPLATE).pair
    nothing = tf.zeros([0], tf.int64)
    assembly = Assembly(pieces, tf.constant(0, tf.int64), [nothing] * 2, [nothing] * 2)
    offsets = assembly.offsets(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32))
    assert (
        assembly.ids(tf.zeros([0], tf.int32)).to_list()
        == assembly.segments().to_list()
        == offsets.to_list()
        == []
    )


@pytest.mark.parametrize(
    ("post_processor", "message"),
    [
        ({"type": "Unheard"}, r"post-processor `Unheard` has no exact .* `BertProcessing`, `ByteLevel`"),
        (
            sequence(TEMPLATE, TEMPLATE),
            r"adds more or that trims offsets` has no exact .*`trim_offsets` = False",
        ),
        (sequence(BERT, byte_level(True, True)), r"after the one that adds special tokens,.*trims offsets"),
        (sequence(byte_level(True, True), {"type": "Other"}), r"post-processor `Other` has no exact"),
        (template("A A", "A B"), r"with `single` = .*leaves out or repeats a text"),
        (template("A", "A"), r"with `pair` = .*leaves out or repeats a text"),
        ({**BERT, "sep": ["</s>"]}, r"`sep` of the post-processor `BertProcessing` is .*a token and its id"),
        (
            {**roberta(True, True), "cls": 1},
            r"`cls` of the post-processor `RobertaProcessing` is 1, expected list",
        ),
        ({**byte_level(True, True), "more": 1}, r"`ByteLevel` has the parameters \['more'\]"),
    ],
)
def test_what_has_no_exact_implementation_is_refused(post_processor, message):
    with pytest.raises(TokenizerError, match=message):
        parse_post_processor(post_processor)


def test_trimming_needs_to_know_the_text_of_tokens():
    specified = specification(tokenizer_json(byte_level(True, True)))
    specified.model = Unigram(0, False, {"a": 0}, (0.0,))
    with pytest.raises(TokenizerError, match=r"trims offsets, with the model `Unigram` has no exact"):
        OffsetTrimmer(specified)
