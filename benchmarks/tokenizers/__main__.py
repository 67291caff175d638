"""Every tokenizer in the graph against the `tokenizers` library: exactness, speed, memory, export.

    python benchmarks/tokenizers                                  # everything, 1,000,000 texts a family
    python benchmarks/tokenizers exactness --strings 20000 llama3 t5
    python benchmarks/tokenizers speed minilm gpt2-real
    python benchmarks/tokenizers memory

Each tokenizer (and each number of threads) has a process of its own. With names, their rows are measured
and the section is written with these alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

# At the end: a folder of this name stands in the parent, which must not hide the library.
sys.path.append(str(Path(__file__).parent.parent))

TIMED = ("minilm", "gpt2-real", "smollm2-real", "llama3", "qwen2", "llama2", "t5", "albert", "xlm-roberta")


def run(step: str, name: str, *, threads: int, options: list[str]) -> dict:
    """One step for one tokenizer, in a process of its own."""
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }
    command = [sys.executable, str(Path(__file__).parent), step, name, "--measure", *options]
    result = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        return {"failed": f"{name}: the process ended with {result.returncode}"}
    return json.loads(result.stdout.splitlines()[-1])


def measured(arguments: argparse.Namespace) -> object:
    """What a process of its own measures."""
    [name] = arguments.names
    if arguments.step == "exactness":
        from exactness import compare

        return compare(name, arguments.strings, code_points=arguments.code_points)
    import speed

    if arguments.step == "speed":
        return speed.measure(name)
    if arguments.step == "memory":
        return {"megabytes": speed.memory(name)}
    with tempfile.TemporaryDirectory() as directory:
        return speed.export(name, directory)


def exactness(names: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    """The section on differences, again after each tokenizer: all of them take hours."""
    options = ["--strings", str(arguments.strings)]
    options += [] if arguments.code_points else ["--no-code-points"]
    results = {}
    with ThreadPoolExecutor(arguments.processes) as at_once:
        running = {at_once.submit(run, "exactness", name, threads=1, options=options): name for name in names}
        for done in as_completed(running):
            results[running[done]] = done.result()
            yield differences({name: results[name] for name in names if name in results})


def differences(results: dict[str, dict]) -> str:
    """The table of differences."""
    from report import table

    table_rows, notes = [], []
    for name, result in results.items():
        if "failed" in result:
            table_rows.append([name, "-", "-", "-", "-"])
            notes.append(result["failed"])
            continue
        counts = [f"{result[what]:,}" for what in ("strings", "ids", "decoded", "offsets")]
        table_rows.append([name, *counts])
        notes += [f"{name}, {what}: `{example[:500]}`" for what, example in result["examples"].items()]
    header = ["tokenizer", "texts", "ids differ", "decoded text differs", "offsets differ"]
    return table(header, table_rows) + "".join(f"\n\n{note}" for note in notes)


def speed(names: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    """The section on speed: with one thread and with all."""
    from inputs import FRESH, timed_inputs
    from report import table

    texts_of = {**timed_inputs(), **{input_name: batch(0) for input_name, batch in FRESH.items()}}
    bytes_of = {name: len("".join(texts).encode("utf-8")) for name, texts in texts_of.items()}
    table_rows = []
    for threads in sorted({1, os.cpu_count() or 1}):
        for name in names:
            result = run("speed", name, threads=threads, options=[])
            for input_name, seconds in ({} if "failed" in result else result).items():
                for contestant, median in seconds.items():
                    rate, ratio = bytes_of[input_name] / median / 1e6, seconds["tokenizers"] / median
                    row = [
                        threads,
                        name,
                        input_name,
                        contestant,
                        f"{median * 1e3:.2f}",
                        f"{rate:.1f}",
                        f"{ratio:.2f}",
                    ]
                    table_rows.append(row)
                    print(row, flush=True)
    header = ["threads", "tokenizer", "input", "contestant", "p50 ms", "MB/s", "speed, tokenizers = 1"]
    yield table(header, table_rows)


def memory(names: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    """The section on memory."""
    from report import table

    table_rows = []
    for name in names:
        result = run("memory", name, threads=os.cpu_count() or 1, options=[])
        if "failed" not in result:
            before, after = result["megabytes"]
            table_rows.append([name, f"{before:.0f}", f"{after:.0f}", f"{after / before - 1:+.2%}"])
            print(table_rows[-1], flush=True)
    yield table(["tokenizer", "MB after 1,000 distinct texts", "after 100,000", "growth"], table_rows)


def export(names: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    """The section on saving and loading."""
    from report import table

    table_rows = []
    for name in names:
        result = run("export", name, threads=os.cpu_count() or 1, options=[])
        if "failed" not in result:
            seconds = [f"{result[what]:.2f}" for what in ("make", "save", "load")]
            table_rows.append([name, *seconds, result["nodes"], f"{result['megabytes']:.1f}"])
            print(table_rows[-1], flush=True)
    yield table(["tokenizer", "s to make", "s to save", "s to load", "nodes", "MB"], table_rows)


STEPS = {
    "exactness": ("Tokenizers: differences from the `tokenizers` library", exactness),
    "speed": ("Tokenizers: speed", speed),
    "memory": ("Tokenizers: memory", memory),
    "export": ("Tokenizers: saving and loading", export),
}


def main() -> None:
    """Runs one step, or all, and writes the sections."""
    parser = argparse.ArgumentParser(prog="benchmarks/tokenizers", description=__doc__.splitlines()[0])
    parser.add_argument("step", nargs="?", default="all", choices=["all", *STEPS])
    parser.add_argument("names", nargs="*", help="tokenizers; all of the step by default")
    parser.add_argument(
        "--strings", type=int, default=1_000_000, help="texts a tokenizer, without code points"
    )
    parser.add_argument("--processes", type=int, default=2, help="tokenizers compared at once")
    parser.add_argument("--no-code-points", dest="code_points", action="store_false")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args()
    if arguments.measure:
        print(json.dumps(measured(arguments)))
        return
    from inputs import all_names, reachable
    from report import write_section

    for step, (title, section) in STEPS.items():
        if arguments.step in ("all", step):
            names = arguments.names or (all_names() if step == "exactness" else list(TIMED))
            for text in section([name for name in names if reachable(name)], arguments):
                write_section(title, text)


if __name__ == "__main__":
    main()
