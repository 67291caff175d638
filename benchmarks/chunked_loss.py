"""Cross-entropy over a large vocabulary in chunks against the plain one: memory, speed and gradients.

Each contestant is a process of its own that takes the loss of 4,096 tokens over 50,257 and its gradients for
token vectors and table, in a `tf.function`. `plain` holds the logits, as TensorFlow's own loss wants them.
Memory is the peak of the resident set during steps, above what the process held before the first one (inputs
and libraries). The parent asks one after the other for a step; times are medians over the rounds.

    python benchmarks/chunked_loss.py [--rounds 15] [--threads 2]
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from processes import Contestant, answer_questions, ended, forget_peak, memory_mib

TOKENS, VOCABULARY, DIM = 4096, 50257, 768
CONTESTANTS = ("plain", "chunked", "plain, frozen table", "chunked, frozen table")


def contestant(name, dtype, threads):
    """Answers `step` with seconds, also of processors, `peak` with MiB; to a file it writes its gradients."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import numpy as np
    import tensorflow as tf

    from kerasllm.training.losses.chunked import chunked_crossentropy_sum

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    hidden = tf.cast(tf.constant(random.normal(size=(TOKENS, DIM)), tf.float32), dtype)
    table = tf.Variable(random.normal(size=(VOCABULARY, DIM)).astype(np.float32) * 0.02)
    labels = tf.constant(random.integers(0, VOCABULARY, TOKENS), tf.int32)
    weights = tf.ones(TOKENS)
    learns = "frozen" not in name

    def plain():
        logits = tf.cast(tf.matmul(hidden, tf.cast(table, dtype), transpose_b=True), tf.float32)
        return tf.reduce_sum(weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    def chunked():
        return chunked_crossentropy_sum(hidden, table, labels, weights, table_gradient=learns).total

    @tf.function
    def step():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sources = [hidden, table] if learns else [hidden]
            tape.watch(sources)
            total = plain() if name.startswith("plain") else chunked()
        return total, tape.gradient(total, sources)

    step.get_concrete_function()
    before = memory_mib("VmRSS")
    forget_peak()

    def answer(question):
        if question == "peak":
            return memory_mib("VmHWM") - before
        start, busy = time.perf_counter(), time.process_time()
        total, gradients = step()
        if question == "step":
            total.numpy(), [gradient[0, 0].numpy() for gradient in gradients]
            return [time.perf_counter() - start, time.process_time() - busy]
        np.savez(question, total.numpy(), *(tf.cast(part, tf.float32).numpy() for part in gradients))
        return None

    answer_questions(answer)


def measure(dtype, names, arguments, folder):
    """Medians in seconds and peaks in MiB; gradients are left in files."""
    children, times = {}, {name: [] for name in names}
    with ended(children):
        for name in names:
            options = ["--contestant", name, "--dtype", dtype, "--threads", str(arguments.threads)]
            children[name] = Contestant([__file__, *options])
        for number in range(arguments.rounds + 1):
            for name, child in children.items():
                seconds = child.ask("step")
                if number:  # the first is a warm-up
                    times[name].append(seconds)
        peaks = {name: child.ask("peak") for name, child in children.items()}
        for name, child in children.items():
            child.ask(folder / f"{name}.npz")
    medians = {
        name: [statistics.median(column) for column in zip(*values, strict=True)]
        for name, values in times.items()
    }
    return medians, peaks


def difference(first, second):
    import numpy as np

    pairs = list(zip(np.load(first).values(), np.load(second).values(), strict=True))
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs[1:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="", help="only float32 or bfloat16")
    arguments = parser.parse_args()
    if arguments.contestant:
        return contestant(arguments.contestant, arguments.dtype, arguments.threads)
    import tempfile

    from report import table, write_section

    rows = []
    for dtype in [arguments.dtype] if arguments.dtype else ["float32", "bfloat16"]:
        for plain, chunked in (CONTESTANTS[:2], CONTESTANTS[2:]):
            with tempfile.TemporaryDirectory() as folder:
                times, peaks = measure(dtype, (plain, chunked), arguments, Path(folder))
                error = difference(*(Path(folder) / f"{name}.npz" for name in (plain, chunked)))
            case = f"{dtype}{', table frozen' if 'frozen' in plain else ''}"
            cells = [f"{times[plain][0]:.2f} s", f"{times[chunked][0]:.2f} s"]
            cells += [f"{a / b:.2f} ×" for a, b in zip(times[plain], times[chunked], strict=True)]
            cells += [f"{peaks[plain]:.0f} MiB", f"{peaks[chunked]:.0f} MiB"]
            cells += [f"{peaks[chunked] / peaks[plain]:.2f} ×", f"{error:.0e}"]
            rows.append([case, *cells])
            print(rows[-1], flush=True)
    header = [
        "",
        "plain",
        "chunked",
        "speed",
        "peak, plain",
        "peak, chunked",
        "memory",
        "gradients differ by",
    ]
    text = (
        f"Loss and gradients of {TOKENS:,} tokens of {DIM} numbers over a vocabulary of {VOCABULARY:,}; "
        f"{arguments.threads} threads. Medians of {arguments.rounds} interleaved rounds. Processor "
        "time is what speed is where other processes take their share of the machine. The memory is what the "
        "steps need beside their inputs, results included. The last column is the largest difference of a "
        f"number of the gradients, relative to the largest number or 1.\n\n{table(header, rows)}"
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Chunked loss", text)


if __name__ == "__main__":
    main()
