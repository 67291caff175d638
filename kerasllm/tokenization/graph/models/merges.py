"""A list of merges as one table of pairs, with what tells which pairs can be merged at once."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import BPE

__all__ = ["BITS", "LATE", "NEVER", "MergeTable", "compile_merges"]

BITS = 20
NEVER = (1 << BITS) - 1
LATE = 1 << (BITS + 2)


class MergeTable(NamedTuple):
    """Pairs of token ids, and when they are merged.

    The rank of a merge is its place in the list. Of a pair (a, b) the table tells its rank (`NEVER` if it is
    no merge), the least rank at which b may be merged with what is left of it, now or after a has grown to
    the left, and the least rank at which a may be merged with what is right of it, b grown to the right.
    The three stand in one number, the rank on top. The rank of a late merge has the bit `LATE`: that is one
    whose token is part of a merge of lower rank, so that the order in which merges are done matters more.

    Attributes:
        base: The key of a pair is `left * base + right`; `base - 1` is no token.
        keys: int64[pairs].
        values: int64[pairs].
        merged: int32[merges + 1], the id that each merge makes.
    """

    base: int
    keys: np.ndarray
    values: np.ndarray
    merged: np.ndarray


class _Merges(NamedTuple):
    """int64[merges] each: the ids of both parts, of what they make, and the rank."""

    left: np.ndarray
    right: np.ndarray
    made: np.ndarray
    rank: np.ndarray


def compile_merges(model: BPE) -> MergeTable:
    """Makes the table of a model's merges."""
    if len(model.merges) >= NEVER:
        raise refuse("model `BPE` with a number of merges of", len(model.merges), [f"up to {NEVER - 1:,}"])
    base = max(model.vocabulary.values(), default=0) + 2
    merged = np.zeros(len(model.merges) + 1, np.int32)
    # Of equal pairs the library uses the last.
    ranks = {pair: rank for rank, pair in enumerate(model.merges)}
    made = {pair: _made(pair, model) for pair in ranks}
    for pair, rank in ranks.items():
        merged[rank] = made[pair]
    ids = model.vocabulary
    rows = [(ids[a], ids[b], made[a, b], rank) for (a, b), rank in ranks.items()]
    merges = _Merges(*np.array(rows, np.int64).reshape(-1, 4).T)
    merges = _without_unreachable(merges, model, base)
    from_left = _least_after_growth(merges, base, grown=merges.left, part=merges.right, flip=False)
    from_right = _least_after_growth(merges, base, grown=merges.right, part=merges.left, flip=True)
    keys, values = _pack(merges, from_left, from_right, base)
    return MergeTable(base, keys, values, merged)


def _made(pair: tuple[str, str], model: BPE) -> int:
    left, right = pair
    rest = right[len(model.prefix) :]
    if not right.startswith(model.prefix) or not rest:
        raise refuse(f"merge {pair} with `continuing_subword_prefix` =", model.prefix, ["a prefix it has"])
    for token in (left, right, left + rest):
        if token not in model.vocabulary:
            raise refuse(f"merge {pair} with", f"{token!r} not in the vocabulary", ["merges of tokens"])
    return model.vocabulary[left + rest]


