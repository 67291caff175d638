"""Trains in children that are forked after the imports, so that a trial costs no start of TensorFlow.

Reads one JSON request a line, `{"folder": ..., "signals": [[seconds, number], ...]}`: the seconds count from
the beginning of training, or from the place that the request names (`at`). Prints one JSON answer a line:
exit status (minus the signal), seconds from there to the end, and what went wrong. It alone waits for a
child, and only after the last signal was sent, so that none reaches a process that got the same number.
"""

import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import keras
import numpy as np
import tensorflow as tf

import kerasllm
import kerasllm.tasks.classification_run  # what a run imports when it comes to it
import kerasllm.training.trainer
import tests.training.test_loop as loop
from kerasllm.training import checkpoints


def train(request: dict, announce) -> None:
    """The loop alone, without a preset and data."""
    folder = Path(request["folder"])
    model = loop.make_model()
    if request.get("largest_file"):
        # Such a limit fails as a full disk does, but for the number of the error.
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    announce()
    loop.train(model, folder, evaluate_every=4)
    if request.get("largest_file"):
        os._exit(3)
    np.savez(folder / "last.tmp.npz", *loop.weights(model))
    (folder / "last.tmp.npz").rename(folder / "last.npz")


def finetune(request: dict, announce) -> None:
    """All of a run, announced when it comes to a place: its beginning, first batch, a save, a validation."""
    place = request["at"]

    class Announce(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            if place == "beginning":
                announce()

        def on_train_batch_begin(self, batch, logs=None):
            if place == "first batch":
                announce()

        def on_test_batch_begin(self, batch, logs=None):
            if place == "validation":
                announce()
                time.sleep(0.3)

    write = checkpoints.write_variables

    def write_variables(path, *arguments, **options):
        if place.startswith("save") and path.name == "optimizer.safetensors":
            announce()
            time.sleep(60 if place == "save that hangs" else 0.3)
        return write(path, *arguments, **options)

    checkpoints.write_variables = write_variables
    kerasllm.finetune(
        request["preset"],
        request["data"],
        output_dir=request["folder"],
        epochs=3,
        batch_size=8,
        callbacks=[Announce()],
        config={"training": {"checkpoint_every": 4}, "evaluation": {"report": False}},
    )


def child(request: dict, report: int) -> None:
    announced = []

    def announce() -> None:
        if not announced:
            announced.append(True)
            os.write(report, b"begun\n")

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # Tracing takes as long as all steps of a run this small, and a kill in it proves nothing.
    tf.config.run_functions_eagerly(request.get("at") != "first batch")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        {"loop": train, "finetune": finetune}[request.get("run", "loop")](request, announce)
    except KeyboardInterrupt as stopped:
        os.write(report, str(stopped).encode()[:4000])
        os._exit(getattr(stopped, "status", 130))
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
