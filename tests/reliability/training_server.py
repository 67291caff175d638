"""Trains in children that are forked after the imports, so that a trial costs no start of TensorFlow.

Reads one JSON request a line, `{"folder": ..., "signals": [[seconds, number], ...]}`: the seconds count from
the beginning of training. Prints one JSON answer a line: exit status (minus the signal), seconds from the
beginning to the end, and what went wrong. It alone waits for a child, and only after the last signal was
sent, so that a signal never reaches another process that got the same number.
"""

import json
import os
import select
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import tensorflow as tf

import tests.training.test_loop as loop


def train(request: dict, begun: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # Tracing takes as long as all steps of a run this small, and a kill in it proves nothing.
    tf.config.run_functions_eagerly(True)
    folder = Path(request["folder"])
    model = loop.make_model()
    os.write(begun, b"begun\n")
    loop.train(model, folder, evaluate_every=4)
    np.savez(folder / "last.tmp.npz", *loop.weights(model))
    (folder / "last.tmp.npz").rename(folder / "last.npz")


def child(request: dict, report: int) -> None:
    try:
        train(request, report)
    except BaseException as error:
        os.write(report, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)
    os._exit(0)


def attend(pid: int, report: int, signals: list) -> dict:
    """Sends the signals and waits for the end."""
    with os.fdopen(report, "rb") as said:
        said.readline()
        began = time.monotonic()
        gone = os.pidfd_open(pid)
        for seconds, number in signals:
            left = began + seconds - time.monotonic()
            if select.select([gone], [], [], max(0.0, left))[0]:
                break
            os.kill(pid, number)
        os.close(gone)
        _, status = os.waitpid(pid, 0)
        error = said.read().decode(errors="replace")
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "error": error,
    }


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            child(request, write_end)
        os.close(write_end)
        print(json.dumps(attend(pid, read_end, request.get("signals", []))), flush=True)


if __name__ == "__main__":
    main()
