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
from typing import Any

_GIB = 2**30
_MINILM = {"hidden_dim": 384, "num_heads": 12, "intermediate_dim": 1536, "num_layers": 6}
_GPT2 = {"hidden_dim": 768, "num_heads": 12, "intermediate_dim": 3072, "num_layers": 12}


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        model: `"minilm"`, a classifier, or `"gpt2"`, a language model.
        batch_size, width: Shape of a batch.
        policy: Dtype policy.
        recompute: Gradient checkpointing.
        trained: `"all"`, `"head"` or `"lora"`.
        optimizer: Of `OPTIMIZERS`.
        accumulate: Micro-batches of a step.
        steps: Steps; the first one makes the graph.
    """

    model: str
    batch_size: int
    width: int
    policy: str = "float32"
    recompute: bool = False
    trained: str = "all"
    optimizer: str = "adamw"
    accumulate: int = 1
    steps: int = 2

    @property
    def name(self) -> str:
        """Short and unique."""
        parts = [f"{self.model}-{self.batch_size}x{self.width}", self.policy.removeprefix("mixed_")]
        parts += ["checkpointing"] * self.recompute + [self.trained] * (self.trained != "all")
        parts += [self.optimizer] * (self.optimizer != "adamw")
        return "-".join([*parts, *[f"x{self.accumulate}"] * (self.accumulate > 1)])


CASES = [
    *(
        Case("minilm", batch_size, width, policy, recompute)
        for batch_size, width in ((32, 64), (32, 128), (8, 512))
        for policy in ("float32", "mixed_bfloat16")
        for recompute in (False, True)
    ),
    Case("minilm", 32, 128, trained="head"),
    Case("minilm", 32, 128, trained="lora"),
    Case("minilm", 8, 64, optimizer="adafactor"),
    Case("minilm", 8, 64, optimizer="muon"),
    Case("minilm", 8, 64, accumulate=2),
    *(
        Case("gpt2", *shape, policy, recompute)
        for shape, policy, recompute in (
            ((4, 256), "float32", False),
            ((4, 256), "float32", True),
            ((2, 256), "mixed_bfloat16", False),
        )
    ),
    Case("gpt2", 4, 256, trained="lora"),
]


def main() -> None:
    """Measures what the command line asks for."""
    wanted = sys.argv[1:]
    chosen = [case for case in CASES if not wanted or any(case.name.startswith(name) for name in wanted)]
    results = [(case, measure(case)) for case in chosen]
    if not wanted:
        _write(results)


def measure(case: Case) -> dict[str, Any]:
    """Trains in a child process; gives bytes and seconds."""
    command = [sys.executable, __file__, "--child", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise SystemExit(f"{case.name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    ratio = found["estimate"] / found["measured"]
    print(
        f"{case.name:45} estimate {found['estimate'] / _GIB:6.2f}  measured {found['measured'] / _GIB:6.2f}  "
        f"ratio {ratio:.2f}  total {found['peak'] / _GIB:6.2f}  step {found['seconds']:.2f} s",
        flush=True,
    )
    return found


def child(case: Case) -> dict[str, Any]:
    """Trains in this process."""
    import os

    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import numpy as np
    import tensorflow as tf

    from kerasllm.training.memory import estimate_memory
    from kerasllm.training.optimizers import build_optimizer
    from kerasllm.training.step import TrainingStep

    float(tf.reduce_sum(tf.matmul(tf.ones([500, 500]), tf.ones([500, 500]))))
    before = _memory("VmRSS")
    model, objective, batches = _problem(case)
    optimizer = build_optimizer(
        {"learning_rate": 1e-4, "name": case.optimizer}, model.trainable_variables, 100
    )
    model.compile(optimizer=optimizer)
    began = time.perf_counter()
    estimate = estimate_memory(
        model, batch_size=case.batch_size, width=case.width, accumulate=case.accumulate
    )
    estimating = time.perf_counter() - began
    dataset = tf.data.Dataset.from_tensor_slices(batches).batch(case.batch_size)
    step = TrainingStep(model, objective, dataset.element_spec)
    seconds = []
    for _ in range(case.steps):
        micro = list(dataset)[: case.accumulate]
        began = time.perf_counter()
        step(micro)
        seconds.append(time.perf_counter() - began)
    peak = _memory("VmHWM")
    assert np.isfinite(step.results()["loss"])
    return {
        "estimate": estimate.total,
        "parts": asdict(estimate),
        "measured": peak - before,
        "peak": peak,
        "seconds": min(seconds[1:] or seconds),
        "estimating": estimating,
    }


def _problem(case: Case) -> tuple[Any, Any, Any]:
    import numpy as np

    from kerasllm.models.adapters import LoRASettings, add_lora
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.transformer.backbone import TransformerBackbone
    from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings

    classifies = case.model == "minilm"
    sizes = _MINILM if classifies else _GPT2
    heads = sizes["num_heads"]
    stack = StackSettings(
        **sizes,
        num_key_value_heads=heads,
        head_dim=sizes["hidden_dim"] // heads,
        norm_place="post" if classifies else "pre",
        activation="gelu" if classifies else "gelu_tanh",
        causal=not classifies,
        dropout=0.1,
        attention_dropout=0.1,
    )
    vocabulary = 30522 if classifies else 50257
    embedding = EmbeddingSettings(
        vocabulary, sizes["hidden_dim"], num_positions=1024, norm=classifies, dropout=0.1
    )
    place = {"encoder": stack} if classifies else {"decoder": stack, "final_norm": True}
    backbone = TransformerBackbone(BackboneSettings(embedding, **place), dtype=case.policy)
    head: dict[str, Any] = {"units": 2, "pool": "mean"}
    if not classifies:
        head = {"units": vocabulary, "tied": True, "bias": False}
    kind = "sequence_classifier" if classifies else "causal_language"
    model = ModelWithHead(backbone, head, kind=kind)
    if case.trained == "head":
        backbone.trainable = False
    if case.trained == "lora":
        add_lora(model, LoRASettings(rank=8), roles=("query", "key", "value", "output", "feed_forward"))
    backbone.recompute_layers(case.recompute)
    random = np.random.default_rng(0)
    count = case.batch_size * case.accumulate
    ids = random.integers(0, vocabulary, (count, case.width), dtype=np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    if classifies:
        targets, weights = random.integers(0, 2, count), np.ones(count, np.float32)
    else:
        targets, weights = np.roll(ids, -1, axis=1), np.ones(ids.shape, np.float32)
    return model, _objective(), (inputs, targets.astype(np.int32), weights)


def _objective() -> Any:
    import tensorflow as tf

    from kerasllm.training.objectives.objective import Objective, weighted

    class CrossEntropy(Objective):
        """Of each text or token."""

        def loss(self, model, inputs, targets, weights, *, training):
            logits = model(inputs, training=training)
            return weighted(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits), weights)

    return CrossEntropy()


def _memory(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


def _write(results: list[tuple[Case, dict[str, Any]]]) -> None:
    from report import table, write_section

    rows = [
        (
            case.name,
            f"{found['estimate'] / _GIB:.2f}",
            f"{found['measured'] / _GIB:.2f}",
            f"{found['estimate'] / found['measured']:.2f}",
            f"{found['peak'] / _GIB:.2f}",
            f"{found['seconds']:.1f}",
        )
        for case, found in results
    ]
    header = ("training", "estimate, GiB", "measured, GiB", "ratio", "whole process, GiB", "step, s")
    text = (
        "Peak of the memory of training beside TensorFlow itself, estimated before the run and measured in a "
        "process of its own (`python benchmarks/memory.py`). Names: model, batch size x tokens, precision, "
        "and what else differs from training all weights with AdamW.\n\n"
    )
    write_section("Memory of training", text + table(header, rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Case(**json.loads(sys.argv[2])))))
    else:
        main()
