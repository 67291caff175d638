"""How fast we fine-tune, against `transformers.Trainer` and KerasHub on the same machine.

Each contestant is a process of its own that sits idle between its slices; the parent asks one after the
other for a slice of training steps, round by round. Input, clipping, optimizer and schedule are included;
dropout is on in the classifiers. Both sides train on the same batches (grouped by length, or packed rows with
block-diagonal attention), so that a slice is the same work; KerasHub makes its own.

    python benchmarks/training_speed [--part reviews long keras_hub …] [--quick]
    python benchmarks/training_speed --device gpu --part reviews long gpt2
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from processes import Contestant, answer_questions, ended  # noqa: E402

FLOAT32 = {"kerasllm": ("ours", "float32"), "transformers": ("theirs", False)}
BFLOAT16 = {"kerasllm, bfloat16": ("ours", "mixed_bfloat16"), "transformers, bfloat16": ("theirs", True)}
KERAS_HUB = {
    "kerasllm": ("ours", "float32"),
    "KerasHub, padded to 512": ("keras_hub", 512),
    "KerasHub, padded to 128": ("keras_hub", 128),
}
# Title, unit, contestants that take turns, steps of a slice. Groups come one after the other: four language
# models at once, or KerasHub's texts of 512 tokens beside all others, do not fit into the memory.
TOGETHER = [{**FLOAT32, **BFLOAT16}]
IN_PAIRS = [FLOAT32, BFLOAT16]
ON_REVIEWS = "Training speed: MiniLM on Rotten Tomatoes"
PARTS = {
    "reviews": (ON_REVIEWS, "examples/s", TOGETHER, 8),
    "keras_hub": (f"{ON_REVIEWS}, against KerasHub", "examples/s", [KERAS_HUB], 8),
    "long": ("Training speed: MiniLM on texts of 10 to 300 words", "examples/s", IN_PAIRS, 4),
    "gpt2": ("Training speed: a language model of GPT-2's shape", "tokens/s", IN_PAIRS, 1),
    "smollm2": ("Training speed: SmolLM2-135M", "tokens/s", IN_PAIRS, 1),
}
SLOW = "KerasHub"  # one batch tells its rate


def worker(part, name, arguments):
    """Answers each line, a number of steps, with what was trained on and the seconds; `peak` with MiB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    kind, option = next(group[name] for group in PARTS[part][2] if name in group)
    contestant = made(kind, part, option, arguments)

    def answer(question):
        if question == "ready":
            return True
        return contestant.peak() if question == "peak" else contestant.run(int(question))

    answer_questions(answer)


def made(kind, part, option, arguments):
    """A contestant, with the number of threads set."""
    if kind == "theirs":
        from theirs import Theirs

        return Theirs(part, option, arguments.device, arguments.threads)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    if kind == "keras_hub":
        from keras_hub_side import KerasHub

        return KerasHub("reviews", option)
    from ours import Ours

    return Ours("reviews" if part == "keras_hub" else part, option, arguments.device)


def compare(part, arguments):
    """Medians over the rounds, in a section of the results."""
    from report import table, write_section

    title, unit, groups, steps = PARTS[part]
    rates, peaks = {}, {}
    for group in groups:
        run_group(part, group, steps, arguments, rates, peaks)
    text = (
        f"{unit}, {arguments.threads} threads, medians of {arguments.rounds} interleaved slices of {steps} "
        f"steps{' on the GPU' if arguments.device == 'gpu' else ''}. Ratios are medians of the ratios of a "
        "round.\n\n" + table(*rows_of(rates, peaks, unit))
    )
    if arguments.no_report:
        print(text)
    else:
        write_section(title, text)


def run_group(part, group, steps, arguments, rates, peaks):
    """Adds what each of the contestants reached in each round, and its peak of memory."""
    options = ["--device", arguments.device, "--threads", str(arguments.threads)]
    children = {}
    with ended(children):
        for name in group:
            command = [str(HERE), "--worker", part, name, *options]
            children[name] = Contestant(command, verbose=arguments.verbose)
            children[name].ask("ready")
        for child in children.values():
            child.ask(2)  # tracing, and first allocations
        for number in range(arguments.rounds):
            for name, child in children.items():
                counted, seconds = child.ask(1 if name.startswith(SLOW) else steps)
                rates.setdefault(name, []).append(counted / seconds)
            print(f"round {number}:", {name: f"{rates[name][-1]:.1f}" for name in group}, flush=True)
        peaks.update({name: child.ask("peak") for name, child in children.items()})


def rows_of(rates, peaks, unit):
    """Header and rows: the rate, and how much faster our like is."""
    header = ["", unit, "fastest", "kerasllm in the same precision is"]
    if any(peaks.values()):
        header.append("peak, MiB")
    rows = []
    for name, values in rates.items():
        like = "kerasllm, bfloat16" if "bfloat16" in name else "kerasllm"
        ratio = statistics.median(mine / value for mine, value in zip(rates[like], values, strict=True))
        row = [name, f"{statistics.median(values):.1f}", f"{max(values):.1f}", f"{ratio:.2f} × as fast"]
        rows.append([*row, *([f"{peaks[name]:.0f}" if peaks[name] else ""] if any(peaks.values()) else [])])
    return header, rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = [*PARTS, "utilisation"]
    parser.add_argument("--part", nargs="+", choices=choices, default=choices)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="3 rounds, printed only")
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--verbose", action="store_true", help="show what the contestants log")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker, arguments)
        return
    if arguments.quick:
        arguments.rounds, arguments.no_report = 3, True
    for part in arguments.part:
        if part == "utilisation":
            command = [sys.executable, str(HERE / "utilisation.py"), "--threads", str(arguments.threads)]
            command += ["--no-report"] if arguments.no_report else []
            subprocess.run(command, check=True)
        else:
            compare(part, arguments)


if __name__ == "__main__":
    main()
