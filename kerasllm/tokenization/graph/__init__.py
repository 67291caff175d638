"""A `tokenizer.json` compiled into TensorFlow operations; only imported where a graph is made."""
