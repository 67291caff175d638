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
