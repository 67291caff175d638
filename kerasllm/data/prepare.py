"""From a config to rows that are ready to train on: read, select, split, clean, check."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerasllm.config.schema import DataConfig
from kerasllm.data.audit import find_conflicts
from kerasllm.data.cleaning import TEXT_STEPS, CleaningReport, check_no_empty, clean, drop_empty
from kerasllm.data.findings import conflict_warnings, label_warnings
from kerasllm.data.labels import LabelMap, check_held_out_labels, label_counts, select_labels
from kerasllm.data.leaks import LeakReport, remove_leaks
from kerasllm.data.problems import plural, raise_together
from kerasllm.data.reading import read_records
from kerasllm.data.records import Records
from kerasllm.data.splits import check_splittable, split_records
from kerasllm.errors import DataError, KerasLLMError

logger = logging.getLogger("kerasllm.data")


@dataclass(frozen=True)
class PreparedData:
    """Rows that are ready to train on, and what was done to them.

    Attributes:
        train: Training rows, cleaned.
        validation: Held-out rows for choosing the best epoch, as they were read.
        test: Held-out rows for the final figures, as they were read.
        label_map: The classes.
        cleaning: What the cleaning steps did.
        leaks: Texts that were in training and held out, too.
        warnings: Everything that was logged as a warning on the way.
    """

    train: Records
    validation: Records | None
    test: Records | None
    label_map: LabelMap
    cleaning: CleaningReport
    leaks: LeakReport
    warnings: tuple[str, ...] = ()

    @property
    def by_split(self) -> dict[str, Records]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: records for name, records in parts.items() if records is not None}


def prepare(
    config: DataConfig,
    *,
    task: str = "text_classification",
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    seed: int = 0,
) -> PreparedData:
    """Reads, selects, splits, cleans and checks, in this order.

    Cleaning is for training rows only; validation and test are evaluated on texts as a server gets
    them. From all parts, `drop_empty` drops rows without text.

    Args:
        config: The `data` section of a run config.
        task: What the rows are for. Defaults to text classification.
        train: Rows of any kind that `read_records` takes, instead of the config's files.
        validation: The same, or a fraction of the training rows.
        test: The same, or a fraction of the training rows.
        seed: Decides which rows a fraction takes. Defaults to `0`.

    Raises:
        DataError: If rows cannot be read or learned from; names everything wrong with all files.
    """
    warnings: list[str] = []
    sources = _choose_sources(config, train, validation, test)
    parts = _read(config, task, sources, warnings)
    parts = {name: _sample(records, config.max_rows, seed) for name, records in parts.items()}
    parts, names = _select_labels(config, parts, warnings)
    LabelMap.fit(parts["train"], names=names)  # raises for labels that no split can make good
    parts = _split(parts, sources, seed)
    parts = _drop_empty_held_out(config, parts, warnings)
    parts["train"], cleaning = clean(parts["train"], config.cleaning)
    check_no_empty(list(parts.values()), config.cleaning)
    parts["train"], leaks = _remove_leaks(config, parts, warnings)
    label_map = LabelMap.fit(parts["train"], names=names)
    warnings += check_held_out_labels(parts["train"], _held_out(parts), label_map.names)
    warnings += label_warnings("train", label_counts(parts["train"]))
    warnings += conflict_warnings("train", find_conflicts(parts["train"]))
    for warning in warnings:
        logger.warning(warning)
    return PreparedData(
        parts["train"],
        parts.get("validation"),
        parts.get("test"),
        label_map,
        cleaning,
        leaks,
        tuple(warnings),
    )


@dataclass(frozen=True)
class PreparedTexts:
    """Texts without labels that are ready to train on.

    Attributes:
        train: Training rows, cleaned.
        validation: Held-out rows, or `None`.
        warnings: Everything that was logged as a warning on the way.
    """

    train: Records
    validation: Records | None
    warnings: tuple[str, ...] = ()

    @property
    def by_split(self) -> dict[str, Records]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation}
        return {name: records for name, records in parts.items() if records is not None}


def prepare_texts(
    config: DataConfig,
    *,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    seed: int = 0,
) -> PreparedTexts:
    """Does what `prepare` does, but for texts alone: labels are neither needed nor looked at.

    Args:
        config: The `data` section of a run config.
        train: Rows of any kind that `read_records` takes, instead of the config's files.
        validation: The same, or a fraction of the training rows.
        test: The same; left aside, as nothing is tested.
        seed: Decides which rows a fraction takes. Defaults to `0`.

    Raises:
        DataError: If rows cannot be read; names everything wrong with all files.
    """
    warnings: list[str] = []
    sources = _choose_sources(config, train, validation, test)
    parts = _read(config, "masked_language_modeling", sources, warnings, require_label=False)
    parts = {
        name: _texts_of(_sample(records, config.max_rows, config.split_seed or seed))
        for name, records in parts.items()
    }
    parts = _split(parts, sources, seed if config.split_seed is None else config.split_seed)
    parts = _drop_empty_held_out(config, parts, warnings)
    parts["train"], _ = clean(parts["train"], config.cleaning)
    check_no_empty(list(parts.values()), config.cleaning)
    parts["train"], _ = _remove_leaks(config, parts, warnings)
    for warning in warnings:
        logger.warning(warning)
    return PreparedTexts(parts["train"], parts.get("validation"), tuple(warnings))


def _texts_of(records: Records) -> Records:
    """The same rows, without labels."""
    table = records.table.select(
        [name for name in ("text", "text_pair") if name in records.table.column_names]
    )
    return replace(records, table=table)


def _choose_sources(config: DataConfig, train: Any, validation: Any, test: Any) -> dict[str, Any]:
    given = {"train": train, "validation": validation, "test": test}
    told = {"train": config.train, "validation": config.validation, "test": config.test}
    sources = {name: told[name] if given[name] is None else given[name] for name in given}
    if sources["train"] is None:
        raise DataError(
            "There are no training data. Pass them, or name a file in the config: "
            "`-s data.train=reviews.csv`."
        )
    sources = {name: source for name, source in sources.items() if source is not None}
    fractions: list[Any] = [sources[name] for name in _held_out(sources) if _is_fraction(sources[name])]
    if not all(0 < fraction < 1 for fraction in fractions) or sum(fractions) >= 1:
        raise DataError(
            f"The fractions held out for validation and test are {fractions}; each must lie "
            "between 0 and 1, and something must be left for training."
        )
    return sources


def _read(
    config: DataConfig,
    task: str,
    sources: Mapping[str, Any],
    warnings: list[str],
    *,
    require_label: bool = True,
) -> dict[str, Records]:
    parts: dict[str, Records] = {}
    errors: list[KerasLLMError] = []
    for name, source in sources.items():
        if name != "train" and _is_fraction(source):
            continue
        try:
            parts[name] = read_records(
                source,
                columns={str(role): column for role, column in (config.columns or {}).items()},
                task=task,
                require_label=require_label,
                encoding=config.encoding,
                max_bad_rows=config.max_bad_rows,
                cast_text=config.cast_text,
                fix_unicode=config.fix_unicode,
                name=f"{name}_data",
            )
        except KerasLLMError as error:
            errors.append(error)
    raise_together(errors)
    for name, records in parts.items():
        warnings.extend(records.notes)
        if records.has_pairs != parts["train"].has_pairs:
            both, one = ("train", name) if parts["train"].has_pairs else (name, "train")
            raise DataError(
                f"The {both} rows have two texts each, and the {one} rows one; all need the same."
            )
        if records.multi_label != parts["train"].multi_label:
            many, one = ("train", name) if parts["train"].multi_label else (name, "train")
            raise DataError(
                f"The {many} rows have lists of labels, and the {one} rows one each; all need the same."
            )
    return parts


def _sample(records: Records, max_rows: int | None, seed: int) -> Records:
    """Takes rows by the hash of their number: spread over the file, also one that is sorted by label."""
    if max_rows is None or records.num_rows <= max_rows:
        return records
    order = sorted(
        range(records.num_rows), key=lambda row: hashlib.blake2b(f"{seed} {row}".encode()).digest()
    )
    return records.take(sorted(order[:max_rows]))


def _select_labels(
    config: DataConfig, parts: dict[str, Records], warnings: list[str]
) -> tuple[dict[str, Records], list[str] | None]:
    selected: dict[str, Records] = {}
    names = None
    for name, records in parts.items():
        selected[name], names, dropped = select_labels(
            records, config.labels, other_labels=config.other_labels
        )
        if dropped:
            what = "label" if records.multi_label else "row"
            warnings.append(f"{name}: dropped {plural(dropped, what)} with other labels than {names}.")
    return selected, names


def _split(parts: dict[str, Records], sources: Mapping[str, Any], seed: int) -> dict[str, Records]:
    fractions = {name: source for name, source in sources.items() if _is_fraction(source)}
    train = parts["train"]
    check_splittable(train, num_parts=1 + len(fractions))
    left = 1.0
    for name in ("test", "validation"):
        if name in fractions:
            train, parts[name] = split_records(train, fractions[name] / left, seed=seed)
            left -= fractions[name]
    return {**parts, "train": train}


def _drop_empty_held_out(
    config: DataConfig, parts: dict[str, Records], warnings: list[str]
) -> dict[str, Records]:
    if "drop_empty" not in config.cleaning:
        return parts
    for name, records in _held_out(parts).items():
        parts[name], report = drop_empty(records)
        if report.num_dropped:
            warnings.append(f"{name}: dropped {plural(report.num_dropped, 'row')} without text.")
    return parts


def _remove_leaks(
    config: DataConfig, parts: dict[str, Records], warnings: list[str]
) -> tuple[Records, LeakReport]:
    # Texts are the same where cleaning makes them the same; the held-out rows themselves stay as they are.
    steps = [step for step in config.cleaning if step in TEXT_STEPS]
    compared = {name: clean(records, steps)[0] for name, records in _held_out(parts).items()}
    train, report = remove_leaks(parts["train"], compared, remove=config.remove_leaks)
    warnings.extend(f"{leak}." for leak in report.leaks)
    if report.num_removed:
        warnings.append(f"Removed {plural(report.num_removed, 'training row')} whose text is held out, too.")
    return train, report


def _held_out(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name != "train"}


def _is_fraction(source: Any) -> bool:
    return isinstance(source, float | int) and not isinstance(source, bool)
