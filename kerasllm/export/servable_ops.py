"""Whether a stock TF Serving can run a SavedModel, and whether it is safe to: read from the written graph.

Python runs many graphs that a server refuses, so nothing here trusts that a model worked in Python: the
ops are read from `saved_model.pb`, from the main graph and from its function library.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kerasllm.errors import ExportError

__all__ = ["check_servable", "find_problems", "read_signatures"]

_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_GROWING = re.compile(
    r".*(Mutable(Dense)?HashTable|Queue|Barrier|Accumulator|MemoryCache|(?<!List)Stack(V2)?$).*"
    r"|LookupTable(Insert|Remove)V?2?|(Ordered)?Map(Stage|Unstage).*|(Uns|S)tage"
)
_FILES = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|.*Reader(V2)?|Reader(Read|Restore|Serialize).*|.*Dataset(V\d)?"
    r"|InitializeTableFromTextFile(V2)?|.*SummaryWriter|Write.*Summary|ImportEvent|DumpTensor|FileSystem.*"
    r"|LoadAndRemapMatrix|(Save|Restore)(Slice|Slices)?|DTensorRestoreV2|DistributedSave|.*SpectrogramFile"
)
_NETWORK = re.compile(
    r"Rpc.*|.*DataService.*|.*BigQuery.*|_?(Host)?(Send|Recv)|RemoteCall|RegisterDataset(V2)?"
)
# What TensorFlow's own code for saving and restoring needs; never a part of a request.
_CHECKPOINT = {"MergeV2Checkpoints", "RestoreV2", "SaveV2"}
# Ops that TensorFlow calls stateful and that neither reach outside nor keep anything of a request.
_HARMLESS = {
    "AnonymousHashTable",
    "Assert",
    "AssignVariableOp",
    "Case",
    "CheckNumerics",
    "CheckNumericsV2",
    "DestroyResourceOp",
    "DisableCopyOnRead",
    "HashTable",
    "HashTableV2",
    "If",
    "InitializeTableV2",
    "LookupTableExportV2",
    "LookupTableFindV2",
    "LookupTableImportV2",
    "LookupTableSizeV2",
    "Multinomial",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "SentencepieceDetokenizeOp",
    "SentencepieceIdToStringOp",
    "SentencepieceOp",
    "SentencepieceStringToIdOp",
    "SentencepieceTokenizeOp",
    "SentencepieceTokenizeWithOffsetsOp",
    "SentencepieceVocabSizeOp",
    "StatefulPartitionedCall",
    "TruncatedNormal",
    "VarHandleOp",
    "VarIsInitializedOp",
    "VariableShape",
    "While",
    "WordpieceTokenizeWithOffsets",
}


@dataclass(frozen=True)
class _Op:
    attributes: frozenset[str]
    stateful: bool


def check_servable(saved_model_dir: str | Path, *, target: str = "2.20") -> None:
    """Refuses a SavedModel that a stock TF Serving of the given release cannot run, or should not.

    Args:
        saved_model_dir: Directory that holds `saved_model.pb`.
        target: TF Serving release, of which the ops are known. Defaults to `"2.20"`.

    Raises:
        ExportError: If there is no readable SavedModel, or it has ops that call Python, need XLA, read or
            write files, use the network, keep state that grows, or that the release does not know.
    """
    problems = find_problems(saved_model_dir, target=target)
    if problems:
        raise ExportError(
            f"`{saved_model_dir}` has ops that a stock TF Serving {target} cannot run or must not: "
            f"{'; '.join(problems)}. Build the model from ops that work inside a graph."
        )


def find_problems(saved_model_dir: str | Path, *, target: str = "2.20") -> list[str]:
    """Lists what keeps a SavedModel from being served; empty when nothing does.

    Args:
        saved_model_dir: Directory that holds `saved_model.pb`.
        target: TF Serving release. Defaults to `"2.20"`.

    Returns:
        One sentence part an op, such as `"PyFunc (calls Python, in the function serve)"`, sorted.

    Raises:
        ExportError: If there is no readable SavedModel.
    """
    known = _known_ops(target)
    found: dict[str, str] = {}
    for graph in _read_graphs(Path(saved_model_dir)):
        nodes, functions = _served(graph)
        for function, node in _nodes(graph):
            served = node.name in nodes if function is None else function in functions
            reason = _fault(node, known, target, served=served)
            if reason:
                place = "the main graph" if function is None else f"the function {function}"
                found.setdefault(f"{node.op} ({reason}", place)
    return sorted(f"{problem}, in {place})" for problem, place in found.items())


def read_signatures(saved_model_dir: str | Path) -> dict[str, Any]:
    """Returns the `SignatureDef`s of a SavedModel by name, those that a server offers.

    Args:
        saved_model_dir: Directory that holds `saved_model.pb`.

    Raises:
        ExportError: If there is no readable SavedModel.
    """
    graph = _read_graphs(Path(saved_model_dir))[0]
    return {name: graph.signature_def[name] for name in graph.signature_def if not name.startswith("__")}


def _fault(node: Any, known: dict[str, _Op], target: str, *, served: bool) -> str | None:
    op = node.op
    if "_XlaMustCompile" in node.attr and node.attr["_XlaMustCompile"].b:
        return "must be compiled by XLA, which a stock server has switched off"
    for ops, reason in _REASONS:
        if op in ops if isinstance(ops, set) else ops.fullmatch(op):
            return reason
    if op in _CHECKPOINT:
        return "reads or writes files in a request" if served else None
    if op not in known:
        return f"unknown to TensorFlow {target} and TF Text {target}"
    unknown = sorted(n for n in node.attr if not n.startswith("_") and n not in known[op].attributes)
    if unknown:
        return f"attribute {', '.join(unknown)} unknown to TensorFlow {target}"
    if known[op].stateful and op not in _HARMLESS:
        return "keeps state or has side effects"
    return None


_REASONS: list[tuple[set[str] | re.Pattern[str], str]] = [
    (_PYTHON, "calls Python"),
    (re.compile("_?Xla.*"), "needs XLA, which a stock server has switched off"),
    (_GROWING, "keeps state that grows"),
    (_FILES, "reads or writes files"),
    (_NETWORK, "uses the network"),
]


@cache
def _known_ops(target: str) -> dict[str, _Op]:
    folder = resources.files("kerasllm.export") / "ops"
    names = {item.name: item for item in folder.iterdir() if item.name.endswith(".txt")}
    file = names.get(f"tf_serving_{target}.txt")
    if file is None:
        targets = sorted(name.removeprefix("tf_serving_").removesuffix(".txt") for name in names)
        raise ExportError(f"The ops of TF Serving {target} are not known here; known are {targets}.")
    lines = [line.split() for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {name.rstrip("!"): _Op(frozenset(attributes), name.endswith("!")) for name, *attributes in lines}


def _read_graphs(directory: Path) -> list[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = directory / "saved_model.pb"
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise ExportError(
            f"`{directory}` holds no saved_model.pb. Give the directory of one version, e.g. "
            "`models/reviews/1`."
        ) from error
    except DecodeError as error:
        raise ExportError(f"`{path}` is damaged: it is not a SavedModel. Export the model again.") from error
    if not saved_model.meta_graphs:
        raise ExportError(f"`{path}` is damaged: it holds no graph. Export the model again.")
    return list(saved_model.meta_graphs)


def _nodes(graph: Any) -> Iterator[tuple[str | None, Any]]:
    """Every node with the name of its function, `None` in the main graph."""
    for node in graph.graph_def.node:
        yield None, node
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _served(graph: Any) -> tuple[set[str], set[str]]:
    """Names of the main graph's nodes and of the functions that a request can reach."""
    nodes = {node.name: node for node in graph.graph_def.node}
    signatures = graph.signature_def.values()
    starts = [tensor.name for signature in signatures for tensor in signature.outputs.values()]
    reached = _ancestors(nodes, starts)
    bodies = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    wanted = [name for node in reached for name in _called(node)]
    functions: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in bodies and name not in functions:
            functions.add(name)
            wanted += [called for node in bodies[name] for called in _called(node)]
    return {node.name for node in reached}, functions


def _ancestors(nodes: dict[str, Any], tensors: Iterable[str]) -> list[Any]:
    wanted, seen, found = list(tensors), set(), []
    while wanted:
        name = wanted.pop().removeprefix("^").split(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        found.append(nodes[name])
        wanted += nodes[name].input
    return found


def _called(node: Any) -> list[str]:
    called = []
    for value in node.attr.values():
        if value.HasField("func"):
            called.append(value.func.name)
        called += [function.name for function in value.list.func]
    return called
