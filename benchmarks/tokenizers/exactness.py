"""Counts texts whose ids, decoded text or offsets differ between the graph and the `tokenizers` library."""

import itertools
import random
import sys
import time

import numpy as np
from inputs import real_texts, tokenizer_json

CHUNK = 5_000
CODE_POINTS = 0x1000  # a chunk of these, each alone and between letters
WHAT = ("ids", "decoded", "offsets")


def chunks(num_strings: int, *, code_points: bool):
    """The texts, in lists: real ones, adversarial ones, and every code point alone and between letters."""
    from kerasllm.testing.strings import adversarial_strings, code_point_strings

    texts = list(real_texts())
    texts = random.Random(0).sample(texts, min(len(texts), num_strings // 4))
    for start in range(0, len(texts), CHUNK):
        yield texts[start : start + CHUNK]
    left = num_strings - len(texts)
    for seed, start in enumerate(range(0, left, CHUNK)):
        yield adversarial_strings(min(CHUNK, left - start), seed, texts=real_texts())
    for start in range(0, 0x110000 if code_points else 0, CODE_POINTS):
        yield code_point_strings(start, start + CODE_POINTS)


def compare(name: str, num_strings: int, *, code_points: bool) -> dict:
    """Differences of one tokenizer.

    Returns:
        How many texts were compared, how many differ in `ids`, `decoded` and `offsets`, one example of each,
        and the seconds that it took.
    """
    import tensorflow as tf
    from tokenizers import Tokenizer as Library

    from kerasllm.tokenization import Tokenizer

    specification = tokenizer_json(name)
    tokenizer, library = Tokenizer.from_json(specification), Library.from_str(specification)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def graph(texts):
        ids = tokenizer.graph_encode(texts)
        return ids, tokenizer.graph_decode(ids), tokenizer.graph_offsets(texts)

    result: dict = {"name": name, "strings": 0, **dict.fromkeys(WHAT, 0), "examples": {}}
    start = time.perf_counter()
    for texts in chunks(num_strings, code_points=code_points):
        if not texts:
            continue
        encodings = library.encode_batch(texts)
        expected_ids = [encoding.ids for encoding in encodings]
        expected = (
            expected_ids,
            library.decode_batch(expected_ids),
            [encoding.offsets for encoding in encodings],
        )
        ids, decoded, offsets = graph(tf.constant(texts, tf.string))
        found = (rows(ids), [text.decode("utf-8") for text in decoded.numpy()], rows(offsets))
        result["strings"] += len(texts)
        for what, theirs, ours in zip(WHAT, expected, found, strict=True):
            different = [i for i, pair in enumerate(zip(theirs, ours, strict=True)) if not same(*pair)]
            result[what] += len(different)
            if different and what not in result["examples"]:
                index = different[0]
                found_text = ours[index] if isinstance(ours[index], str) else np.asarray(ours[index]).tolist()
                result["examples"][what] = ascii((texts[index], theirs[index], found_text))
        if result["strings"] % 100_000 < CHUNK:
            counts = {what: result[what] for what in WHAT}
            print(f"{name}: {result['strings']:,} texts, {counts}", file=sys.stderr, flush=True)
    return {**result, "seconds": time.perf_counter() - start}


def rows(ragged) -> list[np.ndarray]:
    """The rows of a ragged tensor, as arrays."""
    values, splits = ragged.values.numpy(), ragged.row_splits.numpy().tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def same(expected, found) -> bool:
    """Whether two texts, or two lists of numbers, are equal."""
    if isinstance(expected, str):
        return expected == found
    return len(expected) == len(found) and (not expected or np.array_equal(np.asarray(expected), found))
