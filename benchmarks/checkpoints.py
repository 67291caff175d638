"""What a checkpoint costs: against writing the same bytes, and as a share of fine-tuning MiniLM.

Saves are those of the real run, its weights and optimizer state on the disk of `--directory`. After each, the
same bytes are written to one file and flushed (`raw`), and Keras' `save_weights` writes weights and optimizer
to HDF5, unflushed and without a checksum (`keras`). Figures are medians over the saves.

    python benchmarks/checkpoints.py [--rows 2000] [--every 10]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
from report import table, write_section

import kerasllm
from kerasllm.config.loading import load_config
from kerasllm.training.checkpoints import Checkpoints

CONFIG = "text_classification/sentiment_minilm"


def timed(function, *arguments, **options):
    start = time.perf_counter()
    answer = function(*arguments, **options)
    return time.perf_counter() - start, answer


def write_raw(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class Saves:
    """Times each save, and what it is compared with right after it."""

    def __init__(self, folder):
        self.folder, self.save, self.seconds = folder, Checkpoints.save, {"ours": [], "raw": [], "keras": []}
        self.size = 0

    def __call__(self, checkpoints, model, state, **options):
        seconds, path = timed(self.save, checkpoints, model, state, **options)
        self.seconds["ours"].append(seconds)
        content = b"".join(file.read_bytes() for file in sorted(path.iterdir()))
        self.size = len(content)
        self.seconds["raw"].append(timed(write_raw, self.folder / "raw", content)[0])
        self.seconds["keras"].append(timed(model.save_weights, self.folder / "keras.weights.h5")[0])
        return path


class Clock(keras.callbacks.Callback):
    """Seconds of each step, from its beginning to its end."""

    def __init__(self):
        super().__init__()
        self.steps, self.began = [], 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(time.perf_counter() - self.began)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--every", type=int, default=10, help="steps between two saves")
    parser.add_argument("--directory", default=None, help="where the run goes; a temporary directory else")
    parser.add_argument("--no-report", action="store_true", help="print only")
    arguments = parser.parse_args()
    config = load_config(
        CONFIG,
        [f"data.max_rows={arguments.rows}", f"training.checkpoint_every={arguments.every}",
         "training.epochs=1", "export.path=none", "evaluation.report=false"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        saves, clock = Saves(Path(folder)), Clock()
        Checkpoints.save = lambda *given, **options: saves(*given, **options)
        settings = {**config.model_dump(), "output_dir": str(Path(folder) / "run")}
        kerasllm.finetune(settings["preset"], settings["data"]["train"], config=settings, callbacks=[clock],
                          validation_data=settings["data"]["validation"])  # fmt: skip
    medians = {name: statistics.median(values) for name, values in saves.seconds.items()}
    step = statistics.median(clock.steps)
    epoch = len(clock.steps)
    rows = [
        [
            name,
            f"{medians[name]:.2f} s",
            f"{medians[name] / medians['raw']:.2f}",
            f"{medians[name] / step:.1f}",
        ]
        for name in ("ours", "raw", "keras")
    ]
    header = ["", "a save", "× raw", "training steps in that time"]
    # By default there are two saves an epoch: after its last step, and after its validation.
    share = 2 * medians["ours"] / (2 * medians["ours"] + epoch * step)
    text = (
        f"MiniLM with its optimizer, {saves.size / 2**20:.0f} MiB; {len(saves.seconds['ours'])} saves in "
        f"{epoch} steps of {config.training.batch_size} texts, a median step {step:.2f} s. Ours holds "
        "weights, optimizer, metrics and state, with a SHA-256 of each file, flushed to the disk.\n\n"
        f"{table(header, rows)}\n\nWith the defaults, two saves an epoch, checkpoints take "
        f"{share:.1%} of the time of an epoch of {epoch} steps."
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Checkpoints", text)


if __name__ == "__main__":
    main()
