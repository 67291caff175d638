"""Tiny classifiers as they go into an export, and the export itself."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasllm.export.probes import builtin_probes
from kerasllm.testing import tiny_bert

FORK_SERVER = Path(__file__).with_name("fork_server.py")


@dataclass(frozen=True)
class Classifier:
    """The parts of a tiny classifier, and its scores by Python's own path."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    multi_label: bool
    pair: bool
    sequence_length: int = 32

    def module(self, **options: Any) -> Any:
        from kerasllm.export.signatures import ClassificationModule

        fixed = {"labels": self.labels, "multi_label": self.multi_label, "pair": self.pair}
        return ClassificationModule(
            self.model, self.tokenizer, sequence_length=self.sequence_length, **fixed, **options
        )

    def reference(self, *columns: list[str]) -> np.ndarray:
        """The `tokenizers` library, one padded batch, the Keras model as it is, NumPy."""
        logits = self.logits(*columns)
        if self.multi_label:
            return 1 / (1 + np.exp(-logits))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def logits(self, *columns: list[str]) -> np.ndarray:
        ids, segments = self.tokenizer.encode_with_segments(*columns, sequence_length=self.sequence_length)
        batch = np.zeros((3, len(ids), max(map(len, ids))), np.int32)
        for row, (some, parts) in enumerate(zip(ids, segments, strict=True)):
            batch[:, row, : len(some)] = some, [1] * len(some), parts
        inputs = dict(zip(("token_ids", "padding_mask", "segment_ids"), batch, strict=True))
        return np.asarray(self.model(inputs, training=False), np.float64)

    def spread(self) -> None:
        """Scales the new head, which answers all texts nearly alike, so that it tells them apart."""
        columns = builtin_probes(("text", "text_pair") if self.pair else ("text",)).values()
        logits = self.logits(*columns)
        head = self.model.head.output_dense
        head.kernel.assign(head.kernel * (2 / logits.std(axis=0)))
        head.bias.assign(head.bias - 2 * logits.mean(axis=0) / logits.std(axis=0))

    def export(self, path: Path, **options: Any) -> Path:
        from kerasllm.export.saved_model import export_saved_model

        return export_saved_model(path, self.module(), reference=self.reference, **options)


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory) -> Callable[..., Classifier]:
    """Makes a tiny classifier with random weights."""
    import keras

    from kerasllm.models.builders import build_classifier
    from kerasllm.models.presets import Preset

    def make(
        labels=("negative", "neutral", "positive"),
        *,
        pooling="mean",
        multi_label=False,
        pair=False,
        dtype_policy="float32",
        **config,
    ):
        config = {"initializer_range": 0.3} | config
        preset = Preset.load(tiny_bert(tmp_path_factory.mktemp("bert"), **config))
        keras.utils.set_random_seed(1)
        model = build_classifier(preset, num_classes=len(labels), pooling=pooling, dtype_policy=dtype_policy)
        found = Classifier(model, preset.tokenizer, tuple(labels), multi_label, pair)
        found.spread()
        return found

    return make


@pytest.fixture(scope="session")
def classifier(make_classifier) -> Classifier:
    return make_classifier()


@pytest.fixture(scope="session")
def exported(classifier, tmp_path_factory) -> Path:
    """An exported classifier; not to be changed."""
    return classifier.export(
        tmp_path_factory.mktemp("served") / "reviews", metadata={"task": "text_classification"}
    )


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory) -> Iterator[Callable[..., int]]:
    """Starts exports in processes of their own: `start(path) -> pid`, `start.wait(pid) -> exit status`."""
    checkpoint = tiny_bert(tmp_path_factory.mktemp("bert"), labels=("negative", "positive"))
    process = subprocess.Popen(
        [sys.executable, str(FORK_SERVER), str(checkpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield _ForkServer(process)
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


class _ForkServer:
    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._ended: dict[int, dict] = {}

    def __call__(self, path: Path, **options: Any) -> int:
        self._process.stdin.write(json.dumps({"path": str(path), **options}) + "\n")
        self._process.stdin.flush()
        return self._next("started")["pid"]

    def wait(self, pid: int) -> dict:
        while pid not in self._ended:
            self._next("ended")
        return self._ended.pop(pid)

    def _next(self, event: str) -> dict:
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError("the fork server died")
            message = json.loads(line)
            if message["event"] == "ended":
                self._ended[message["pid"]] = message
            if message["event"] == event:
                return message
