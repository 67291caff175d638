"""What augmentation gains on few data: MiniLM on 200 rows of Rotten Tomatoes, with and without it.

The same 200 rows, validation rows, epochs, batch size and learning rate in each pair of runs, which differ in
augmentation alone; five seeds, each with a process of its own and its own new weights, order and dropout. The
gain is the mean of the differences of the pairs, with the t interval of these differences.

    python benchmarks/augmentation.py [--seeds 0 1 2 3 4] [--epochs 10] [--test-rows 1280] [--contestants
    NAME…]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from report import table, write_section

NUM_TRAIN, NUM_VALIDATION = 200, 100
WORDS = {"protected": ["not", "no", "never", "n", "t"]}
AUGMENTATIONS = {
    "none": [],
    "deletion 0.1": [{"name": "random_deletion", "rate": 0.1, **WORDS}],
    "swap 0.1": [{"name": "random_swap", "rate": 0.1, **WORDS}],
    "neighbours 0.1": [{"name": "random_replacement", "rate": 0.1, "source": "neighbours", **WORDS}],
    "masking 0.1": [{"name": "random_masking", "rate": 0.1, **WORDS}],
    "deletion, swap, neighbours 0.05 each": [
        {"name": "random_deletion", "rate": 0.05, **WORDS},
        {"name": "random_swap", "rate": 0.05, **WORDS},
        {"name": "random_replacement", "rate": 0.05, "source": "neighbours", **WORDS},
    ],
    "cutoff 0.1": [{"name": "cutoff", "rate": 0.1}],
    "mixup 0.2": [{"name": "mixup", "alpha": 0.2}],
}
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def train_once(name, seed, epochs, test_rows):
    """Fine-tunes on 200 rows and returns the test accuracy."""
    import kerasllm
    from kerasllm.config.loading import load_config
    from kerasllm.data.prepare import prepare

    config = load_config(
        "text_classification/sentiment_minilm",
        [
            f"training.epochs={epochs}",
            "training.batch_size=16",
            "export.path=none",
            "evaluation.report=false",
        ],
    )
    # The rows are those of one split, whatever the seed of the run.
    prepared = prepare(config.data, task=config.task, seed=0)
    order = prepared.train.take(range(NUM_TRAIN + NUM_VALIDATION))
    train = order.take(range(NUM_TRAIN))
    validation = order.take(range(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION))
    test = prepared.test.take(range(min(test_rows, prepared.test.num_rows)))
    with tempfile.TemporaryDirectory() as folder:
        classifier = kerasllm.finetune(
            config.preset,
            train,
            validation_data=validation,
            test_data=test,
            augmentation=AUGMENTATIONS[name],
            output_dir=Path(folder) / "run",
            seed=seed,
            config=settings(config),
        )
    return classifier.evaluation.accuracy, test.num_rows


def settings(config):
    """The config without its files, columns and renamed labels, which the prepared rows have no use for."""
    plain = config.model_dump()
    for key in ("train", "columns", "labels", "other_labels"):
        plain["data"].pop(key)
    plain.pop("output_dir")
    return plain


def interval(values):
    """Mean of the values and half the width of its 95 % t interval; infinite for one value."""
    if len(values) < 2:
        return values[0], math.inf
    half = T_QUANTILES[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


def measure(arguments):
    found = {name: [] for name in arguments.contestants}
    num_test = 0
    for seed in arguments.seeds:
        for name, values in found.items():
            command = [sys.executable, __file__, "--epochs", str(arguments.epochs)]
            command += ["--test-rows", str(arguments.test_rows), "--train", name, str(seed)]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            accuracy, num_test = json.loads(result.stdout.splitlines()[-1])
            values.append(accuracy)
            print(f"{name}, seed {seed}: {accuracy:.4f}", flush=True)
    return found, num_test


def report(found):
    base = found["none"]
    rows = []
    for name, values in found.items():
        mean, half = interval(values)
        gain = [value - other for value, other in zip(values, base, strict=True)]
        difference, error = interval(gain)
        rows.append(
            [
                name,
                f"{mean:.4f} ± {half:.4f}",
                ""
                if name == "none"
                else f"{difference:+.4f} [{difference - error:+.4f}, {difference + error:+.4f}]",
                ", ".join(f"{value:.4f}" for value in values),
            ]
        )
    return table(["augmentation", "test accuracy, 95 % t interval", "gain over none, paired", "seeds"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=1280)
    parser.add_argument("--contestants", nargs="+", choices=list(AUGMENTATIONS), default=list(AUGMENTATIONS))
    parser.add_argument("--dry-run", action="store_true", help="Print the table, but leave RESULTS.md alone.")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        name, seed = arguments.train
        print(json.dumps(train_once(name, int(seed), arguments.epochs, arguments.test_rows)))
        return
    if "none" not in arguments.contestants:
        arguments.contestants.insert(0, "none")
    found, num_test = measure(arguments)
    text = (
        f"{NUM_TRAIN} training and {NUM_VALIDATION} validation rows (which choose the epoch), {num_test:,} "
        "test "
        f"rows, at most {arguments.epochs} epochs of batches of 16, seeds {arguments.seeds}. Negations are "
        f"protected.\n\n{report(found)}"
    )
    if arguments.dry_run:
        print(text)
    else:
        write_section("Augmentation: MiniLM on 200 rows of Rotten Tomatoes", text)


if __name__ == "__main__":
    main()
