"""Objects in memory become raw tables: frames, Arrow tables, lists, pairs and `tf.data` datasets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data.problems import Problems, quote
from kerasllm.data.records import Origin
from kerasllm.data.tables import RawTable, batches_table, rows_table
from kerasllm.errors import ColumnError, DataError

_ACCEPTED = (
    "a path or a list of paths, a list of dictionaries, a dictionary of columns, `(texts, labels)`, "
    "a pandas or polars frame, an Arrow table, a Hugging Face dataset, or a `tf.data.Dataset`"
)


def object_table(source: Any, name: str) -> RawTable:
    """Makes a raw table of an object in memory.

    Args:
        source: What was passed; anything but paths.
        name: How messages call it, e.g. `train_data`.

    Raises:
        DataError: If it is of no kind that is read; lists those that are.
    """
    origin = Origin(name, "item")
    if isinstance(source, pa.Table | pa.RecordBatch | pa.RecordBatchReader):
        return _arrow_table(source, origin)
    if hasattr(source, "__arrow_c_stream__"):
        return _frame_table(source, origin)
    module = type(source).__module__.split(".")[0]
    if module == "pandas" and hasattr(source, "columns"):  # before pandas 2.2
        return _arrow_table(pa.Table.from_pandas(source), origin)
    if module == "datasets" and hasattr(source, "with_format") and hasattr(source, "features"):
        return _hugging_face_table(source, origin)
    if hasattr(source, "as_numpy_iterator") and hasattr(source, "element_spec"):
        return rows_table(_tensorflow_rows(source, name), origin, Problems(origin))
    if isinstance(source, Mapping):
        return _mapping_table(source, origin)
    if isinstance(source, tuple) and len(source) == 2:
        return _mapping_table(_pair_columns(source, name), origin)
    if isinstance(source, list | tuple):
        return rows_table(_list_rows(source, name), origin, Problems(origin))
    raise DataError(f"`{name}` is a {_type_name(source)}; expected {_ACCEPTED}.")


def _arrow_table(table: Any, origin: Origin, **more: Any) -> RawTable:
    names = list(table.schema.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ColumnError(f"`{origin.name}` has the column {twice[0]!r} more than once. Rename one of them.")
    if isinstance(table, pa.RecordBatch):
        return batches_table(names, [table], origin, **more)
    batches = table.to_batches() if isinstance(table, pa.Table) else table
    return batches_table(names, batches, origin, **more)


def _frame_table(source: Any, origin: Origin) -> RawTable:
    try:
        reader = pa.RecordBatchReader.from_stream(source)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        # A pandas column of several types has no Arrow type; row by row, the error can name the rows.
        if not hasattr(source, "columns"):
            raise DataError(f"`{origin.name}` cannot be read through Arrow: {error}.") from None
        names = [str(name) for name in source.columns]
        columns = {name: list(source[key]) for name, key in zip(names, source.columns, strict=True)}
        return _mapping_table(columns, origin)
    return _arrow_table(reader, origin)


def _hugging_face_table(source: Any, origin: Origin) -> RawTable:
    names = {
        column: list(feature.names)
        for column, feature in (source.features or {}).items()
        if hasattr(feature, "names") and hasattr(feature, "num_classes")
    }
    if not hasattr(source, "__len__"):
        raise DataError(f"`{origin.name}` is a streaming dataset; load it without `streaming=True`.")
    return _arrow_table(source.with_format("arrow")[:], origin, class_names=names)


def _mapping_table(source: Mapping[Any, Any], origin: Origin) -> RawTable:
    for key, values in source.items():
        if hasattr(values, "column_names") or hasattr(values, "as_numpy_iterator"):
            raise DataError(
                f"`{origin.name}` is a dictionary of datasets {sorted(map(str, source))}; "
                f"pass one of them, e.g. `data[{key!r}]`."
            )
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise DataError(
                f"`{origin.name}` is a dictionary whose {quote(key)} is a {_type_name(values)}; "
                "expected a list of values for each column."
            )
    lengths = {str(key): len(values) for key, values in source.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length:,} of {key!r}" for key, length in lengths.items())
        raise DataError(f"`{origin.name}` has columns of different lengths: {counts}. Each row needs all.")
    columns = [_values(values, f"`{origin.name}` column {key!r}") for key, values in source.items()]
    names = [str(key) for key in source]
    rows = (
        (position, dict(zip(names, row, strict=True)))
        for position, row in enumerate(zip(*columns, strict=True))
    )
    return rows_table(rows, origin, Problems(origin))


def _pair_columns(source: tuple[Any, Any], name: str) -> dict[str, Any]:
    """Reads `(texts, labels)` and `((texts, text_pairs), labels)`."""
    texts, labels = source
    for what, values in (("texts", texts), ("labels", labels)):
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise DataError(
                f"`{name}` is read as `(texts, labels)`, but its {what} are a {_type_name(values)}; "
                "expected a list or array."
            )
    if isinstance(texts, Mapping):
        return {**texts, "label": labels}
    is_pair = isinstance(texts, tuple) and len(texts) == 2 and not isinstance(texts[0], str | bytes)
    if is_pair:
        return {"text": texts[0], "text_pair": texts[1], "label": labels}
    if len(texts) and isinstance(texts[0], tuple | list) and len(texts[0]) == 2:
        first, second = zip(*texts, strict=True)
        return {"text": first, "text_pair": second, "label": labels}
    return {"text": texts, "label": labels}


def _values(values: Any, shown: str) -> Sequence[Any]:
    """Python values of a list, array or series; a second dimension is a list for each row."""
    if hasattr(values, "numpy"):  # a tensor
        values = values.numpy()
    if isinstance(values, np.ndarray):
        if values.ndim not in (1, 2):
            raise DataError(f"{shown} has {values.ndim} dimensions; expected one value a row.")
        return values.tolist()
    if hasattr(values, "to_pylist"):
        return values.to_pylist()
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _list_rows(source: Sequence[Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, row in enumerate(source):
        if isinstance(row, Mapping):
            yield index, dict(row)
        elif isinstance(row, tuple) and len(row) == 2:
            yield index, {"text": row[0], "label": row[1]}
        else:
            raise DataError(
                f"`{name}[{index}]` is a {_type_name(row)}; expected a dictionary such as "
                "`{'text': 'A joy.', 'label': 'positive'}`, or a `(text, label)` pair."
            )


def _tensorflow_rows(dataset: Any, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if int(dataset.cardinality()) == -1:
        raise DataError(f"`{name}` is an endless `tf.data.Dataset`; end it, e.g. with `.take(10_000)`.")
    spec = dataset.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) == 2
    if not is_pair and not isinstance(spec, dict):
        raise DataError(
            f"`{name}` is a `tf.data.Dataset` of {_type_name(spec)} elements; expected `(text, label)` or "
            "dictionaries."
        )
    features = spec[0] if is_pair else spec
    first = next(iter(features.values())) if isinstance(features, dict) else features
    batched = getattr(first, "shape", None) is not None and first.shape.rank == 1
    index = 0
    for element in dataset.as_numpy_iterator():
        columns = element if isinstance(element, dict) else _pair_element(element)
        lists = {key: _array_values(values, batched) for key, values in columns.items()}
        for row in zip(*lists.values(), strict=True):
            yield index, dict(zip(lists, row, strict=True))
            index += 1


def _pair_element(element: tuple[Any, Any]) -> dict[str, Any]:
    features, label = element
    return {**features, "label": label} if isinstance(features, dict) else {"text": features, "label": label}


def _array_values(values: Any, batched: bool) -> list[Any]:
    if hasattr(values, "to_list"):  # ragged
        values = values.to_list()
    elif isinstance(values, np.ndarray | np.generic):
        values = values.tolist()
    return values if batched else [values]


def _type_name(value: Any) -> str:
    return f"`{type(value).__name__}`"
