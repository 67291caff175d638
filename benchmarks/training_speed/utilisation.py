"""Model FLOPs utilisation of a training step of MiniLM, 32 texts of 128 tokens, and where the rest goes.

Model FLOPs are those of the products alone: three times (forward, and two products backward) twice the
numbers of weights times tokens, and the products of attention. The peak is what TensorFlow reaches on one
large product on the same machine in the same minute. Shares of operations come from TensorFlow's profiler,
with one thread, so that nothing overlaps.

    python benchmarks/training_speed/utilisation.py [--threads 2] [--no-report]
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
TEXTS, LENGTH, LAYERS, DIM, WIDE = 32, 128, 6, 384, 1536
STEPS = 5
HOLDERS = ("PartitionedCall", "If", "While", "Case")
KINDS = (
    ("matrix products", ("MatMul", "BatchMatMul")),
    ("optimizer", ("ApplyAdam", "L2Loss", "UnsortedSegmentSum")),
    ("random numbers", ("Random",)),
    ("softmax", ("Softmax",)),
    ("transposing", ("Transpose",)),
    ("casts", ("Cast",)),
    ("sums", ("Sum", "Mean", "BiasAddGrad")),
    ("exponentials", ("Erf", "Exp", "Tanh", "UnaryOps")),
    ("products of elements, and other ops", ("",)),
)


def flops():
    """Floating-point operations of the products of one step."""
    tokens = TEXTS * LENGTH
    weights = LAYERS * (4 * DIM * DIM + 2 * DIM * WIDE)
    return 3 * tokens * (2 * weights + LAYERS * 4 * LENGTH * DIM)


def measure(policy, threads, profiled):
    """Prints what a process of one precision found."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import numpy as np
    import tensorflow as tf
    from ours import Ours

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    ours = Ours("reviews", policy, "cpu")
    random = np.random.default_rng(0)
    ids = random.integers(1000, 30000, (TEXTS, LENGTH)).astype(np.int32)
    fed = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    targets = random.integers(0, 2, TEXTS).astype(np.int32)
    batch = tf.nest.map_structure(tf.constant, (fed, targets, np.ones(TEXTS, np.float32)))
    ours.step([batch])
    if profiled:
        print("answer", json.dumps(shares(lambda: ours.step([batch]))))
        return
    peak = matmul_peak(tf, "float32" if policy == "float32" else "bfloat16")
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        ours.step([batch])
        times.append(time.perf_counter() - began)
    print("answer", json.dumps([statistics.median(times), peak]))


def matmul_peak(tf, dtype):
    """FLOP/s of a product of the shape of the feed-forward network's, the best of several."""
    left, right = (tf.cast(tf.random.normal(s), dtype) for s in ((TEXTS * LENGTH, DIM), (DIM, WIDE)))
    product = tf.function(lambda a, b: tf.matmul(a, b))
    product(left, right)
    times = []
    for _ in range(15):
        began = time.perf_counter()
        for _ in range(3):
            product(left, right)
        times.append((time.perf_counter() - began) / 3)
    return 2 * TEXTS * LENGTH * DIM * WIDE / min(times)


def shares(step):
    """Milliseconds of each kind of operation in a step."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(STEPS):
            step()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    times = collections.Counter()
    for plane in space.planes:
        names = plane.event_metadata
        for event in (event for line in plane.lines for event in line.events):
            place, colon, operation = names[event.metadata_id].name.rpartition(":")
            # Not the executor's own events ("EagerLocalExecute: __inference_…", "A::b"), nor operations
            # that hold others.
            own = place.endswith(":") or operation.startswith(" ")
            if colon and not own and not any(part in operation for part in HOLDERS):
                kind = next(kind for kind, parts in KINDS if any(part in operation for part in parts))
                times[kind] += event.duration_ps / 1e9 / STEPS
    return dict(times)


def ask(policy, threads, profiled):
    """The same from a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--measure", policy]
    command += ["--profile"] if profiled else []
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = next(line for line in result.stdout.splitlines() if line.startswith("answer"))
    return json.loads(line.removeprefix("answer"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.threads, arguments.profile)
        return
    from report import table, write_section

    rows, kinds = [], {}
    for policy in ("float32", "mixed_bfloat16"):
        seconds, peak = ask(policy, arguments.threads, False)
        reached = flops() / seconds
        rows.append([policy, f"{1000 * seconds:.0f} ms", f"{reached / 1e9:.0f}", f"{peak / 1e9:.0f}"])
        rows[-1].append(f"{reached / peak:.0%}")
        kinds[policy] = ask(policy, 1, True)
    totals = {policy: sum(times.values()) for policy, times in kinds.items()}
    header = ["", "step", "model GFLOP/s", "peak of a product, GFLOP/s", "utilisation"]
    text = f"{TEXTS} texts of {LENGTH} tokens, {arguments.threads} threads.\n\n{table(header, rows)}\n\n"
    text += "Share of the time of all operations, one thread:\n\n" + table(
        ["", *kinds],
        [
            [kind, *(f"{kinds[policy].get(kind, 0) / totals[policy]:.1%}" for policy in kinds)]
            for kind, _ in KINDS
        ],
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Training speed: utilisation of the machine", text)


if __name__ == "__main__":
    main()
