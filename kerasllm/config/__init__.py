"""Run configs: schema, loading, defaults; imports no TensorFlow."""
