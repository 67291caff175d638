"""Which tokens end what a model says."""

from typing import TYPE_CHECKING

from kerasllm.errors import PresetError

if TYPE_CHECKING:
    from kerasllm.models.presets import Preset

__all__ = ["start_id_of", "stop_ids_of"]


def stop_ids_of(preset: "Preset") -> tuple[int, ...]:
    """The tokens after which a checkpoint says no more.

    All that anyone names counts: `generation_config.json`, `config.json`, and those that its family ends
    turns with, where the tokenizer has them. A chat model whose config names the end of a document alone
    would otherwise never stop.

    Args:
        preset: A checkpoint with a language head.

    Raises:
        PresetError: If nothing names one.
    """
    tokenizer = preset.tokenizer
    found: list[int | None] = []
    for source in (preset.generation_config or {}, preset.config):
        stated = source.get("eos_token_id")
        found += stated if isinstance(stated, list) else [stated]
    found += [tokenizer.token_to_id(token) for token in preset.family.stop_tokens]
    known = [
        number for number in found if isinstance(number, int) and tokenizer.id_to_token(number) is not None
    ]
    if not known:
        raise PresetError(
            f"Nothing says which token ends a text of `{preset.handle}`: neither `eos_token_id` in its "
            f"`generation_config.json` or `config.json`, nor a token such as "
            f"{' or '.join(preset.family.stop_tokens) or '</s>'}. Add `eos_token_id` to its `config.json`."
        )
    return tuple(dict.fromkeys(known))


def start_id_of(preset: "Preset") -> int:
    """The token that stands for an empty prompt: the one that begins texts, or else one that ends them."""
    stated = preset.config.get("bos_token_id")
    if isinstance(stated, int) and preset.tokenizer.id_to_token(stated) is not None:
        return stated
    return stop_ids_of(preset)[-1]
