"""A small model, trained, evaluated and exported by the command line itself, once for all tests."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kerasllm.cli.main import command
from kerasllm.testing import tiny_bert, tiny_reviews


def _run(*arguments, **kwargs) -> Result:
    return CliRunner().invoke(command, [str(item) for item in arguments], prog_name="kerasllm", **kwargs)


@pytest.fixture
def run():
    """Runs the command line in this process: `run("configs", "list")`."""
    return _run


@dataclass(frozen=True)
class Trained:
    """What `kerasllm finetune` left behind."""

    result: Result
    folder: Path
    config: Path
    run: Path
    export: Path
    data: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    data = folder / "reviews.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in tiny_reviews(200)))
    preset = tiny_bert(folder / "tiny")
    config = folder / "reviews.yaml"
    config.write_text(
        f"task: text_classification\npreset: {preset}\noutput_dir: {folder / 'run'}\n"
        f"data: {{train: {data}, validation: 0.2, test: 0.2}}\n"
        "training: {epochs: 4, batch_size: 16, learning_rate: 0.003}\n"
        f"export: {{path: {folder / 'models' / 'reviews'}}}\n"
    )
    result = _run("finetune", config, "-s", "evaluation.num_bootstrap=100")
    assert result.exit_code == 0, result.stderr
    return Trained(result, folder, config, folder / "run", folder / "models" / "reviews" / "1", data)
