"""The two verbs: `finetune` makes a task model from a preset and data, `load` brings one back."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import ConfigError, PresetError, RunDirectoryError

if TYPE_CHECKING:
    import keras

    from kerasllm.config.schema import RunConfig
    from kerasllm.models.presets import Preset
    from kerasllm.tasks.text_classification import TextClassifier
    from kerasllm.tasks.text_generation import TextGenerator
    from kerasllm.training.plan import Plan

__all__ = ["finetune", "finetune_from_config", "load"]

_log = logging.getLogger("kerasllm")
_MISSING: Any = object()


def finetune(
    preset: "str | os.PathLike[str] | Preset",
    train_data: Any,
    *,
    task: str | None = None,
    validation_data: Any = _MISSING,
    test_data: Any = _MISSING,
    columns: Mapping[str, str] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    lora_rank: int | None = None,
    dtype_policy: str | None = None,
    augmentation: Sequence[Any] | None = None,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    output_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    config: "RunConfig | Mapping[str, Any] | str | os.PathLike[str] | None" = None,
) -> "TextClassifier | Preset":
    """Fine-tunes a pretrained model on your data, keeps the best epoch, and evaluates it.

    Args:
        preset: Checkpoint: local directory, `hf://org/name`, `kaggle://…`, `pypi://…`, the name of a
            KerasHub preset, or a loaded `Preset`.
        train_data: Path or paths (CSV, TSV, JSON Lines, Parquet, also compressed), DataFrame or Arrow
            table, list of dicts, `(x, y)`, or a `tf.data.Dataset` of texts and labels.
        task: `"text_classification"`, the default, or `"masked_language_modeling"`, which fits an encoder to
            the texts of a domain and gives the `Preset` to fine-tune from.
        validation_data: A fraction of the training rows, or the same kinds as `train_data`; `None` for
            none. Defaults to 0.1.
        test_data: The same, for the final figures. Defaults to `None`.
        columns: Which columns are `text`, `text_pair` and `label`; found by name when left out.
        epochs: Passes over the training rows. Defaults to 3.
        batch_size: Rows a step. Defaults to 32.
        learning_rate: Peak of the schedule. Defaults to 5e-5, which suits the training of all weights;
            adapters take 1e-4 to 1e-3.
        lora_rank: Rank of the LoRA adapters that are trained instead of all weights, e.g. 8; more on them in
            the config's section `model.lora`. Defaults to `None`, all weights.
        dtype_policy: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"` or `"auto"`, the default.
        augmentation: What is done to the training texts, each epoch otherwise: a list of dicts such as
            `{"name": "random_deletion", "rate": 0.1}`, or of layers of `kerasllm.data.augmentation`. Defaults
            to nothing.
        callbacks: Plain Keras callbacks; they run last and see plain Keras logs.
        output_dir: Run directory. Where it holds a run of the same settings and data that has not
            finished, that one goes on; where it holds another, a time is appended. Defaults to
            `runs/<name of the first training file>`.
        seed: Of splits, order, new weights and dropout. Defaults to 0.
        config: Everything else: a dict like a run config, a path, or the name of a shipped config.
            Explicit arguments win over it.

    Returns:
        The task model, with `.history`, `.evaluation` and `.run_directory`.

    Raises:
        ConfigError: If a setting is unknown or impossible; lists all of them.
        DataError: If the data cannot be read or learned from; names file and lines.
        PresetError: If the checkpoint cannot be loaded exactly.
        TrainingError: If the loss is no number any more, or memory runs out.

    Example:
    >>> classifier = kerasllm.finetune("hf://google-bert/bert-base-uncased", "reviews.csv", epochs=3)
    >>> classifier.predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """
    from kerasllm.config.loading import load_config

    settings: dict[str, Any] = {
        "task": task,
        "output_dir": None if output_dir is None else os.fspath(output_dir),
        "seed": seed,
        "augmentation": None if augmentation is None else [e for e in augmentation if _is_entry(e)],
        "data": {"columns": dict(columns) if columns else None},
        "training": {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "dtype_policy": dtype_policy,
        },
    }
    sources: dict[str, Any] = {"train": train_data}
    for split, value in (("validation", validation_data), ("test", test_data)):
        if value is None or isinstance(value, float):
            settings["data"][split] = value
        elif value is not _MISSING:
            sources[split] = value
    overrides = [] if lora_rank is None else [f"model.lora.rank={lora_rank}"]
    loaded = load_config(_merged(config, preset, settings), overrides)
    entries = iter(loaded.augmentation)
    layers = [next(entries) if _is_entry(e) else e for e in augmentation or ()] or loaded.augmentation
    from kerasllm.tasks.runs import Request, run

    return run(Request(loaded, preset, sources, layers, callbacks))


def finetune_from_config(
    config: "RunConfig",
    *,
    resume: bool = False,
    dry_run: bool = False,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> "TextClassifier | Preset | Plan":
    """Runs a config, as `kerasllm finetune` does.

    Args:
        config: A loaded config (`kerasllm.config.loading.load_config`).
        resume: Whether to refuse anything but going on in `config.output_dir`. Without it an unfinished run
            of the same settings and data goes on too, but beside any other a new one is made.
        dry_run: Whether to load, tokenize, build, run one step and return the plan; writes nothing.
        callbacks: Plain Keras callbacks.
    """
    if config.data.train is None:
        raise ConfigError(
            "`data.train` is missing: name the file to train on, e.g. `-s data.train=reviews.csv`."
        )
    from kerasllm.tasks.runs import Request, plan, run

    request = Request(
        config,
        config.preset,
        augmentation=config.augmentation,
        callbacks=callbacks,
        resume=resume,
    )
    return plan(request) if dry_run else run(request)


def load(path: str | os.PathLike[str]) -> "TextClassifier | TextGenerator":
    """Loads a task model.

    Args:
        path: A run directory, its `model/` directory, or the handle of a checkpoint that has a trained head.

    Returns:
        The task model; it gives bit for bit the answers of the one that was saved. A checkpoint that
        continues texts is a `TextGenerator`, or a `Chat` where it has a chat template.

    Raises:
        RunDirectoryError: If a file is missing or damaged, or a newer kerasllm wrote it.
        PresetError: If it is a checkpoint without a trained head.

    Example:
    >>> kerasllm.load("runs/sentiment").predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """
    from kerasllm.tasks.model_directory import find_model_directory
    from kerasllm.training.run_directory import read_run_manifest

    local = Path(path)
    if (local / "manifest.json").is_file():
        read_run_manifest(local)
    directory = find_model_directory(local)
    if directory is None and _is_export(local):
        raise RunDirectoryError(
            f"`{local}` is an exported model, which is there to be served: `kerasllm serve {local}`, or "
            f"`kerasllm.ExportedModel({str(local)!r})` in Python. Give the run directory that it came from."
        )
    if directory is None and (local / "checkpoints").is_dir():
        raise RunDirectoryError(
            f"`{local}` is a run that has not finished: it has no model yet. Go on with "
            f"`kerasllm finetune {local / 'config.yaml'} --resume`."
        )

    from kerasllm.models.presets import Preset
    from kerasllm.tasks.text_classification import TextClassifier

    if directory is not None:
        return TextClassifier.load(directory)
    preset = Preset.load(str(path))
    if preset.head == "causal_language":
        from kerasllm.tasks.chat import Chat
        from kerasllm.tasks.text_generation import TextGenerator

        return (TextGenerator if preset.tokenizer.chat_template is None else Chat).from_preset(preset)
    return TextClassifier.from_preset(preset)


def _is_export(path: Path) -> bool:
    return any(next(path.glob(name), None) for name in ("saved_model.pb", "[0-9]*/saved_model.pb"))


def _is_entry(value: Any) -> bool:
    """Whether it is (or was meant as) an entry of the config, and no layer."""
    return isinstance(value, Mapping | str)


def _merged(config: Any, preset: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The config with the explicit arguments put over it."""
    from kerasllm.config.loading import read_config
    from kerasllm.config.schema import RunConfig

    base: dict[str, Any]
    if config is None:
        base = {}
    elif isinstance(config, RunConfig):
        base = config.model_dump()
    elif isinstance(config, Mapping):
        base = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    else:
        base = read_config(config)
    if hasattr(preset, "handle"):
        preset = preset.handle
    if not isinstance(preset, (str, os.PathLike)):
        raise PresetError(
            f"`preset` is of type {type(preset).__name__}, but must be a directory, a handle such as "
            "`hf://org/name`, or a `kerasllm.Preset`."
        )
    base["preset"] = os.fspath(preset)
    base.setdefault("task", "text_classification")
    for key, value in settings.items():
        if isinstance(value, dict):
            section = base.setdefault(key, {})
            section.update({k: v for k, v in value.items() if v is not None or k in ("validation", "test")})
        elif value is not None:
            base[key] = value
    return base
