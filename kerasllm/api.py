"""The two verbs: `finetune` makes a task model from a preset and data, `load` brings one back."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kerasllm.errors import ConfigError, KerasLLMError, PresetError, RunDirectoryError

if TYPE_CHECKING:
    import keras

    from kerasllm.config.schema import RunConfig
    from kerasllm.models.presets import Preset
    from kerasllm.tasks.text_classification import TextClassifier
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
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    output_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    config: "RunConfig | Mapping[str, Any] | str | os.PathLike[str] | None" = None,
) -> "TextClassifier":
    """Fine-tunes a pretrained model on your data, keeps the best epoch, and evaluates it.

    Args:
        preset: Checkpoint: local directory, `hf://org/name`, `kaggle://…`, `pypi://…`, the name of a
            KerasHub preset, or a loaded `Preset`.
        train_data: Path or paths (CSV, TSV, JSON Lines, Parquet, also compressed), DataFrame or Arrow
            table, list of dicts, `(x, y)`, or a `tf.data.Dataset` of texts and labels.
        task: `"text_classification"`, the only task so far and the default.
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
    return cast("TextClassifier", _run(loaded, preset=preset, sources=sources, callbacks=callbacks))


def finetune_from_config(
    config: "RunConfig",
    *,
    resume: bool = False,
    dry_run: bool = False,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> "TextClassifier | Plan":
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
    return _run(config, preset=config.preset, sources={}, callbacks=callbacks, resume=resume, dry_run=dry_run)


def load(path: str | os.PathLike[str]) -> "TextClassifier":
    """Loads a task model.

    Args:
        path: A run directory, its `model/` directory, or the handle of a checkpoint that has a trained
            classification head.

    Returns:
        The task model; it gives bit for bit the answers of the one that was saved.

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
    return TextClassifier.from_preset(Preset.load(str(path)))


def _is_export(path: Path) -> bool:
    return any(next(path.glob(name), None) for name in ("saved_model.pb", "[0-9]*/saved_model.pb"))


def _run(
    config: "RunConfig",
    *,
    preset: Any,
    sources: dict[str, Any],
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    resume: bool = False,
    dry_run: bool = False,
) -> "TextClassifier | Plan":
    """Everything a run does, in order; each step is one function of the layers below."""
    from kerasllm.data.prepare import prepare

    split_seed = config.seed if config.data.split_seed is None else config.data.split_seed
    if dry_run:
        prepared = prepare(config.data, task=config.task, seed=split_seed, **sources)
        return _plan(config, prepared, preset)
    if config.seeds is not None:
        return _run_seeds(
            config, split_seed, preset=preset, sources=sources, callbacks=callbacks, resume=resume
        )

    from kerasllm.training.run_directory import recorded

    with recorded(_open_run_directory(config, resume=resume)) as run:
        prepared = prepare(config.data, task=config.task, seed=split_seed, **sources)
        return _train(config, prepared, preset, run=run, callbacks=callbacks, resume=resume)


def _run_seeds(
    config: "RunConfig", split_seed: int, *, preset: Any, resume: bool, **options: Any
) -> "TextClassifier":
    """Runs a config once for each of its seeds, and keeps the best; runs that have finished are kept."""
    from kerasllm.config.defaults import default_output_dir
    from kerasllm.evaluation.seeds import SeedFigures
    from kerasllm.resources.atomic import atomic_write
    from kerasllm.training.callbacks import is_better_low
    from kerasllm.training.resuming import is_finished

    preset = _loaded(preset)
    folder = Path(os.path.abspath(config.output_dir or default_output_dir(config)))
    metrics, values = {}, {}
    for seed in config.seeds or ():
        path = folder / f"seed-{seed}"
        single = _with_seed(config, seed, split_seed, path)
        if not is_finished(path, single):
            _log.info("Seed %d of %s.", seed, config.seeds)
            _run(single, preset=preset, resume=resume and path.is_dir(), **options)
        metrics[seed] = json.loads((path / "metrics.json").read_text())
        values[seed] = metrics[seed].get("best_value")
    known = {seed: value for seed, value in values.items() if value is not None}
    choose = min if is_better_low(config.training.monitor or "") else max
    best = choose(known, key=lambda seed: known[seed]) if known else next(iter(values))
    classifier = load(folder / f"seed-{best}")
    classifier.run_directory = folder / f"seed-{best}"
    classifier.seeds = SeedFigures.of(metrics, best_seed=best)
    atomic_write(folder / "seeds.json", json.dumps(classifier.seeds.to_dict(), indent=1) + "\n")
    export = config.export
    if export.path is not None:
        classifier.exported = classifier.export(export.path, version=export.version, dtype=export.dtype)
    return classifier


def _with_seed(config: "RunConfig", seed: int, split_seed: int, path: Path) -> "RunConfig":
    values = config.model_dump()
    values.update(seed=seed, seeds=None, output_dir=str(path))
    values["data"]["split_seed"] = split_seed
    values["export"]["path"] = None
    return type(config).model_validate(values)


def _plan(config: "RunConfig", prepared: Any, preset: Any) -> "Plan":
    from kerasllm.tasks import classification_run as steps

    loaded = _loaded(preset)
    encoded = steps.encode_run(config, prepared, loaded)
    return steps.plan_run(
        encoded, steps.build_model(encoded, prepared.label_map.names, loaded), prepared, loaded
    )


def _train(
    config: "RunConfig", prepared: Any, preset: Any, *, run: Any, callbacks: Sequence[Any], resume: bool
) -> "TextClassifier":
    import keras

    from kerasllm.resources.atomic import atomic_remove
    from kerasllm.tasks import classification_run as steps
    from kerasllm.tasks.adaptation import keep_adapter
    from kerasllm.training.classification import classification_problem
    from kerasllm.training.trainer import train

    keras.utils.set_random_seed(config.seed)
    loaded = _loaded(preset)
    encoded = steps.encode_run(config, prepared, loaded)
    model = steps.build_model(encoded, prepared.label_map.names, loaded)
    problem = classification_problem(encoded.data, encoded.config.training, seed=config.seed)
    config = steps.with_learning_rate(encoded.config, model, problem, run)
    config = steps.record_inputs(run, config, prepared, loaded, resume=resume)
    result = train(model, problem, config.training, run=run, callbacks=callbacks)
    classifier = steps.finished_classifier(result.model, encoded, prepared, loaded)
    classifier.history, classifier.run_directory = result.state.history, run.path
    if run.model.exists():
        atomic_remove(run.model)  # of an earlier, interrupted try in the same directory
    classifier.save(run.model)
    keep_adapter(result.model, run.adapter, base_model=str(loaded.handle))
    if result.stopped is not None:
        raise type(result.stopped)(result.how_to_go_on(run.path), status=result.stopped.status)
    steps.evaluate_run(classifier, prepared, config, run, state=result.state)
    facts = steps.training_facts(result, problem, config)
    steps.report_run(classifier, prepared, config, run, training=facts)
    if config.export.path is not None:
        classifier.exported = classifier.export(
            config.export.path,
            version=config.export.version,
            dtype=config.export.dtype,
            probes=steps.probe_rows(prepared, pair=classifier.pair),
        )
    return classifier


def _open_run_directory(config: "RunConfig", *, resume: bool) -> Any:
    from kerasllm.config.defaults import default_output_dir
    from kerasllm.config.dumping import dump_config
    from kerasllm.training.resuming import check_resumed, open_unfinished
    from kerasllm.training.run_directory import RunDirectory

    output_dir = config.output_dir or default_output_dir(config)
    if resume:
        run = RunDirectory.reopen(output_dir)
        try:
            check_resumed(run.path, config)
        except KerasLLMError:
            run.close()
            raise
        return run
    return open_unfinished(output_dir, config) or RunDirectory.create(output_dir, dump_config(config))


def _loaded(preset: Any) -> "Preset":
    from kerasllm.models.presets import Preset

    return preset if isinstance(preset, Preset) else Preset.load(str(preset))


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
