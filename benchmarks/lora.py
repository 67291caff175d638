"""LoRA against full fine-tuning on a language model: time of a step and peak memory.

The model has GPT-2's shape (12 layers of 768, 50,257 tokens, 124 million weights, random ones), the batch 4
texts of 512 tokens, the loss is the cross-entropy of the next token in chunks, the step is the trainer's,
with AdamW and clipping. Adapters are of rank 8 on query and value, as by default; `dora` learns the lengths
of columns, too, and `qlora` has the adapters on a backbone in 8 bits.

Each contestant is a process of its own. The parent asks one after the other for a step; times are medians
over the rounds. Memory is the peak of the resident set during steps, above what the process held before the
model was built: weights, gradients, optimizer and activations.

    python benchmarks/lora.py [--rounds 9] [--threads 2] [--dtype float32]
"""

import argparse
import os
import statistics
import sys
import time

from processes import Contestant, answer_questions, ended, forget_peak, memory_mib

CONTESTANTS = ("full", "lora", "dora", "qlora")
RANK, VOCABULARY = 8, 50257


def contestant(name, arguments):
    """Answers `step` with seconds, and `peak` with MiB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shape = (arguments.batch, arguments.length)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, shape).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    batch = tf.nest.map_structure(tf.constant, (inputs, np.roll(ids, -1, 1), np.ones(shape, np.float32)))
    before = memory_mib("VmRSS")
    step = made(name, arguments, tf.nest.map_structure(tf.TensorSpec.from_tensor, batch))
    asked = 0

    def answer(question):
        nonlocal asked
        asked += 1
        if question == "peak":
            return memory_mib("VmHWM") - before
        start = time.perf_counter()
        step([batch])
        if asked == 1:
            forget_peak()  # it begins anew when all is built and traced
        return time.perf_counter() - start

    answer_questions(answer)


def made(name, arguments, spec):
    """The training step of a contestant."""
    from kerasllm.models.adapters import LoRASettings, add_lora
    from kerasllm.models.quantization import quantize_backbone
    from kerasllm.training.objectives.causal_language_model import CausalLanguageModel
    from kerasllm.training.optimizers import build_optimizer
    from kerasllm.training.step import TrainingStep

    model = language_model(arguments)
    if name == "qlora":
        quantize_backbone(model)
    if name != "full":
        add_lora(model, LoRASettings(RANK, dora=name == "dora"))
    model.compile(build_optimizer({"learning_rate": 1e-4}, model.trainable_variables, 1000))
    return TrainingStep(model, CausalLanguageModel(), spec)


def language_model(arguments):
    """A GPT-2 with random weights; its head has the matrix of the token embeddings."""
    import keras

    from kerasllm.models.families import FAMILIES
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.transformer.backbone import TransformerBackbone

    keras.utils.set_random_seed(0)
    family = FAMILIES["gpt2"]
    config = {
        "model_type": "gpt2",
        "vocab_size": VOCABULARY,
        "n_embd": arguments.dim,
        "n_layer": arguments.layers,
        "n_head": arguments.dim // 64,
    }
    config = family.with_defaults({**config, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})
    return ModelWithHead(
        TransformerBackbone(family.backbone(config), dtype=arguments.dtype, name="backbone"),
        family.head(config, "causal_language", 0, tied=True),
        kind="causal_language",
        checkpoint_config=config,
        name="language_model",
    )


def measure(arguments):
    """Median seconds of a step and peak MiB of each contestant."""
    children, times = {}, {name: [] for name in arguments.only}
    with ended(children):
        for name in arguments.only:
            children[name] = Contestant([__file__, "--contestant", name, *sys.argv[1:]])
        for number in range(arguments.rounds + 2):
            for name, child in children.items():
                seconds = child.ask("step")
                if number > 1:  # the first ones trace and allocate
                    times[name].append(seconds)
        peaks = {name: child.ask("peak") for name, child in children.items()}
    return {name: statistics.median(values) for name, values in times.items()}, peaks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", help="dtype policy, float32 or mixed_bfloat16")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return contestant(arguments.contestant, arguments)
    from report import table, write_section

    times, peaks = measure(arguments)
    rows = [
        [name, f"{times[name]:.2f} s", f"{peaks[name]:.0f} MiB"]
        + [f"{found[name] / found['full']:.2f}" if "full" in found else "" for found in (times, peaks)]
        for name in times
    ]
    header = ["", "step", "peak memory", "step / full", "memory / full"]
    size = f"{arguments.batch} x {arguments.length} tokens, {arguments.layers} layers of {arguments.dim}"
    text = (
        f"A step of {size} over {VOCABULARY:,} tokens, {arguments.dtype}, adapters of rank {RANK} on query "
        f"and value, {arguments.threads} threads. Medians of {arguments.rounds} interleaved rounds.\n\n"
        f"{table(header, rows)}"
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("LoRA", text)


if __name__ == "__main__":
    main()
