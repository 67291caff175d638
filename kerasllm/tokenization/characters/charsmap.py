"""SentencePiece's character map: a double-array trie from UTF-8 bytes to what they become."""

import base64
import binascii
import struct
from collections.abc import Iterator

import numpy as np

from kerasllm.errors import TokenizerError

__all__ = ["match_all", "read_charsmap"]

# Only grapheme clusters of fewer than six bytes are looked up as a whole, and single characters.
_LONGEST_KEY = 5
_LABEL = np.uint32(0x800000FF)


def read_charsmap(text: str) -> dict[str, str]:
    """Reads a `precompiled_charsmap`.

    Args:
        text: The map in Base64, as in a `tokenizer.json`.

    Returns:
        The keys of up to five bytes, and what each becomes.

    Raises:
        TokenizerError: If it is damaged.
    """
    try:
        blob = base64.b64decode(text, validate=True)
        [size] = struct.unpack_from("<I", blob)
        units = np.frombuffer(blob, "<u4", size // 4, 4)
    except (binascii.Error, struct.error, ValueError) as error:
        raise TokenizerError(
            f"the `precompiled_charsmap` of the normalizer `Precompiled` cannot be read: {error}. "
            "The `tokenizer.json` is damaged: download it again."
        ) from error
    strings = blob[4 + size :]
    found = {}
    for key, value in _keys(units):
        end = strings.find(b"\0", value)
        try:
            found[key.decode("utf-8")] = strings[value : end if end >= 0 else None].decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data" and error.object == key:
                continue  # no text holds it
            raise TokenizerError(
                f"the `precompiled_charsmap` of the normalizer `Precompiled` holds {error.object!r}, which "
                "is no text. The `tokenizer.json` is damaged: download it again."
            ) from error
    return found


def _keys(units: np.ndarray) -> Iterator[tuple[bytes, int]]:
    """Goes down the trie level by level, all nodes of a level at once."""
    if not len(units):
        return
    labels = units & _LABEL
    places = np.arange(len(units), dtype=np.int64)
    # A unit with the label c stands at its parent's base with c flipped into it.
    children = np.flatnonzero((labels > 0) & (labels < 256))
    bases = places[children] ^ labels[children].astype(np.int64)
    order = np.argsort(bases, kind="stable")
    children, bases = children[order], bases[order]
    steps = _offsets(units)
    node_bases = np.array([steps[0]], np.int64)
    prefixes = np.zeros((1, 0), np.uint8)
    for _ in range(_LONGEST_KEY):
        low = np.searchsorted(bases, node_bases, "left")
        counts = np.searchsorted(bases, node_bases, "right") - low
        parents = np.repeat(np.arange(len(node_bases)), counts)
        shifts = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        nodes = children[low[parents] + shifts]
        prefixes = np.concatenate([prefixes[parents], labels[nodes, None].astype(np.uint8)], axis=1)
        node_bases = nodes ^ steps[nodes]
        leaves = np.flatnonzero((units[nodes] >> np.uint32(8)) & np.uint32(1))
        for leaf, value in zip(leaves, units[node_bases[leaves]] & np.uint32(0x7FFFFFFF), strict=True):
            yield prefixes[leaf].tobytes(), int(value)


def _offsets(units: np.ndarray) -> np.ndarray:
    wide = (units & np.uint32(1 << 9)) >> np.uint32(6)
    return ((units >> np.uint32(10)) << wide).astype(np.int64)


def match_all(but: str, result: str) -> str:
    """A map that turns every character into `result`, except for NUL and the ASCII character `but`."""
    root, one, two, three, leaf, size = 256, 512, 768, 1024, 1280, 1536  # where the children of each stand
    units = np.zeros(size, np.uint32)
    units[0] = root << 10
    units[leaf] = 1 << 31  # the value 0: where `result` stands

    def add(base: int, labels: range, child: int) -> None:
        for label in labels:
            place = base ^ label
            units[place] = (place ^ child) << 10 | (1 << 8 if child == leaf else 0) | label

    add(root, range(1, 0x80), leaf)
    add(root, range(0xC2, 0xE0), one)
    add(root, range(0xE0, 0xF0), two)
    add(root, range(0xF0, 0xF5), three)
    for base, child in ((three, two), (two, one), (one, leaf)):
        add(base, range(0x80, 0xC0), child)
    units[root ^ ord(but)] = 0
    content = units.astype("<u4").tobytes()
    return base64.b64encode(struct.pack("<I", len(content)) + content + result.encode() + b"\0").decode()
