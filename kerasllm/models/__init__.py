"""Pretrained checkpoints, the Keras models built from them, and back to files.

Start at `kerasllm.models.presets.Preset` and `kerasllm.models.builders.build_classifier`.
"""
