"""What a run does, in order; each step is one function of the layers below."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.config.defaults import default_output_dir
from kerasllm.config.dumping import dump_config
from kerasllm.config.schema import RunConfig
from kerasllm.errors import ConfigError, KerasLLMError

if TYPE_CHECKING:
    from kerasllm.data.prepare import PreparedData
    from kerasllm.models.presets import Preset
    from kerasllm.tasks.text_classification import TextClassifier
    from kerasllm.training.plan import Plan
    from kerasllm.training.run_directory import RunDirectory

__all__ = ["Request", "plan", "run"]

_log = logging.getLogger("kerasllm")


@dataclass(frozen=True)
class Request:
    """What a run is asked to do.

    Attributes:
        config: The config.
        preset: A handle, or a loaded `Preset`.
        sources: Data that was passed from Python, by split.
        augmentation: Entries of the config, or layers.
        callbacks: Plain Keras callbacks.
        resume: Whether to refuse anything but going on with the run in `config.output_dir`.
    """

    config: RunConfig
    preset: Any
    sources: dict[str, Any] = field(default_factory=dict)
    augmentation: Sequence[Any] = ()
    callbacks: Sequence[Any] = ()
    resume: bool = False


def run(request: Request) -> "TextClassifier | Preset":
    """Trains, evaluates and exports, once or for each of several seeds."""
    if request.callbacks:  # who has some has imported Keras already
        _check_callbacks(request.callbacks)
    if request.config.training.tensorboard:
        from kerasllm.training.tensorboard import check_tensorboard

        check_tensorboard()  # before a run directory is made
    if request.config.seeds is not None:
        return _run_seeds(request)

    from kerasllm.training.run_directory import recorded

    with recorded(_open(request)) as directory:
        if request.config.task == "masked_language_modeling":
            from kerasllm.tasks.domain_adaptation import adapt_to_domain

            return adapt_to_domain(request, directory)
        return _train(request, _prepared(request), directory)


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    import keras

    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"`callbacks` has {callback!r}; expected Keras callbacks, such as "
                "`keras.callbacks.EarlyStopping(patience=2)`."
            )


def plan(request: Request) -> "Plan":
    """What the run would do; runs one step, and writes nothing."""
    from kerasllm.tasks import classification_run as steps

    values = request.config.model_dump()
    values["data"]["cache"] = None
    request = replace(request, config=RunConfig.model_validate(values))
    if request.config.task == "masked_language_modeling":
        from kerasllm.tasks.domain_adaptation import plan_adaptation

        return plan_adaptation(request)
    prepared, preset = _prepared(request), _loaded(request.preset)
    encoded = steps.encode_run(request.config, prepared, preset, augmentation=request.augmentation)
    model = steps.build_model(encoded, prepared.label_map.names, preset)
    return steps.plan_run(encoded, model, prepared)


def _train(request: Request, prepared: "PreparedData", directory: "RunDirectory") -> "TextClassifier":
    import keras

    from kerasllm.resources.atomic import atomic_remove
    from kerasllm.tasks import classification_run as steps
    from kerasllm.tasks.adaptation import keep_adapter
    from kerasllm.training.classification import classification_problem
    from kerasllm.training.trainer import train

    keras.utils.set_random_seed(request.config.seed)
    preset = _loaded(request.preset)
    encoded = steps.encode_run(request.config, prepared, preset, augmentation=request.augmentation)
    model = steps.build_model(encoded, prepared.label_map.names, preset)
    problem = classification_problem(encoded.data, encoded.config.training, seed=encoded.config.seed)
    config = steps.with_learning_rate(encoded.config, model, problem, directory)
    config = steps.record_inputs(directory, config, prepared, preset, resume=request.resume)
    result = train(model, problem, config.training, run=directory, callbacks=request.callbacks)
    keep_adapter(result.model, directory.adapter, base_model=str(preset.handle))
    classifier = steps.finished_classifier(result.model, encoded, prepared, preset)
    classifier.history, classifier.run_directory = result.state.history, directory.path
    if directory.model.exists():
        atomic_remove(directory.model)  # of an earlier, interrupted try in the same directory
    classifier.save(directory.model)
    if result.stopped is not None:
        raise type(result.stopped)(result.how_to_go_on(directory.path), status=result.stopped.status)
    steps.evaluate_run(classifier, prepared, config, directory, state=result.state)
    facts = steps.training_facts(result, problem, config)
    steps.report_run(classifier, prepared, config, directory, training=facts)
    _export(classifier, config, probes=steps.probe_rows(prepared, pair=classifier.pair))
    return classifier


def _export(classifier: "TextClassifier", config: RunConfig, *, probes: Sequence[Any] = ()) -> None:
    export = config.export
    if export.path is not None:
        classifier.exported = classifier.export(
            export.path, version=export.version, dtype=export.dtype, probes=probes
        )


def _run_seeds(request: Request) -> "TextClassifier":
    """Runs a config once for each of its seeds, and keeps the best; runs that have finished are kept."""
    from kerasllm.evaluation.seeds import SeedFigures
    from kerasllm.resources.atomic import atomic_write
    from kerasllm.tasks.text_classification import TextClassifier
    from kerasllm.training.callbacks import is_better
    from kerasllm.training.resuming import is_finished

    config, preset = request.config, _loaded(request.preset)
    folder = Path(os.path.abspath(config.output_dir or default_output_dir(config)))
    metrics = {}
    for seed in config.seeds or ():
        path = folder / f"seed-{seed}"
        single = _with_seed(config, seed, path)
        if not is_finished(path, single):
            _log.info("Seed %d of %s.", seed, config.seeds)
            run(replace(request, config=single, preset=preset, resume=request.resume and path.is_dir()))
        metrics[seed] = json.loads((path / "metrics.json").read_text())
    best, reached = next(iter(metrics)), (None, None)
    for seed, found in metrics.items():
        state = found.get("best_value"), found.get("best_loss")
        if state[0] is not None and is_better(found["monitor"], state, reached):
            best, reached = seed, state
    classifier = TextClassifier.load(folder / f"seed-{best}" / "model")
    classifier.run_directory = folder / f"seed-{best}"
    classifier.seeds = SeedFigures.of(metrics, best_seed=best)
    atomic_write(folder / "seeds.json", json.dumps(classifier.seeds.to_dict(), indent=1) + "\n")
    _export(classifier, config)
    return classifier


def _with_seed(config: RunConfig, seed: int, path: Path) -> RunConfig:
    values = config.model_dump()
    values.update(seed=seed, seeds=None, output_dir=str(path))
    values["data"]["split_seed"] = _split_seed(config)
    values["export"]["path"] = None
    return RunConfig.model_validate(values)


def _split_seed(config: RunConfig) -> int:
    return config.seed if config.data.split_seed is None else config.data.split_seed


def _prepared(request: Request) -> "PreparedData":
    from kerasllm.data.prepare import prepare

    config = request.config
    return prepare(config.data, task=config.task, seed=_split_seed(config), **request.sources)


def _open(request: Request) -> "RunDirectory":
    from kerasllm.training.resuming import check_resumed, open_unfinished
    from kerasllm.training.run_directory import RunDirectory

    config = request.config
    output_dir = config.output_dir or default_output_dir(config)
    if not request.resume:
        unfinished = open_unfinished(output_dir, config)
        return unfinished or RunDirectory.create(output_dir, dump_config(config))
    directory = RunDirectory.reopen(output_dir)
    try:
        check_resumed(directory.path, config)
    except KerasLLMError:
        directory.close()
        raise
    return directory


def _loaded(preset: Any) -> "Preset":
    from kerasllm.models.presets import Preset

    return preset if isinstance(preset, Preset) else Preset.load(str(preset))
