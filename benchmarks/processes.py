"""Contestants in processes of their own, which sit idle until they are asked for something."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_ANSWER = "answer "  # before each, as libraries print things, too


class Contestant:
    """The parent's side of a process that calls `answer_questions`.

    Args:
        command: Arguments of the Python interpreter.
        verbose: Whether what it logs is shown. Defaults to `False`.
    """

    def __init__(self, command: Sequence[str], *, verbose: bool = False):
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
        )

    def ask(self, question: object) -> Any:
        """Asks, and waits for the answer."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, as is said below
            print(question, file=self.process.stdin, flush=True)
        for line in self.process.stdout or ():
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise SystemExit(
            f"A contestant ended with status {self.process.wait()}, perhaps for want of memory: "
            f"{self.process.args}"
        )

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def ended(contestants: dict[str, Contestant]) -> Any:
    """Ends all that the dict holds by then, whatever happens inside."""
    try:
        yield
    finally:
        for contestant in contestants.values():
            contestant.end()


def answer_questions(answer: Callable[[str], Any]) -> None:
    """The contestant's side: answers line by line, until the parent goes away.

    Args:
        answer: From a question to what JSON can say.
    """
    for line in sys.stdin:
        print(_ANSWER + json.dumps(answer(line.strip())), flush=True)


def memory_mib(key: str) -> float:
    """Memory of this process as the kernel counts it: `VmRSS` now, or `VmHWM` at most since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Lets the peak of the memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")