def _least(keys: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys, each once, and the least rank of each."""
    order = np.lexsort((ranks, keys))
    keys, ranks = keys[order], ranks[order]
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]
    return keys[first], ranks[first]


def _least_after_growth(
    merges: _Merges, base: int, *, grown: np.ndarray, part: np.ndarray, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For pairs of a token and its neighbour: the least rank of a merge of what the token may grow to.

    From every merge this goes down the side of the grown token that faces the neighbour.
    """
    order = np.argsort(merges.made, kind="stable")
    made = merges.made[order]
    facing = (merges.left if flip else merges.right)[order]
    frontier, neighbour, rank = grown, part, merges.rank
    all_keys, all_ranks = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while len(frontier):
        starts = np.searchsorted(made, frontier, "left")
        counts = np.searchsorted(made, frontier, "right") - starts
        own = np.repeat(np.arange(len(frontier)), counts)
        offsets = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
        frontier = facing[starts[own] + offsets]
        keys = neighbour[own] * base + frontier if flip else frontier * base + neighbour[own]
        keys, rank = _least(keys, rank[own])
        frontier, neighbour = (keys % base, keys // base) if flip else (keys // base, keys % base)
        all_keys.append(keys)
        all_ranks.append(rank)
    return _least(np.concatenate(all_keys), np.concatenate(all_ranks))


def _pack(
    merges: _Merges,
    from_left: tuple[np.ndarray, np.ndarray],
    from_right: tuple[np.ndarray, np.ndarray],
    base: int,
) -> tuple[np.ndarray, np.ndarray]:
    own = merges.left * base + merges.right
    keys = np.unique(np.concatenate([own, from_left[0], from_right[0]]))
    ranks, left, right = (np.full(len(keys), NEVER, np.int64) for _ in range(3))
    ranks[np.searchsorted(keys, own)] = merges.rank
    left[np.searchsorted(keys, from_left[0])] = from_left[1]
    right[np.searchsorted(keys, from_right[0])] = from_right[1]
    left, right = np.minimum(left, ranks), np.minimum(right, ranks)
    lowest = np.full(base, NEVER, np.int64)
    np.minimum.at(lowest, merges.left, merges.rank)
    np.minimum.at(lowest, merges.right, merges.rank)
    late = np.zeros(len(keys), np.int64)
    late[np.searchsorted(keys, own)] = np.where(lowest[merges.made] < merges.rank, LATE, 0)
    return keys, ((ranks | late) << 2 * BITS) | (left << BITS) | right


def _without_unreachable(merges: _Merges, model: BPE, base: int) -> _Merges:
    """Leaves out merges that no text ever comes to, of those that would make others late.

    Lists made from a vocabulary alone (SentencePiece, tiktoken) hold every way to make a token. A pair of
    tokens comes to stand side by side in some text only if it does in the text of these two alone, because
    merges on the outside touch neither; so trying that text is proof.
    """
    if model.prefix or model.suffix:
        return merges
    latest = np.full(base, -1, np.int64)
    np.maximum.at(latest, merges.made, merges.rank)
    early = (merges.rank < latest[merges.left]) | (merges.rank < latest[merges.right])
    suspects = np.flatnonzero(early)
    if not len(suspects):
        return merges
    tokens = {index: token for token, index in model.vocabulary.items()}
    # Characters of these tokens may stand for something else than themselves.
    special = [f"<0x{byte:02X}>" for byte in range(256)] if model.byte_fallback else []
    special += [model.unknown_token] if model.unknown_token else []
    ways = {
        (left, right): (rank, made)
        for left, right, made, rank in zip(*(column.tolist() for column in merges), strict=True)
    }
    kept = np.ones(len(merges.rank), bool)
    for index in suspects.tolist():
        pair = (int(merges.left[index]), int(merges.right[index]))
        text = tokens[pair[0]] + tokens[pair[1]]
        if all(letter in model.vocabulary for letter in text) and not any(s in text for s in special):
            kept[index] = _comes_to([model.vocabulary[letter] for letter in text], pair, ways)
    return _Merges(*(column[kept] for column in merges))


def _comes_to(
    symbols: list[int], pair: tuple[int, int], ways: Mapping[tuple[int, int], tuple[int, int]]
) -> bool:
    while len(symbols) > 2:
        found = min(
            (
                (*ways[window], place)
                for place, window in enumerate(itertools.pairwise(symbols))
                if window in ways
            ),
            default=None,
            key=lambda way: (way[0], way[2]),
        )
        if found is None:
            return False
        symbols[found[2] : found[2] + 2] = [found[1]]
    return tuple(symbols) == pair
