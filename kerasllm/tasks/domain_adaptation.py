"""A run that fits an encoder to the texts of a domain: a preset in, a preset out, no labels."""

import logging
from typing import TYPE_CHECKING

import keras

from kerasllm.config.defaults import resolve
from kerasllm.config.schema import RunConfig
from kerasllm.data.prepare import PreparedTexts, prepare_texts
from kerasllm.data.records import Records
from kerasllm.data.token_ids import LanguageModelTexts
from kerasllm.models.precision import resolve_dtype_policy
from kerasllm.models.presets import Preset
from kerasllm.resources.atomic import atomic_remove
from kerasllm.tasks.classification_run import record_inputs, training_facts, with_learning_rate
from kerasllm.tasks.masked_language_run import (
    build_masked_language_model,
    masked_language_problem,
    masked_language_tokens,
    masking_of,
    save_adapted,
)
from kerasllm.training.plan import Plan, make_plan
from kerasllm.training.run_directory import RunDirectory
from kerasllm.training.trainer import TrainingResult
from kerasllm.training.trainer import train as train_model

if TYPE_CHECKING:
    from kerasllm.tasks.runs import Request
    from kerasllm.training.problem import Problem

__all__ = ["adapt_to_domain", "plan_adaptation"]

_log = logging.getLogger("kerasllm")


def adapt_to_domain(request: "Request", directory: RunDirectory) -> Preset:
    """Trains an encoder to guess hidden tokens of the texts, and writes it as a checkpoint.

    Args:
        request: What is asked for; its data needs a column of texts alone.
        directory: The run directory, which gets the checkpoint in `model/`.

    Returns:
        The checkpoint, as a preset to fine-tune.

    Raises:
        PresetError: If the checkpoint has no head that guesses hidden tokens, or its tokenizer no mask.
    """
    config = request.config
    keras.utils.set_random_seed(config.seed)
    preset = request.preset if isinstance(request.preset, Preset) else Preset.load(str(request.preset))
    prepared = prepare_texts(config.data, seed=config.seed, **request.sources)
    config, problem = _problem(config, prepared, preset)
    model = build_masked_language_model(preset, dtype_policy=config.training.dtype_policy)
    config = with_learning_rate(config, model, problem, directory)
    config = record_inputs(directory, config, prepared, preset, resume=request.resume)
    result = train_model(model, problem, config.training, run=directory, callbacks=request.callbacks)
    if directory.model.exists():
        atomic_remove(directory.model)  # of an earlier, interrupted try in the same directory
    save_adapted(result.model, preset.tokenizer, directory.model, preset=preset)
    if result.stopped is not None:
        raise type(result.stopped)(result.how_to_go_on(directory.path), status=result.stopped.status)
    _write_figures(directory, result, problem, config)
    return Preset.load(str(directory.model))


def plan_adaptation(request: "Request") -> Plan:
    """What the run would do; runs one step, and writes nothing."""
    preset = request.preset if isinstance(request.preset, Preset) else Preset.load(str(request.preset))
    prepared = prepare_texts(request.config.data, seed=request.config.seed, **request.sources)
    config, problem = _problem(request.config, prepared, preset)
    return make_plan(
        build_masked_language_model(preset, dtype_policy=config.training.dtype_policy),
        problem,
        config.training,
        sequence_length=config.data.sequence_length or preset.max_sequence_length,
        num_train=prepared.train.num_rows,
        num_validation=prepared.validation.num_rows if prepared.validation is not None else 0,
    )


def _problem(config: RunConfig, prepared: PreparedTexts, preset: Preset) -> tuple[RunConfig, "Problem"]:
    tokenizer = preset.tokenizer

    def tokens(records: Records, sequence_length: int | None) -> LanguageModelTexts:
        return masked_language_tokens(
            tokenizer, records.texts, sequence_length=sequence_length, cache=config.data.cache
        )

    train = tokens(prepared.train, None)
    config = resolve(
        config,
        token_lengths=train.lengths.tolist(),
        max_sequence_length=preset.max_sequence_length,
        pooling=preset.default_pooling,
        dtype_policy=resolve_dtype_policy(config.training.dtype_policy),
    )
    length = config.data.sequence_length or preset.max_sequence_length
    if train.lengths.max() > length:
        train = tokens(prepared.train, length)
    problem = masked_language_problem(
        train,
        None if prepared.validation is None else tokens(prepared.validation, length),
        config.training,
        tokenizer=tokenizer,
        masking=masking_of(tokenizer),
        seed=config.seed,
    )
    return config, problem


def _write_figures(
    directory: RunDirectory, result: TrainingResult, problem: "Problem", config: RunConfig
) -> None:
    state = result.state
    best = state.history[state.best_epoch - 1] if state.history and state.best_epoch else {}
    figures = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    for name, fact in training_facts(result, problem, config).items():
        _log.info("%s: %s.", name, fact)
    directory.write_json(
        "metrics.json",
        {
            "split": "validation",
            "monitor": config.training.monitor,
            "best_value": state.best_value,
            "best_step": state.best_step,
            "best_epoch": state.best_epoch,
            **figures,
        },
    )
