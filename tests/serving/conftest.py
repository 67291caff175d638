"""Models and servers that the serving tests share."""

import contextlib
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
RECORDINGS = PROJECT.parent / "shared" / "serving"

MODELS = """
model_config_list {{
  config {{
    name: "mm" base_path: "{root}/mm" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
    version_labels {{ key: "future" value: 5 }}
  }}
  config {{ name: "zoo" base_path: "{root}/zoo" model_platform: "tensorflow" }}
  config {{ name: "strings" base_path: "{root}/strings" model_platform: "tensorflow" }}
  config {{ name: "slow" base_path: "{root}/slow" model_platform: "tensorflow" }}
  config {{ name: "v1ex" base_path: "{root}/v1ex" model_platform: "tensorflow" }}
  config {{ name: "wp" base_path: "{root}/wp" model_platform: "tensorflow" }}
  config {{ name: "broken" base_path: "{root}/broken" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="session")
def recorded_models(tmp_path_factory):
    """The models that the recorded requests were sent to, and a config for them."""
    script = RECORDINGS / "make_models.py"
    if not script.is_file():
        pytest.skip(f"the recordings of the real server are not there: {RECORDINGS}")
    root = tmp_path_factory.mktemp("recorded")
    environment, arguments = dict(os.environ), sys.argv
    try:
        sys.argv = [str(script), str(root)]
        with contextlib.redirect_stdout(None):
            runpy.run_path(str(script))
    finally:
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
    # The recorded `broken` model: a variables file that was cut off.
    shutil.copytree(root / "mm" / "1", root / "broken" / "1")
    shard = root / "broken" / "1" / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    (root / "models.config").write_text(MODELS.format(root=root))
    return root


@pytest.fixture(scope="session")
def recorded_server(recorded_models):
    """An embedded server for them, on free ports."""
    from kerasllm.serving.server.embedded import EmbeddedServer
    from kerasllm.serving.server.model_config import read_model_configs
    from kerasllm.serving.server.options import ServerOptions

    configs = read_model_configs(recorded_models / "models.config")
    with EmbeddedServer(configs, ServerOptions(port=0, rest_api_port=0)) as server:
        yield server


def write_toy_model(directory, *, bias=0.0, warmup=True, manifest=True, labels=("short", "long")):
    """Writes a SavedModel with the signature of an exported classifier: texts over 10 bytes are long.

    `bias` is added to the score of `long`, so that versions can be told apart by their answers.
    """
    import tensorflow as tf

    from kerasllm.export.warmup import write_warmup
    from kerasllm.resources.manifest import write_manifest

    module = tf.Module()
    module.bias = tf.Variable(bias)

    def answer(text):
        long = tf.sigmoid(tf.cast(tf.strings.length(text), tf.float32) - 10.0) * 0.7 + module.bias
        scores = tf.stack([1.0 - long, long], axis=1)
        names = tf.constant(list(labels))
        return {
            "label": tf.gather(names, tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
            "labels": tf.tile(names[None], [tf.size(text), 1]),
            "scores": scores,
        }

    module.serve = tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    if warmup:
        write_warmup(directory, [{"text": ["warm"]}, {"text": ["warm", "and warmer still"]}])
    if manifest:
        write_manifest(directory)
    return directory


@pytest.fixture(scope="session")
def toy_versions(tmp_path_factory):
    """Two versions of a toy model, to be copied: `1` with bias 0, `2` with bias 0.25."""
    root = tmp_path_factory.mktemp("toy_versions")
    write_toy_model(root / "1")
    write_toy_model(root / "2", bias=0.25)
    return root


@pytest.fixture
def toy(toy_versions, tmp_path):
    """A model directory with version 1, which a test may change."""
    base = tmp_path / "toy"
    shutil.copytree(toy_versions / "1", base / "1")
    return base


@pytest.fixture(scope="session")
def toy_server(toy_versions, tmp_path_factory):
    """A server of the toy model that no test changes."""
    base = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(toy_versions / "1", base / "1")
    with start_server(base) as server:
        yield server


def start_server(base, **options):
    """Returns a server on free ports, to be used in a `with` block."""
    from kerasllm.serving.server.embedded import EmbeddedServer
    from kerasllm.serving.server.model_config import config_for_path
    from kerasllm.serving.server.options import ServerOptions

    settings = ServerOptions(**{"port": 0, "rest_api_port": 0, **options})
    return EmbeddedServer([config_for_path(base)], settings)


@pytest.fixture
def serve_directory():
    """Starts servers for a test's own directories."""
    return start_server
