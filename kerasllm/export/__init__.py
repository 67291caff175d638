"""From a task model to a SavedModel, text in and text out, that a stock TF Serving serves."""
