"""Regular expressions as the `tokenizers` library understands them, read into trees for the graph."""

from kerasllm.tokenization.patterns.nodes import Pattern
from kerasllm.tokenization.patterns.parser import parse_pattern
from kerasllm.tokenization.patterns.simple import class_pattern, literal_pattern

__all__ = ["Pattern", "class_pattern", "literal_pattern", "parse_pattern"]
