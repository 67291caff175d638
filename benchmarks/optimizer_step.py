"""One optimizer step on the variables of MiniLM: Keras' AdamW against ours, without a forward pass.

Gradients are random: of the token embeddings sparse, of 32 texts of 128 tokens that repeat as words do; of
everything else dense. `exact` is Keras' AdamW on the summed, dense gradient, which is what its sparse path
gets wrong. Rounds alternate between the contestants; figures are medians over the rounds.

    python benchmarks/optimizer_step.py [--rounds 15]
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from report import table, write_section

from kerasllm.training.optimizers import AdamW
from kerasllm.training.optimizers.groups import NO_DECAY

LAYERS, DIM, WIDE, VOCABULARY, POSITIONS = 6, 384, 1536, 30522, 512
TEXTS, LENGTH, STEPS = 32, 128, 5


def shapes():
    """Paths and shapes of the variables of all-MiniLM-L6, 22.7 million numbers."""
    found = {"token_embedding/embeddings": (VOCABULARY, DIM)}
    found |= {"positions/embeddings": (POSITIONS, DIM), "segments/embeddings": (2, DIM)}
    found |= {"norm/gamma": (DIM,), "norm/beta": (DIM,)}
    for number in range(LAYERS):
        for norm in ("attention_norm", "feed_forward_norm"):
            found |= {f"layer_{number}/{norm}/{part}": (DIM,) for part in ("gamma", "beta")}
        dense = dict.fromkeys(("query", "key", "value", "output"), (DIM, DIM))
        dense |= {"up": (DIM, WIDE), "down": (WIDE, DIM)}
        for name, (rows, columns) in dense.items():
            found |= {f"layer_{number}/{name}/kernel": (rows, columns)}
            found |= {f"layer_{number}/{name}/bias": (columns,)}
    return found | {"pooler/kernel": (DIM, DIM), "pooler/bias": (DIM,)}


def gradients_of(found):
    random = np.random.default_rng(0)
    gradients = [tf.constant(random.normal(size=shape) * 1e-3, tf.float32) for shape in found.values()]
    tokens = np.minimum(random.zipf(1.3, size=TEXTS * LENGTH), VOCABULARY) - 1
    rows = tf.constant(random.normal(size=(TEXTS * LENGTH, DIM)) * 1e-3, tf.float32)
    sparse = tf.IndexedSlices(rows, tf.constant(tokens), tf.constant([VOCABULARY, DIM], tf.int64))
    return [sparse, *gradients[1:]], len(np.unique(tokens))


def contestant(found, gradients, *, ours, exact=False, clip):
    variables = [
        keras.Variable(np.full(s, 0.02, np.float32), name=p.replace("/", "_")) for p, s in found.items()
    ]
    options = {"weight_decay": 0.01, "global_clipnorm": 1.0 if clip else None}
    if ours:
        pattern = NO_DECAY + "|_(?:gamma|beta)$"  # paths of bare variables have no slashes
        optimizer = AdamW(5e-5, groups=[{"pattern": pattern, "weight_decay": 0.0}], **options)
    else:
        optimizer = keras.optimizers.AdamW(5e-5, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(variables)

    @tf.function
    def step(gradients):
        given = [tf.convert_to_tensor(gradient) for gradient in gradients] if exact else gradients
        optimizer.apply(given, variables)

    def run():
        start = time.perf_counter()
        for _ in range(STEPS):
            step(gradients)
        return 1000 * (time.perf_counter() - start) / STEPS

    run()
    return run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-report", action="store_true", help="print only")
    arguments = parser.parse_args()
    found = shapes()
    gradients, num_rows = gradients_of(found)
    size = sum(int(np.prod(shape)) for shape in found.values())
    rows = []
    for clip in (False, True):
        runs = {
            "keras": contestant(found, gradients, ours=False, clip=clip),
            "exact": contestant(found, gradients, ours=False, exact=True, clip=clip),
            "ours": contestant(found, gradients, ours=True, clip=clip),
        }
        times = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                times[name].append(run())
        medians = {name: statistics.median(values) for name, values in times.items()}
        cells = [f"{medians[name]:.0f} ms" for name in ("keras", "exact", "ours")]
        cells += [f"{medians[name] / medians['ours']:.2f} ×" for name in ("keras", "exact")]
        rows.append(["global norm clipped" if clip else "no clipping", *cells])
    header = ["", "Keras' AdamW", "Keras', exact", "ours", "Keras' / ours", "exact / ours"]
    text = (
        f"One step on {size / 1e6:.1f} million float32 weights ({len(found)} variables); the gradient of the "
        f"token embeddings is sparse, {TEXTS * LENGTH} rows of {num_rows} tokens. Medians of "
        f"{arguments.rounds} interleaved rounds of {STEPS} steps.\n\n{table(header, rows)}"
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Optimizer step", text)


if __name__ == "__main__":
    main()
