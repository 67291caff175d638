"""`kerasllm data augment`: what augmentation does to texts, to look at, to write, or to ask a model about."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.options import overrides_option
from kerasllm.cli.terminal import json_text, printable
from kerasllm.config.loading import load_config
from kerasllm.config.packaged import packaged_configs
from kerasllm.config.schema import RunConfig
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.data.records import Records

__all__ = ["augment"]

_log = logging.getLogger("kerasllm")

_EXAMPLES = 5
_OF_VECTORS = ("cutoff", "mixup")
_ASKED = 500  # texts that a model is asked about; more would make the interval little narrower


@click.command(cls=Command)
@click.argument("source", metavar="FILE|CONFIG")
@overrides_option
@click.option("--preset", metavar="HANDLE", help="Checkpoint whose tokenizer cuts the texts into words.")
@click.option("--preview", is_flag=True, help="Show a few texts before and after; write nothing.")
@click.option("--model", metavar="RUN", help="Say how often this trained model changes its mind.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON Lines file to write."
)
def augment(
    source: str,
    overrides: tuple[str, ...],
    preset: str | None,
    preview: bool,
    model: str | None,
    output: Path | None,
) -> None:
    """Augment the texts of a FILE, or of a CONFIG's training data, as training would.

    The written file holds the changed rows only, with their labels, and where each came from; train on both.

    \b
      kerasllm data augment reviews.csv --preset hf://google-bert/bert-base-uncased --preview \\
        -s 'augmentation=[{name: random_deletion, rate: 0.1}]'
      kerasllm data augment reviews.yaml -o augmented.jsonl
      kerasllm data augment reviews.csv --model runs/reviews -s 'augmentation=[{name: random_swap}]'
    """
    if not (preview or model or output):
        raise click.UsageError("Give --preview to look, -o FILE to write, or --model RUN to ask a model.")
    config = _settings(source, overrides, preset, model)
    records = _records(config)
    if preview or output:
        layers, tokenizer = _layers(config, records, model)
    if preview:
        _show(layers, tokenizer, _some(records, _EXAMPLES))
    if model:
        _ask(model, config, _some(records, _ASKED))
    if output and not preview:
        _write(layers, tokenizer, records, output)


def _settings(source: str, overrides: Sequence[str], preset: str | None, model: str | None) -> RunConfig:
    if source in packaged_configs() or Path(source).suffix.lower() in (".yaml", ".yml"):
        config = load_config(source, overrides, require_data=True)
        config = config.model_copy(update={"preset": preset or config.preset})
    else:
        others = [
            f"`-s {item}`"
            for item in overrides
            if "=" in item
            and item.strip().partition("=")[0].partition(".")[0] not in ("data", "augmentation", "seed")
        ]
        if others:
            raise ConfigError(f"{', '.join(others)}: only `data`, `augmentation` and `seed` matter here.")
        if preset is None and model is None:
            raise click.UsageError(
                "Give the checkpoint whose tokenizer cuts the texts, e.g. `--preset HANDLE`."
            )
        data = {"train": source, "validation": None}
        base = {"task": "text_classification", "preset": preset or str(model), "data": data}
        config = load_config(base, overrides)
    if not config.augmentation:
        raise ConfigError(
            "`augmentation` is empty, so the texts would stay as they are. Name what is to be done, e.g. "
            "`-s 'augmentation=[{name: random_deletion, rate: 0.1}]'`."
        )
    return config


def _records(config: RunConfig) -> "Records":
    from kerasllm.data.labels import select_labels
    from kerasllm.data.reading import read_records

    data = config.data
    rows = read_records(
        data.train,
        columns=data.columns,
        require_label=False,
        encoding=data.encoding,
        max_bad_rows=data.max_bad_rows,
        cast_text=data.cast_text,
        fix_unicode=data.fix_unicode,
    )
    if not rows.has_labels:
        return rows
    return select_labels(rows, data.labels, other_labels=data.other_labels)[0]


def _layers(config: RunConfig, records: "Records", model: str | None) -> tuple[list[Any], Any]:
    import numpy as np

    from kerasllm.data.augmentation import build
    from kerasllm.tokenization.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(_tokenizer_of(config, model))

    def counts() -> np.ndarray:
        texts = [*records.texts, *(records.text_pairs or ())]
        flat = np.fromiter((token for ids in tokenizer.encode(texts) for token in ids), np.int64)
        return np.bincount(flat, minlength=tokenizer.vocabulary_size)

    def embeddings() -> np.ndarray:
        from kerasllm.models.presets import Preset

        return np.asarray(Preset.load(config.preset).backbone.token_embedding.embeddings, np.float32)

    layers = build(_of_words(config), tokenizer, embeddings=embeddings, counts=counts, seed=config.seed)
    return layers, tokenizer


def _of_words(config: RunConfig) -> list[Any]:
    """The entries that change words; those that change token vectors have no text to show."""
    for entry in config.augmentation:
        if entry.name in _OF_VECTORS:
            _log.info("`%s` changes token vectors, which are no texts; it is left out here.", entry.name)
    entries = [entry for entry in config.augmentation if entry.name not in _OF_VECTORS]
    if not entries:
        raise ConfigError(
            f"`augmentation` has only {' and '.join(entry.name for entry in config.augmentation)}: there is "
            "no text to show. Add one that changes words, such as `random_deletion`."
        )
    return entries


def _tokenizer_of(config: RunConfig, model: str | None) -> str:
    if model is None or config.preset != model:
        return config.preset
    from kerasllm.tasks.model_directory import find_model_directory

    return str(find_model_directory(Path(model)) or model)


def _some(records: "Records", count: int) -> "Records":
    """Rows from all over the file."""
    count = min(count, records.num_rows)
    return records.take([number * records.num_rows // count for number in range(count)])


def _augmented(layers: list[Any], tokenizer: Any, records: "Records") -> list[tuple[str, ...]]:
    from kerasllm.data.augmentation import augment_texts

    found = augment_texts(layers, tokenizer, records.texts, records.text_pairs)
    return found if records.has_pairs else [(text,) for text in found]


def _show(layers: list[Any], tokenizer: Any, records: "Records") -> None:
    labels = records.labels or [None] * records.num_rows
    before = zip(*filter(None, (records.texts, records.text_pairs)), strict=True)
    rows = zip(before, _augmented(layers, tokenizer, records), labels, strict=True)
    for number, (old, new, label) in enumerate(rows):
        said = "" if label is None else f" ({label})"
        click.echo(printable(f"{records.where(number)}{said}"))
        click.echo(printable(f"  before  {' | '.join(old)}"))
        click.echo(printable(f"  after   {' | '.join(new)}"))


def _ask(model: str, config: RunConfig, records: "Records") -> None:
    from kerasllm.cli.models import load_classifier
    from kerasllm.tasks.label_safety import label_safety

    classifier = load_classifier(model)
    rows = (
        list(zip(records.texts, records.text_pairs or (), strict=True)) if classifier.pair else records.texts
    )
    _log.info("Asking the model about %d texts and about each of them augmented.", len(rows))
    click.echo(printable(str(label_safety(classifier, rows, _of_words(config), seed=config.seed))))


def _write(layers: list[Any], tokenizer: Any, records: "Records", output: Path) -> None:
    from kerasllm.resources.atomic import atomic_write

    labels = records.labels
    names = ("text", "text_pair") if records.has_pairs else ("text",)
    lines, same = [], 0
    old = zip(*filter(None, (records.texts, records.text_pairs)), strict=True)
    for number, (before, after) in enumerate(zip(old, _augmented(layers, tokenizer, records), strict=True)):
        if before == after:
            same += 1
            continue
        row: dict[str, Any] = dict(zip(names, after, strict=True))
        if labels is not None:
            row["label"] = labels[number]
        lines.append(json_text({**row, "from": records.where(number)}))
    atomic_write(output, "".join(f"{line}\n" for line in lines))
    left_out = f"; {same:,} rows that stayed as they were are left out" if same else ""
    click.echo(f"{len(lines):,} augmented rows are in {output}{left_out}.", err=True)
