"""Memory of training: the estimate before the run against the peak that was measured, and what saves memory.

Each configuration trains in a process of its own, on random tokens and random weights of a real model's
shape. The peak is the kernel's `VmHWM`; "beside TensorFlow" is beside what the process holds after importing
TensorFlow and kerasllm and multiplying once.

    python benchmarks/memory.py                # all, and the section of RESULTS.md
    python benchmarks/memory.py minilm-32x128  # some, by the beginning of their names
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median

from report import table, write_section

_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        model: A key of `_SETTINGS`.
        batch_size, width: Shape of a batch.
        policy: Dtype policy.
        recompute: Gradient checkpointing.
        trained: `"all"`, `"head"`, or `"lora"`.
        chunked: Whether the loss is the chunked cross-entropy.
        steps: Steps; the first makes the graph.
    """

    model: str
    batch_size: int
    width: int
    policy: str = "float32"
    recompute: bool = False
    trained: str = "all"
    chunked: bool = False
    steps: int = 2

    @property
    def name(self) -> str:
        parts = [f"{self.model}-{self.batch_size}x{self.width}", self.policy.removeprefix("mixed_")]
        parts += ["checkpointing"] * self.recompute + [self.trained] * (self.trained != "all")
        return "-".join([*parts, *["chunked"] * self.chunked])


def cases() -> list[Case]:
    """All that are measured."""
    found = [
        Case("minilm", batch_size, width, policy, recompute)
        for batch_size, width in ((32, 64), (32, 128), (8, 512))
        for policy in ("float32", "mixed_bfloat16")
        for recompute in (False, True)
    ]
    found += [Case("minilm", 32, 128, trained=trained) for trained in ("head", "lora")]
    found += [
        Case("gpt2", 4, 256, recompute=recompute, chunked=chunked)
        for recompute in (False, True)
        for chunked in (False, True)
    ]
    return found
