"""Runs exports in children that are forked after the imports, so that a trial costs no start of TensorFlow.

Reads one JSON request a line, `{"path": ..., "file_size_limit": ...}`; prints `started` with the process id
and, when the child is gone, `ended` with its exit status and the error that it met.
"""

import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import KerasLLMError
from kerasllm.export.parity import load_endpoint  # noqa: F401, imported before the fork
from kerasllm.export.saved_model import export_saved_model
from kerasllm.export.signatures import ClassificationModule
from kerasllm.models.builders import load_classifier
from kerasllm.tokenization.tokenizer import Tokenizer

LENGTH = 32
output = threading.Lock()


def export(checkpoint: Path, path: str) -> None:
    model, tokenizer = load_classifier(checkpoint), Tokenizer.load(checkpoint)

    def reference(texts):
        ids = tokenizer.encode(texts, sequence_length=LENGTH)
        batch = np.zeros((3, len(ids), max(map(len, ids))), np.int32)
        for row, some in enumerate(ids):
            batch[:2, row, : len(some)] = some, [1] * len(some)
        inputs = dict(zip(("token_ids", "padding_mask", "segment_ids"), batch, strict=True))
        return np.asarray(keras.ops.softmax(model(inputs, training=False)))

    module = ClassificationModule(model, tokenizer, labels=model.labels, sequence_length=LENGTH)
    export_saved_model(path, module, reference=reference)


def child(checkpoint: Path, request: dict, report: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if request.get("file_size_limit"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size_limit"],) * 2)
    try:
        export(checkpoint, request["path"])
    except KerasLLMError as error:
        os.write(report, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(3)
    except BaseException as error:
        os.write(report, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(4)
    os._exit(0)


def say(**message) -> None:
    with output:
        print(json.dumps(message), flush=True)


def reap(pid: int, report: int) -> None:
    with os.fdopen(report, "rb") as pipe:
        error = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    say(event="ended", pid=pid, status=os.waitstatus_to_exitcode(status), error=error)


def main() -> None:
    checkpoint = Path(sys.argv[1])
    for line in sys.stdin:
        read_end, write_end = os.pipe()
        with output:
            pid = os.fork()
        if pid == 0:
            os.close(read_end)
            child(checkpoint, json.loads(line), write_end)
        os.close(write_end)
        say(event="started", pid=pid)
        threading.Thread(target=reap, args=(pid, read_end)).start()


if __name__ == "__main__":
    main()
