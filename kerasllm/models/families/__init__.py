"""One file a family of models: how its config is read and where its tensors go.

`FAMILIES` maps the `model_type` of a `config.json` to the `Family` that knows it. None of it imports
TensorFlow, so a bad checkpoint is refused at once.
"""

import difflib

from kerasllm.errors import PresetError
from kerasllm.models.families.albert import ALBERT
from kerasllm.models.families.bart import BART
from kerasllm.models.families.bert import BERT
from kerasllm.models.families.deberta import DeBERTaV2
from kerasllm.models.families.distilbert import DistilBERT
from kerasllm.models.families.electra import ELECTRA
from kerasllm.models.families.family import Family
from kerasllm.models.families.gemma import Gemma, Gemma2, Gemma3
from kerasllm.models.families.gpt2 import GPT2
from kerasllm.models.families.gpt_neox import GPTNeoX
from kerasllm.models.families.llama import Llama
from kerasllm.models.families.mistral import Mistral, Mixtral
from kerasllm.models.families.opt import OPT
from kerasllm.models.families.phi3 import Phi3
from kerasllm.models.families.qwen import Qwen2, Qwen3
from kerasllm.models.families.roberta import RoBERTa, XLMRoBERTa
from kerasllm.models.families.smollm3 import SmolLM3
from kerasllm.models.families.t5 import MT5, T5

__all__ = ["FAMILIES", "find_family"]

_ENCODERS = (BERT(), DistilBERT(), RoBERTa(), XLMRoBERTa(), ALBERT(), ELECTRA(), DeBERTaV2())
_DECODERS = (
    *(GPT2(), GPTNeoX(), OPT(), Llama(), Mistral(), Mixtral(), Qwen2(), Qwen3(), Phi3()),
    *(Gemma(), Gemma2(), Gemma3(), SmolLM3()),
)
_ENCODER_DECODERS = (T5(), MT5(), BART())
FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (*_ENCODERS, *_DECODERS, *_ENCODER_DECODERS)
}


def find_family(config: dict, *, source: str) -> Family:
    """Finds the family of a checkpoint and checks that its config can be computed exactly.

    Args:
        config: The checkpoint's `config.json`.
        source: Names the checkpoint in messages.

    Returns:
        The family.

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
