"""SmolLM3.

Source: https://huggingface.co/blog/smollm3; names, defaults and numerics as in `transformers/models/smollm3`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import HeadFormat
from kerasllm.models.families.llama import Llama, decoder_heads
from kerasllm.models.transformer.settings import StackSettings

__all__ = ["SmolLM3"]


class SmolLM3(Llama):
    """Llama whose every fourth layer has no rotary positions."""

    model_type = "smollm3"
    title = "SmolLM3"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Llama.defaults,
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "no_rope_layer_interval": 4,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
    }
    base_architecture = "SmolLM3Model"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("SmolLM3")
    stop_tokens: ClassVar[tuple[str, ...]] = ("<|im_end|>", "<|end_of_text|>")
    theta = 2e6

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        layers = range(config["num_hidden_layers"])
        turned = config.get("no_rope_layers")  # 1 where there *are* rotary positions
        if turned is None:
            turned = [(i + 1) % config["no_rope_layer_interval"] for i in layers]
        without = tuple(i for i in layers if not turned[i])
        return super().stack(config, without_rotary=without, **changes)

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """See `Llama.windows`: the layers without rotary positions slide."""
        if not config["use_sliding_window"] or config.get("sliding_window") is None:
            return ()
        if config.get("layer_types"):
            return self.layer_windows(config)
        without = self.stack({**config, "use_sliding_window": False}).without_rotary
        window, layers = config["sliding_window"], range(config["num_hidden_layers"])
        return tuple(window if i in without else None for i in layers)
