"""Fine-tunes MiniLM on Rotten Tomatoes with kerasllm, with transformers + PyTorch, and with KerasHub.

The same rows, splits, epochs, batch size, learning rate, schedule, weight decay and clipping for kerasllm
and PyTorch, three seeds each; float32 on both sides, and kerasllm in mixed_bfloat16 beside them. Each
of these runs has a process of its own. Speed is examples per second of training alone, measured in slices of
the same batches that alternate between the contestants (at least five each), in one process, with the same
number of threads.

    python benchmarks/fine_tuning.py [--part accuracy|speed] [--seeds 0 1 2] [--epochs 1]
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
import torch
import transformers
from report import table, write_section

from kerasllm.config.loading import load_config
from kerasllm.data.pipeline import (
    EncodedTexts,
    collate,
    epoch_batches,
    evaluation_batches,
    num_batches_of,
    training_batches,
)
from kerasllm.data.prepare import prepare
from kerasllm.metrics.bootstrap import bootstrap_interval
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.training.trainer import TrainingData, compile_classifier

THREADS = os.cpu_count() or 1
SLICE = 8  # batches in one slice of the speed comparison
NUM_SLICES = 5


def load(config, preset):
    prepared = prepare(config.data, task=config.task, seed=config.seed)
    encoded = {}
    for name in ("train", "validation", "test"):
        records = getattr(prepared, name)
        ids, segments = preset.tokenizer.encode_with_segments(
            records.texts, sequence_length=config.data.sequence_length
        )
        encoded[name] = EncodedTexts.from_lists(ids, segments, prepared.label_map.encode(records))
    return prepared, encoded


class Ours:
    name = "kerasllm"
    dtype_policy = "float32"

    def __init__(self, preset, encoded, config, seed):
        dtype_policy = self.dtype_policy
        keras.utils.set_random_seed(seed)
        self.seed, self.config, self.encoded = seed, config, encoded
        self.settings = config.training.model_copy(update={"dtype_policy": dtype_policy})
        self.model = build_classifier(
            preset, num_classes=2, dropout=config.model.dropout, dtype_policy=dtype_policy
        )
        self.data = TrainingData(encoded["train"], encoded["validation"], preset.tokenizer.pad_id, 2, False)
        compile_classifier(self.model, self.data, self.settings)

    def run(self, batches):
        """Trains on the given batches of text numbers; returns examples per second."""
        made = [collate(self.encoded["train"], batch, pad_id=self.data.pad_id) for batch in batches]
        began = time.perf_counter()
        for inputs, targets, weights in made:
            self.model.train_on_batch(inputs, targets, sample_weight=weights)
        return sum(map(len, batches)) / (time.perf_counter() - began)

    def train(self, epochs):
        texts = self.encoded["train"]
        size = self.settings.batch_size
        self.model.fit(
            training_batches(texts, size, pad_id=self.data.pad_id, seed=self.seed),
            epochs=epochs,
            steps_per_epoch=num_batches_of(texts, size),
            shuffle=False,
            verbose=0,
        )

    def test(self):
        texts = self.encoded["test"]
        logits = self.model.predict(evaluation_batches(texts, 64, pad_id=self.data.pad_id), verbose=0)
        order = np.argsort(texts.lengths, kind="stable")
        return logits.argmax(axis=1) == texts.targets[order]


class OursMixed(Ours):
    name = "kerasllm, mixed_bfloat16"
    dtype_policy = "mixed_bfloat16"


class Theirs:
    name = "transformers + PyTorch"
    bfloat16 = False

    def __init__(self, preset, encoded, config, seed):
        torch.set_num_threads(THREADS)
        transformers.set_seed(seed)
        self.seed, self.encoded, self.settings = seed, encoded, config.training
        self.pad_id = preset.tokenizer.pad_id
        self.model = MeanPooled(preset.path)
        decayed = [
            p for n, p in self.model.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n
        ]
        others = [p for n, p in self.model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
        steps = num_batches_of(encoded["train"], self.settings.batch_size) * self.settings.epochs
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        self.schedule = transformers.get_linear_schedule_with_warmup(
            self.optimizer, round(self.settings.warmup * steps), steps
        )

    def step(self, batch):
        inputs, targets, _ = collate(self.encoded["train"], batch, pad_id=self.pad_id)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits = self.model(**{k: torch.from_numpy(v) for k, v in inputs.items()})
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(targets).long())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.schedule.step()

    def run(self, batches):
        self.model.train()
        began = time.perf_counter()
        for batch in batches:
            self.step(batch)
        return sum(map(len, batches)) / (time.perf_counter() - began)

    def train(self, epochs):
        for epoch in range(epochs):
            texts = self.encoded["train"]
            self.run(epoch_batches(texts.lengths, self.settings.batch_size, seed=self.seed, epoch=epoch))

    def test(self):
        self.model.eval()
        texts, right = self.encoded["test"], []
        with torch.inference_mode():
            for inputs, targets, _ in evaluation_batches(texts, 64, pad_id=self.pad_id).as_numpy_iterator():
                logits = self.model(**{k: torch.from_numpy(v.copy()) for k, v in inputs.items()})
                right.append(logits.argmax(1).numpy() == targets)
        return np.concatenate(right)


class TheirsMixed(Theirs):
    name = "transformers + PyTorch, bfloat16 autocast"
    bfloat16 = True


class MeanPooled(torch.nn.Module):
    """The same head as ours for a checkpoint without a trained pooler."""

    def __init__(self, path):
        super().__init__()
        self.bert = transformers.BertModel.from_pretrained(path, add_pooling_layer=False)
        self.dropout = torch.nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.head = torch.nn.Linear(self.bert.config.hidden_size, 2)
        torch.nn.init.trunc_normal_(self.head.weight, std=self.bert.config.initializer_range)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, token_ids, padding_mask, segment_ids):
        hidden = self.bert(token_ids, attention_mask=padding_mask, token_type_ids=segment_ids)[0]
        mask = padding_mask[..., None].to(hidden.dtype)
        return self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))


class KerasHub:
    """`BertTextClassifier.fit` as a user would write it: its own preprocessor, padded to its default."""

    def __init__(self, preset, prepared, sequence_length=512):
        import keras_hub

        self.name = f"KerasHub BertTextClassifier, padded to {sequence_length}"
        ids = json.loads(preset.tokenizer.json)["model"]["vocab"]
        vocabulary = sorted(ids, key=ids.get)
        tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=vocabulary, lowercase=True)
        preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length)
        config = preset.config
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            hidden_dim=config["hidden_size"],
            intermediate_dim=config["intermediate_size"],
            max_sequence_length=config["max_position_embeddings"],
        )
        self.model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
        self.texts = np.asarray(prepared.train.texts, dtype=object)
        self.targets = prepared.label_map.encode(prepared.train)

    def run(self, batches):
        rows = np.concatenate(batches)
        dataset = tf.data.Dataset.from_tensor_slices((self.texts[rows].tolist(), self.targets[rows]))
        began = time.perf_counter()
        self.model.fit(dataset.batch(len(batches[0])), epochs=1, verbose=0)
        return len(rows) / (time.perf_counter() - began)


def train_once(name, seed, epochs):
    """Trains and tests one contestant; returns test accuracy, its interval, and the numbers of rows."""
    config, preset, _, encoded = prepared_data(epochs)
    cls = next(cls for cls in (Ours, Theirs, OursMixed) if cls.name == name)
    contestant = cls(preset, encoded, config, seed)
    contestant.train(config.training.epochs)
    right = contestant.test().astype(np.float64)
    interval = map(float, bootstrap_interval(np.mean, right, seed=0))
    return [float(right.mean()), *interval, encoded["train"].num_texts, len(right)]


def accuracy(seeds, epochs):
    found = {cls.name: [] for cls in (Ours, Theirs, OursMixed)}
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


def speed(contestants, encoded, config):
    lengths = encoded["train"].lengths
    batches = epoch_batches(lengths, config.training.batch_size, seed=9, epoch=0)
    rates = {contestant.name: [] for contestant in contestants}
    for contestant in contestants:
        contestant.run(batches[:2])  # trace and warm up
    for number in range(NUM_SLICES):
        part = batches[number * SLICE : (number + 1) * SLICE]
        for contestant in contestants:
            # KerasHub is slow: one batch of the slice tells its rate.
            own = part[:1] if isinstance(contestant, KerasHub) else part
            rates[contestant.name].append(contestant.run(own))
            print(f"{contestant.name}: {rates[contestant.name][-1]:.1f} examples/s", flush=True)
    return {name: float(np.median(values)) for name, values in rates.items()}


def compare_speed(epochs):
    config, preset, prepared, encoded = prepared_data(epochs)
    contestants = [
        *(cls(preset, encoded, config, 0) for cls in (Ours, Theirs, OursMixed, TheirsMixed)),
        KerasHub(preset, prepared, 512),
        KerasHub(preset, prepared, 128),
    ]
    rates = speed(contestants, encoded, config)
    base = rates[Theirs.name]
    return table(
        ["training", "examples/s", "against transformers + PyTorch float32"],
        [[name, f"{rate:.1f}", f"{rate / base:.2f} ×"] for name, rate in rates.items()],
    )


def prepared_data(epochs):
    config = load_config("text_classification/sentiment_minilm", [f"training.epochs={epochs}"])
    preset = Preset.load(config.preset)
    prepared, encoded = load(config, preset)
    return config, preset, prepared, encoded


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["accuracy", "speed"], help="Defaults to both.")
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
    training = load_config("text_classification/sentiment_minilm").training
    setting = (
        f"Batches of {training.batch_size}, learning rate {training.learning_rate}, {THREADS} threads. Both "
        "sides get the same length-grouped batches"
    )
    if arguments.part != "speed":
        text = accuracy(arguments.seeds, arguments.epochs)
        write_section(
            "Fine-tuning MiniLM on Rotten Tomatoes: accuracy",
            f"{setting}. {text}",
        )
    if arguments.part != "accuracy":
        text = compare_speed(arguments.epochs)
        write_section(
            "Fine-tuning MiniLM on Rotten Tomatoes: speed",
            f"{setting}; medians of {NUM_SLICES} interleaved slices of {SLICE} batches.\n\n{text}",
        )


if __name__ == "__main__":
    main()
