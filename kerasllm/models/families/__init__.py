"""One file a family of models: how its config is read and where its tensors go.

`FAMILIES` maps the `model_type` of a `config.json` to the module that knows it. Such a module has

- `check_config(config) -> list[str]`: what about this config cannot be computed exactly;
- `with_defaults(config)`, `setting(config, name)`: what a config leaves out;
- `canonical_name(name)`: a tensor's name in today's spelling, without a head model's prefix;
- `backbone_tensors(config)` and `pooler_tensors(config)`: the tensors and where they go;
- `head_kind(config, names)`, `head_tensors(config, kind, shapes)`: the trained head, if any;
- `KERAS_HUB_CLASS`, `from_keras_hub(settings)`: KerasHub's name for it, and its config in ours;
- `build_backbone(config, *, dropout, dtype_policy)`: the Keras model with new weights.

None of it but `build_backbone` imports TensorFlow, so a bad checkpoint is refused at once.
"""

import difflib
from types import ModuleType

from kerasllm.errors import PresetError
from kerasllm.models.families import bert

FAMILIES: dict[str, ModuleType] = {"bert": bert}


def find_family(config: dict, *, source: str) -> ModuleType:
    """Finds the family of a checkpoint and checks that its config can be computed exactly.

    Args:
        config: The checkpoint's `config.json`.
        source: Names the checkpoint in messages.

    Returns:
        The family's module.

    Raises:
        PresetError: If the checkpoint needs custom code, its `model_type` is missing or
            unknown, or its config asks for what the family does not support.
    """
    supported = f"Supported: {', '.join(sorted(FAMILIES))}."
    if "auto_map" in config or config.get("trust_remote_code"):
        raise PresetError(
            f"`{source}` needs code of its own (`auto_map` in its `config.json`), which kerasllm never runs. "
            f"Use a checkpoint of a supported `model_type`. {supported}"
        )
    model_type = config.get("model_type")
    if model_type is None:
        raise PresetError(
            f"The `config.json` of `{source}` has no `model_type`, so it cannot be known how to compute it. "
            f'If you know the architecture, add e.g. `"model_type": "bert"`. {supported}'
        )
    if model_type not in FAMILIES:
        close = difflib.get_close_matches(str(model_type), FAMILIES, n=3)
        hint = f"Did you mean {' or '.join(f'`{name}`' for name in close)}? " if close else ""
        raise PresetError(
            f"`{source}` is of the `model_type` {model_type!r}, which is unknown. {hint}{supported}"
        )
    family = FAMILIES[model_type]
    problems = family.check_config(config)
    if problems:
        raise PresetError(f"The `config.json` of `{source}` cannot be used: {'; '.join(problems)}.")
    return family
