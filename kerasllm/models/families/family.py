"""What every family of models has in common; each file beside this one says what is its own."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from kerasllm.models.families.names import Names, Stored, specs
from kerasllm.models.tensors import TensorSpec
from kerasllm.models.transformer.layout import backbone_weights, head_weights
from kerasllm.models.transformer.settings import BackboneSettings, HeadSettings

__all__ = ["ACTIVATIONS", "MEAN_POOLED", "Family", "HeadFormat", "dense_parts"]

# transformers' names -> ours. Several of theirs are one formula, written in different ways.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "identity": "identity",
    "linear": "identity",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu_squared",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Far beyond any model; a damaged config must not make us list tensors until memory is full.
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class HeadFormat:
    """How a family's checkpoints keep a trained head.

    Attributes:
        architecture: transformers' class of a model with this head; others that load as such come after it.
        settings: A head's settings from a config and the width of its output.
        names: The table of its tensors.
        untied_names: What of the table is different where the output's matrix is the head's own.
        optional: Tensors that are 0 where they are absent.
        prefix: Under which the backbone's tensors lie beside this head. Defaults to `None`, the family's
            first.
    """

    architecture: tuple[str, ...]
    settings: Any
    names: Names
    untied_names: Names = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    prefix: str | None = None


def dense_parts(path: str, **names: str | Stored) -> dict[str, str | Stored]:
    """A table for several layers below one path: `dense_parts("a/b", query="q")` is `{"a/b/query": "q"}`."""
    return {f"{path}/{part}": name for part, name in names.items()}


MEAN_POOLED = "mean_pooled_classifier"
_MEAN_POOLED_HEAD = HeadFormat(
    (), lambda family, config, units: HeadSettings(units, "mean"), {"head/output": "mean_pooled_classifier"}
)


class Family:
    """A kind of model: how its config is read, where its tensors go, and which heads it has.

    An instance imports no TensorFlow, so that a bad checkpoint is refused at once.

    Attributes:
        model_type: `model_type` of the `config.json`.
        title: The models that it stands for.
        defaults: What transformers takes where the config leaves something out.
        may_be_zero: Of those that count something, which may be 0.
        nullable: Those where `null` says something of its own, and not "the default".
        prefixes: Under which the backbone's tensors lie in a model with a head.
        base_prefix: Under which they lie in the model without a head.
        base_architecture: transformers' class of the backbone alone.
        names: The table of the backbone's tensors.
        old_names: Spellings of former days: a regular expression and what stands in its place.
        copies: Tensors that repeat the token embeddings.
        expected_unused: Regular expression of tensors that are rightly left out.
        heads: By kind.
        stop_tokens: What ends a generated text, where `generation_config.json` says nothing.
        epsilon, deviation, activation, positions: What its config calls the norms' epsilon, the standard
            deviation of new weights, the activation, and the number of positions.
        more_rates: Dropout rates that are not among the defaults.
        counts_layers: What its config calls the numbers of layers, and of whatever else is listed one by one.
    """

    model_type: ClassVar[str]
    title: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    nullable: ClassVar[tuple[str, ...]] = ()
    prefixes: ClassVar[tuple[str, ...]] = ()
    base_prefix: ClassVar[str] = ""
    base_architecture: ClassVar[str]
    names: ClassVar[Names]
    old_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    copies: ClassVar[tuple[str, ...]] = ()
    expected_unused: ClassVar[str] = r"$^"
    heads: ClassVar[Mapping[str, HeadFormat]]
    stop_tokens: ClassVar[tuple[str, ...]] = ()
    epsilon: ClassVar[str] = "layer_norm_eps"
    deviation: ClassVar[str] = "initializer_range"
    activation: ClassVar[str] = "hidden_act"
    positions: ClassVar[str] = "max_position_embeddings"
    more_rates: ClassVar[tuple[str, ...]] = ()
    counts_layers: ClassVar[tuple[str, ...]] = ("num_hidden_layers",)

    # === What a family must say ===

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """Settings of the backbone that a config describes."""
        raise NotImplementedError

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """What about a config of this family cannot be computed exactly; defaults are filled in."""
        return []

    def backbone_names(self, config: Mapping[str, Any]) -> Names:
        """The table of the backbone's tensors, as this config has them."""
        return self.names

    def renumber(self, config: Mapping[str, Any], numbers: list[int]) -> list[int]:
        """Numbers in the name of a tensor from those in our path."""
        return numbers

    # === Config ===

    def setting(self, config: Mapping[str, Any], name: str) -> Any:
        """Reads a value of the config, or the default that transformers would take."""
        if name in self.nullable and name in config:
            return config[name]
        value = config.get(name)
        return self.defaults.get(name) if value is None else value

    def with_defaults(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the config with what it leaves out, as transformers would fill it in."""
        stated = {key: value for key, value in config.items() if value is not None or key in self.nullable}
        return {**self.defaults, **stated}

    def act(self, config: Mapping[str, Any]) -> str:
        """Our name for the activation."""
        return ACTIVATIONS[self.setting(config, self.activation)]

    def check_config(self, config: Mapping[str, Any]) -> list[str]:
        """Lists what about a config cannot be computed exactly; empty when all is well."""
        full = self.with_defaults(config)
        problems = [*self._bad_numbers(full), *_unsupported(full)]
        activation = full.get(self.activation)
        if self.activation in self.defaults and isinstance(activation, str) and activation not in ACTIVATIONS:
            close = difflib.get_close_matches(str(activation), ACTIVATIONS, n=1)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            known = ", ".join(sorted(ACTIVATIONS))
            problems.append(f"`{self.activation}` {activation!r} is unknown{hint}, known are: {known}")
        if problems:
            return problems
        many = [name for name in self.counts_layers if full[name] > _MOST_LAYERS]
        if many:
            return [f"`{name}` is {full[name]}, more than {_MOST_LAYERS}" for name in many]
        return self.problems(full)

    def _bad_numbers(self, config: Mapping[str, Any]) -> list[str]:
        problems = []
        for name, default in self.defaults.items():
            value = config[name]
            if value is None and name in self.nullable:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(default, bool | str) or default is None:
                wanted = {bool: "true or false", str: "a string"}.get(type(default), "an integer")
                kind = type(default) if default is not None else int
                if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                    problems.append(f"`{name}` is {value!r}, but must be {wanted}")
            elif isinstance(default, int):
                least = 0 if name in self.may_be_zero or name.endswith("_token_id") else 1
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    wanted = "a positive integer" if least else "an integer from 0 up"
                    problems.append(f"`{name}` is {value!r}, but must be {wanted}")
            elif "drop" in name:
                if not (number and 0 <= value < 1):
                    problems.append(f"`{name}` is {value!r}, but must be a number from 0 to below 1")
            elif not (number and value > 0):
                problems.append(f"`{name}` is {value!r}, but must be a number above 0")
        return problems

    def dropout_settings(self, rate: float) -> dict[str, float]:
        """Gives the settings that stand for one dropout rate everywhere."""
        names = [name for name in self.defaults if "drop" in name and "layerdrop" not in name]
        return dict.fromkeys((*names, *self.more_rates), rate)

    def max_length(self, config: Mapping[str, Any]) -> int:
        """The longest sequence, in tokens, that the model was made for."""
        return self.max_positions(config) or int(self.setting(config, self.positions))

    def saved_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a checkpoint with the names that this family writes."""
        return dict(config)

    # === Tensors ===

    def canonical_name(self, name: str) -> str:
        """Gives a tensor's name in today's spelling, without the prefix of a model with a head."""
        for prefix in self.prefixes:
            if name.startswith(prefix):
                name = name.removeprefix(prefix)
                break
        for pattern, replacement in self.old_names:
            name = re.sub(pattern, replacement, name)
        return name

    def stored_name(self, name: str, head: str | None) -> str:
        """Gives the name under which transformers looks for a tensor in a model with this head."""
        if head is not None and self.is_head_name(name, head):
            return name
        if head is None or head == MEAN_POOLED:
            return f"{self.base_prefix}{name}"
        prefix = self.head_format(head).prefix
        return f"{self.prefixes[0] if prefix is None else prefix}{name}"

    def is_head_name(self, name: str, head: str) -> bool:
        """Whether a tensor belongs to the head and not to the backbone."""
        form = self.head_format(head)
        entries = [*form.names.values(), *form.untied_names.values()]
        stems = [entry if isinstance(entry, str) else entry.name for entry in entries]
        return any(name == stem or name.startswith(f"{stem}.") for stem in stems)

    def is_expected_unused(self, name: str) -> bool:
        """Whether a tensor of this (canonical) name is known and rightly left out of a backbone."""
        return bool(re.search(self.expected_unused, name)) or name in self.copies

    def backbone_tensors(self, config: Mapping[str, Any]) -> list[TensorSpec]:
        """Lists the tensors of the backbone, without the pooler."""
        return [spec for spec in self._backbone_tensors(config) if not spec.path.startswith("pooler/")]

    def pooler_tensors(self, config: Mapping[str, Any]) -> list[TensorSpec]:
        """Lists the tensors of the pooler, the dense layer on the first token; empty where there is none."""
        return [spec for spec in self._backbone_tensors(config) if spec.path.startswith("pooler/")]

    def _backbone_tensors(self, config: Mapping[str, Any]) -> list[TensorSpec]:
        settings = self.backbone(config)
        return specs(
            self.backbone_names(config),
            backbone_weights(settings),
            heads=settings.stack.num_heads,
            renumber=functools.partial(self.renumber, config),
        )

    # === Heads ===

    def head_format(self, kind: str) -> HeadFormat:
        """How a head of this kind is kept."""
        return _MEAN_POOLED_HEAD if kind == MEAN_POOLED else self.heads[kind]

    def head_kind(self, config: Mapping[str, Any], names: Collection[str]) -> str | None:
        """Says which trained head a checkpoint has.

        Args:
            config: The checkpoint's `config.json`.
            names: Canonical names of its tensors.

        Returns:
            A key of `heads`, `"mean_pooled_classifier"`, or `None`. `architectures` decides:
            `classifier.weight` alone proves nothing, as several heads call theirs the same.
        """
        if "mean_pooled_classifier.weight" in names:
            return MEAN_POOLED
        architecture = (config.get("architectures") or [None])[0]
        for kind, form in self.heads.items():
            if architecture in form.architecture:
                return kind
        for kind in self.heads:
            if "language" in kind:
                wanted = [spec.name for spec in self.head_tensors(config, kind, tied=True)]
                if wanted and all(name in names for name in wanted):
                    return kind
        return None

    def head(
        self, config: Mapping[str, Any], kind: str, units: int = 0, *, tied: bool | None = None
    ) -> HeadSettings:
        """Settings of a head.

        Args:
            config: The checkpoint's `config.json`.
            kind: A key of `heads`, or `"mean_pooled_classifier"`.
            units: Number of classes, for heads that have them.
            tied: Whether a language head's matrix is that of the token embeddings. Defaults to `None`, what
                the config says.
        """
        settings: HeadSettings = self.head_format(kind).settings(self, config, units)
        if tied is None or "language" not in kind:
            return settings
        return dataclasses.replace(settings, tied=tied)

    def head_tensors(
        self, config: Mapping[str, Any], kind: str, units: int = 0, *, tied: bool | None = None
    ) -> list[TensorSpec]:
        """Lists the tensors of a head; a matrix that is that of the token embeddings is not among them."""
        settings, form = self.head(config, kind, units, tied=tied), self.head_format(kind)
        names = {**form.names, **({} if settings.tied else form.untied_names)}
        return specs(names, head_weights(settings, self.backbone(config)))

    def output_name(self, kind: str) -> str:
        """Name of the tensor that is a head's output matrix, whether tied or not."""
        form = self.head_format(kind)
        names = {**form.names, **form.untied_names}
        whole = names.get("head/output/kernel")
        if whole is not None:
            return whole if isinstance(whole, str) else whole.name
        entry = names["head/output"]
        return f"{entry if isinstance(entry, str) else entry.name}.weight"

    def embedding_names(self, kind: str | None) -> list[str]:
        """Names under which the token embeddings may be kept, the usual one first."""
        entry = self.names["token_embedding"]
        others = [self.output_name(kind)] if kind is not None and "language" in kind else []
        return [f"{entry}.weight", *self.copies, *others]

    def base_class(self, config: Mapping[str, Any]) -> str:
        """Transformers' class of the backbone alone."""
        return self.base_architecture

    def max_positions(self, config: Mapping[str, Any]) -> int | None:
        """The longest sequence that there are position embeddings for; `None` where none are needed."""
        embedding = self.backbone(config).embedding
        return embedding.num_positions - embedding.position_offset if embedding.num_positions else None

    def tied(self, config: Mapping[str, Any]) -> bool:
        """Whether a language head's matrix is that of the token embeddings, as the config says."""
        return bool(self.setting(config, "tie_word_embeddings"))

    # === Adapters ===

    @functools.cached_property
    def lora_targets(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the checkpoint's layers by their role: what PEFT calls `target_modules`."""
        roles: dict[str, list[str]] = {"query": [], "key": [], "value": [], "output": [], "feed_forward": []}
        for path, entry in self.names.items():
            parts = path.split("/")
            if len(parts) < 3:
                continue
            role = "feed_forward" if parts[1] == "feed_forward" else parts[-1]
            name = (entry if isinstance(entry, str) else entry.name).rpartition(".")[2]
            if role in roles and parts[-1] != "router" and name not in roles[role]:
                roles[role].append(name)
        return MappingProxyType({role: tuple(names) for role, names in roles.items()})


def _unsupported(config: Mapping[str, Any]) -> list[str]:
    problems = []
    if config.get("position_embedding_type", "absolute") not in (None, "absolute"):
        problems.append(
            f"`position_embedding_type` is {config['position_embedding_type']!r}, only 'absolute' works"
        )
    if config.get("add_cross_attention") or (
        config.get("is_decoder") and not config.get("is_encoder_decoder")
    ):
        problems.append(
            "`is_decoder` or `add_cross_attention` is true, but this family is computed as an encoder only"
        )
    if config.get("quantization_config"):
        problems.append("its weights are quantized (`quantization_config`), only float weights can be loaded")
    if config.get("pruned_heads"):
        problems.append("`pruned_heads` is set, but all layers must have the same heads")
    return problems
