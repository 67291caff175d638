"""Trying a request again: only where nobody has answered it, and never beyond its deadline."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["UnansweredError", "retry"]

_Answer = TypeVar("_Answer")


class UnansweredError(Exception):
    """No answer, or one that asks to come again: safe to retry."""


def retry(
    attempt: Callable[[float], _Answer], *, timeout: float, max_retries: int, first_wait: float = 0.1
) -> _Answer:
    """Calls a function until it answers, waiting longer each time.

    Args:
        attempt: Called with the seconds left; raises `UnansweredError` to be called again.
        timeout: Seconds for all attempts together.
        max_retries: Further attempts after the first.
        first_wait: Seconds before the second attempt; doubled for each further one, and randomised by half
            so that many clients do not come back at once. Defaults to 0.1.

    Raises:
        UnansweredError: The last one, if none was answered.
    """
    deadline = time.monotonic() + timeout
    for number in range(max_retries + 1):
        try:
            return attempt(max(deadline - time.monotonic(), 0.001))
        except UnansweredError:
            wait = first_wait * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
            if number == max_retries or time.monotonic() + wait >= deadline:
                raise
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")
