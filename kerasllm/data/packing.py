"""Best-fit packing: many texts in one row of tokens, so that hardly any padding is left."""

import numpy as np

from kerasllm.errors import ConfigError

__all__ = ["best_fit", "check_row_length"]


def check_row_length(longest: int, row_length: int) -> None:
    """Raises a `ConfigError` if the longest text does not fit in a row."""
    if longest > row_length:
        raise ConfigError(
            f"A text has {longest} tokens, but the rows that texts are packed into have {row_length}. Set "
            f"`training.packing_length` to {longest} or more, or `data.sequence_length` to {row_length} or "
            "less."
        )


def best_fit(lengths: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Puts texts into rows, the longest first, each into the fullest row that has room for it.

    No text is split (Ding et al., 2024, https://arxiv.org/abs/2404.10830). Best-fit decreasing needs at most
    11/9 of the fewest rows, plus some (Johnson, 1974); texts leave a percent or less empty.

    Args:
        lengths: Tokens of each text.
        row_length: Tokens of a row.

    Returns:
        The row of each text, numbered from 0, and the place of its first token there; both `int64`.

    Raises:
        ConfigError: If a text is longer than a row.

    Example:
    >>> best_fit(np.array([3, 6, 5, 2]), 8)
    (array([1, 0, 1, 0]), array([5, 0, 0, 6]))
    """
    check_row_length(int(lengths.max(initial=0)), row_length)
    rows, starts = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    with_room: list[list[int]] = [[] for _ in range(row_length + 1)]
    # Bit r is set where there is a row with room for r tokens: the tightest fit is the lowest bit from the
    # text's length on, found by two operations on one integer.
    rooms, num_rows = 0, 0
    order = np.argsort(-lengths, kind="stable")
    for text, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, row, num_rows = row_length, num_rows, num_rows + 1
        rows[text], starts[text] = row, row_length - room
        left = room - length
        with_room[left].append(row)
        rooms |= 1 << left
    return rows, starts
