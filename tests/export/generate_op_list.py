"""Prints every op that a TensorFlow release and its TF Text know, for `kerasllm/export/ops/`.

Run it in an environment that holds the release that the server was built from:

    python3 -m venv old && old/bin/pip install tensorflow==2.20.0 tensorflow-text==2.20.1
    old/bin/python tests/export/generate_op_list.py > kerasllm/export/ops/tf_serving_2.20.txt

One op a line: its name, `!` after it where TensorFlow says that it has side effects or keeps state, and the
names of its attributes.
"""

import sys

import tensorflow as tf
import tensorflow_text
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session


def main() -> None:
    registered = op_def_pb2.OpList.FromString(
        pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    )
    print(
        f"# Made by tests/export/generate_op_list.py with tensorflow {tf.__version__} "
        f"and tensorflow-text {tensorflow_text.__version__}, Python {sys.version.split()[0]}."
    )
    for op in sorted(registered.op, key=lambda op: op.name):
        print(op.name + "!" * op.is_stateful, *sorted(attr.name for attr in op.attr))


if __name__ == "__main__":
    main()
