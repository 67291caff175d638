"""Limits how many requests are computed at once and how many may wait."""

import contextlib
import threading
import time
from collections.abc import Iterator

from kerasllm.serving.status import StatusError

__all__ = ["Gate"]


class Gate:
    """Lets `num_workers` requests compute and `max_queued` wait; refuses more at once instead of piling up.

    Args:
        num_workers: Requests at work at the same time.
        max_queued: Requests waiting.
    """

    def __init__(self, num_workers: int, max_queued: int):
        self.num_workers = num_workers
        self._capacity = num_workers + max_queued
        self._slots = threading.Semaphore(num_workers)
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self) -> None:
        """Counts a request in.

        Raises:
            StatusError: UNAVAILABLE, if too many are waiting or the server is stopping.
        """
        with self._changed:
            if self._closed:
                raise StatusError("UNAVAILABLE", "The server is shutting down")
            if self._inside >= self._capacity:
                raise StatusError(
                    "UNAVAILABLE",
                    f"The server is busy: {self.num_workers} requests are computed and "
                    f"{self._capacity - self.num_workers} wait, as many as it takes. Try again later",
                )
            self._inside += 1

    def leave(self) -> None:
        """Counts a request out."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def work(self, deadline: float | None) -> Iterator[float | None]:
        """Waits for a worker's place.

        Args:
            deadline: Time on `time.monotonic`, or `None`.

        Yields:
            Seconds left, or `None`.

        Raises:
            StatusError: DEADLINE_EXCEEDED, if the time is up.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if not self._slots.acquire(timeout=None if left is None else max(left, 0)):
            raise StatusError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
        try:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise StatusError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
            yield left
        finally:
            self._slots.release()

    def close(self) -> None:
        """Refuses requests from now on."""
        with self._changed:
            self._closed = True

    def drain(self, timeout: float) -> bool:
        """Waits until the last request is out; returns whether that was within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._inside == 0, timeout)
