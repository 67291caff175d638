"""How much is read: bounds that keep hostile or mistaken files from filling memory."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from kerasllm.errors import DataError

MAX_CHARACTERS = 2**20  # of one text
MAX_LABEL_CHARACTERS = 1_000
MAX_LINE_BYTES = 2**26  # of one line, so that a file without line ends is not read whole
MAX_UNCOMPRESSED_BYTES = 10 * 2**30
MAX_RATIO = 200  # of uncompressed to compressed size, once there is something to compare
RATIO_FROM_BYTES = 100 * 2**20
MAX_MEMBERS = 10_000  # of a ZIP archive
# Measured on CSV: with 500 characters a row, reading and comparing all rows takes 3.3 times their bytes
# (with 15 characters a row 16 times, but then few bytes are many rows).
MEMORY_FACTOR = 4
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def available_memory() -> int:
    """Bytes that this process may still take: of the machine, of its container, and of its own limit."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        available = min(available, limit - used)
    for limit, used in _containers():
        available = min(available, limit - used)
    return max(available, 0)


def _containers() -> Iterator[tuple[int, int]]:
    """Limit and use of the control group that a container is, by both versions of the interface.

    File caches count as used, but are given back when memory is short.
    """
    for limit, used, cache in _GROUPS:
        try:
            most = int(Path(limit).read_text())
            taken = int(Path(used).read_text())
            counts = dict(line.split() for line in Path(cache).read_text().splitlines())
        except (OSError, ValueError):  # there is none, or the limit is `max`
            continue
        yield most, taken - int(counts.get("inactive_file", 0))


def check_memory(shown: str, num_bytes: int, available: int) -> None:
    """Refuses to hold in memory what does not fit.

    Args:
        shown: How messages call the file.
        num_bytes: Bytes of its rows.
        available: Bytes of memory that were free before the first was read.

    Raises:
        DataError: If reading so many bytes of rows needs more memory than there is; with the numbers.
    """
    if num_bytes * MEMORY_FACTOR > available:
        raise DataError(
            f"`{shown}` holds {_gib(num_bytes)} of rows or more; reading it whole needs about "
            f"{_gib(num_bytes * MEMORY_FACTOR)} of memory and {_gib(available)} are free. "
            "Train on a sample of its rows, or on a machine with more memory; `predict` reads files of any "
            "size in batches."
        )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
