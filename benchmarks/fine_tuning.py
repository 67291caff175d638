"""Fine-tunes MiniLM on Rotten Tomatoes with kerasllm and transformers + PyTorch: accuracy of three seeds.

The same rows, splits, batches, epochs, learning rate, schedule, weight decay and clipping on both sides;
float32 and bfloat16 (ours: mixed_bfloat16; theirs: autocast). Each of these runs has a process of its own.
`training_speed` compares how fast they are.

What is left to chance are dropout and the new head. `--part same` takes both away: with the same head and
no dropout the losses of the two must be equal at every step, and so must be the answers at the end.

    python benchmarks/fine_tuning.py [--part accuracy same] [--seeds 0 1 2] [--epochs 1]
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
import torch
import transformers
from report import table, write_section

from kerasllm.config.loading import load_config
from kerasllm.data.prepare import prepare
from kerasllm.metrics.bootstrap import bootstrap_interval
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.tasks.classification_run import encode_run
from kerasllm.training.classification import classification_problem
from kerasllm.training.timetable import Timetable, windows
from kerasllm.training.trainer import prepare_step

THREADS = os.cpu_count() or 1


class Ours:
    name = "kerasllm, float32"
    dtype_policy = "float32"

    def __init__(self, encoded, preset, seed):
        keras.utils.set_random_seed(seed)
        self.settings = encoded.config.training.model_copy(update={"dtype_policy": self.dtype_policy})
        self.problem = classification_problem(encoded.data, self.settings, seed=seed)
        self.model = build_classifier(
            preset, num_classes=2, dropout=encoded.config.model.dropout, dtype_policy=self.dtype_policy
        )

    def train(self):
        source = self.problem.train
        table = Timetable([source.num_batches(epoch) for epoch in range(self.settings.epochs)])
        step = prepare_step(self.model, self.problem, self.settings, table)
        losses = []
        for window in windows(source.dataset, table):
            step.reset_metrics()
            losses.append(step(window)["loss"])
        return losses

    def right(self, batches):
        found = []
        for inputs, targets, _ in batches:
            logits = np.asarray(self.model(inputs, training=False))
            found.append(logits.argmax(axis=1) == np.asarray(targets))
        return np.concatenate(found)


class OursMixed(Ours):
    name = "kerasllm, mixed_bfloat16"
    dtype_policy = "mixed_bfloat16"


class Theirs:
    name = "transformers + PyTorch, float32"
    bfloat16 = False

    def __init__(self, encoded, preset, seed):
        torch.set_num_threads(THREADS)
        transformers.set_seed(seed)
        self.settings = encoded.config.training
        self.source = classification_problem(encoded.data, self.settings, seed=seed).train
        self.model = MeanPooled(preset.path, encoded.config.model.dropout)
        decayed = [
            p for n, p in self.model.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n
        ]
        others = [p for n, p in self.model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
        steps = sum(self.source.num_batches(epoch) for epoch in range(self.settings.epochs))
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        self.schedule = transformers.get_linear_schedule_with_warmup(
            self.optimizer, int(np.ceil(self.settings.warmup * steps)), steps
        )

    def logits(self, inputs):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return self.model(**{name: torch.from_numpy(np.array(part)) for name, part in inputs.items()})

    def train(self):
        self.model.train()
        losses = []
        for epoch in range(self.settings.epochs):
            for number in range(self.source.num_batches(epoch)):
                inputs, targets, _ = self.source.batch(epoch, number)
                logits = self.logits(inputs).float()
                loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).long())
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
                self.optimizer.step()
                self.schedule.step()
                losses.append(loss.item())
        return losses

    def right(self, batches):
        self.model.eval()
        found = []
        with torch.inference_mode():
            for inputs, targets, _ in batches:
                logits = self.logits({name: part.numpy() for name, part in inputs.items()})
                found.append(logits.float().argmax(1).numpy() == np.asarray(targets))
        return np.concatenate(found)


class TheirsMixed(Theirs):
    name = "transformers + PyTorch, bfloat16 autocast"
    bfloat16 = True


class MeanPooled(torch.nn.Module):
    """The same head as ours for a checkpoint without a trained pooler."""

    def __init__(self, path, dropout):
        super().__init__()
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        options = {} if dropout is None else dict.fromkeys(rates, dropout)
        self.bert = transformers.BertModel.from_pretrained(path, add_pooling_layer=False, **options)
        self.dropout = torch.nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.head = torch.nn.Linear(self.bert.config.hidden_size, 2)
        torch.nn.init.trunc_normal_(self.head.weight, std=self.bert.config.initializer_range)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, token_ids, padding_mask, segment_ids):
        hidden = self.bert(token_ids, attention_mask=padding_mask, token_type_ids=segment_ids)[0]
        mask = padding_mask[..., None].to(hidden.dtype)
        return self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))


CONTESTANTS = (Ours, Theirs, OursMixed, TheirsMixed)


def data(*overrides):
    """The encoded run, its preset, and the test batches."""
    config = load_config("text_classification/sentiment_minilm", list(overrides))
    preset = Preset.load(config.preset)
    prepared = prepare(config.data, task=config.task, seed=config.seed)
    encoded = encode_run(config, prepared, preset)
    test = encode_run(config, dataclasses.replace(prepared, validation=prepared.test), preset)
    return encoded, preset, classification_problem(test.data, config.training).validation


def train_once(name, seed, epochs):
    """Trains and tests one contestant; returns test accuracy, its interval, and the numbers of rows."""
    encoded, preset, test = data(f"training.epochs={epochs}")
    contestant = next(kind for kind in CONTESTANTS if kind.name == name)(encoded, preset, seed)
    contestant.train()
    right = contestant.right(test).astype(np.float64)
    interval = map(float, bootstrap_interval(np.mean, right, seed=0))
    return [float(right.mean()), *interval, encoded.data.train.num_texts, len(right)]


def same(epochs):
    """Trains both from the same weights without dropout; says how far losses and answers are apart."""
    encoded, preset, test = data(f"training.epochs={epochs}", "model.dropout=0.0")
    ours, theirs = Ours(encoded, preset, 0), Theirs(encoded, preset, 0)
    head = theirs.model.head.weight.detach().numpy().T
    ours.model.head.output_dense.kernel.assign(head)
    apart = np.abs(np.subtract(ours.train(), theirs.train()))
    right = ours.right(test), theirs.right(test)
    return (
        f"The same head at the beginning, no dropout, {len(apart)} steps. The losses of a step are at most "
        f"{apart.max():.1e} apart, those of the first 20 at most {apart[:20].max():.1e}. Test accuracy "
        f"{right[0].mean():.4f} and {right[1].mean():.4f}; of {len(right[0]):,} rows "
        f"{int((right[0] != right[1]).sum())} are right for one of the two alone."
    )


def accuracy(seeds, epochs):
    found = {kind.name: [] for kind in CONTESTANTS}
    for seed in seeds:
        for name, values in found.items():
            command = [sys.executable, __file__, "--epochs", str(epochs), "--train", name, str(seed)]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            values.append(json.loads(result.stdout.splitlines()[-1]))
            print(f"{name}, seed {seed}: {values[-1]}", flush=True)
    rows = [
        [
            name,
            f"{np.mean([mean for mean, *_ in values]):.4f}",
            ", ".join(f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high, *_ in values),
        ]
        for name, values in found.items()
    ]
    *_, training, test = values[-1]
    header = ["test accuracy", "mean", f"seeds {seeds}, with 95 % bootstrap intervals"]
    return f"{training:,} training and {test:,} test rows, {epochs} epoch(s).\n\n" + table(header, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=["accuracy", "same"], default=["accuracy", "same"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    if arguments.train:
        name, seed = arguments.train
        print(json.dumps(train_once(name, int(seed), arguments.epochs)))
        return
    if "same" in arguments.part:
        write_section("Fine-tuning MiniLM on Rotten Tomatoes: step by step", same(arguments.epochs))
    if "accuracy" not in arguments.part:
        return
    training = load_config("text_classification/sentiment_minilm").training
    write_section(
        "Fine-tuning MiniLM on Rotten Tomatoes: accuracy",
        f"Batches of {training.batch_size}, learning rate {training.learning_rate}, {THREADS} threads. Both "
        f"sides get the same batches. {accuracy(arguments.seeds, arguments.epochs)}",
    )


if __name__ == "__main__":
    main()
