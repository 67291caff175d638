"""A tokenizer of a hundred words, half of them of two pieces, and batches of it."""

import functools
import json

import numpy as np
import pytest

from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _word(number):
    """Forty short words of one piece, and forty that are cut into two."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in f"{number:02d}")
    return f"w{letters}" if number < 40 else f"v{letters}long"


WORDS = [_word(number) for number in range(80)]


@pytest.fixture(scope="session")
def tokenizer():
    document = json.loads(family("bert-uncased"))
    pieces = [*SPECIAL, ",", "."]
    pieces += [word for word in WORDS if word[0] == "w"]
    pieces += [word.removesuffix("long") for word in WORDS if word[0] == "v"] + ["##long"]
    document["model"]["vocab"] = {piece: number for number, piece in enumerate(pieces)}
    document["added_tokens"] = [
        {**token, "id": SPECIAL.index(token["content"])} for token in document["added_tokens"]
    ]
    template = document["post_processor"]["special_tokens"]
    for name, entry in template.items():
        entry["ids"] = [SPECIAL.index(name)]
    return Tokenizer.from_json(json.dumps(document))


@pytest.fixture(scope="session")
def batch(tokenizer):
    """Makes a batch of random texts: `batch(rows=8, words=20, pairs=False, width=None)`."""

    def make(rows=8, words=20, *, seed=0, pairs=False, width=None, mixed=False):
        random = np.random.default_rng(seed)

        def texts():
            sizes = random.integers(1, words + 1, rows) if mixed else [words] * rows
            return [" ".join(random.choice(WORDS, size)) for size in sizes]

        return padded(tokenizer, texts(), texts() if pairs else None, width=width)

    return make


def padded(tokenizer, texts, pairs=None, *, width=None):
    """A batch of these texts as NumPy arrays."""
    ids, segments = tokenizer.encode_for_model(texts, pairs)
    width = width or max(map(len, ids))
    masks = [[1] * len(row) for row in ids]
    names = ("token_ids", "padding_mask", "segment_ids")
    return {
        name: np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
        for name, rows in zip(names, (ids, masks, segments), strict=True)
    }


@pytest.fixture(scope="session")
def words_of(tokenizer):
    """The words of each row, without special tokens and padding."""

    def read(found):
        rows = []
        for ids, mask in zip(found["token_ids"], found["padding_mask"], strict=True):
            row = []
            for token in np.asarray(ids)[np.asarray(mask) == 1]:
                piece = tokenizer.id_to_token(int(token))
                if piece.startswith("##"):
                    row[-1] += piece[2:]
                elif piece not in ("[CLS]", "[SEP]"):
                    row.append(piece)
            rows.append(row)
        return rows

    return read


@pytest.fixture(scope="session")
def batch_of(tokenizer):
    """Makes a batch of given texts: `batch_of(["waa wab"], width=16)`."""
    return functools.partial(padded, tokenizer)
