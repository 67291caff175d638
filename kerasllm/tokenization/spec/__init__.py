"""What a `tokenizer.json` says, component by component; what cannot be run exactly is refused by name."""

from kerasllm.tokenization.spec.specification import Specification, parse_specification

__all__ = ["Specification", "parse_specification"]
