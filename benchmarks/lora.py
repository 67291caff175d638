"""LoRA against full fine-tuning on a language model: time of a step and peak memory.

The model has GPT-2's shape (12 layers of 768, 50,257 tokens, 124 million weights, random ones), the batch 4
texts of 512 tokens, the loss is the cross-entropy of the next token in chunks, the optimizer our AdamW, which
runs fused in one graph with the gradients. Adapters are of rank 8 on query and value, as by default; `qlora`
has them on a backbone in 8 bits, `dora` learns the lengths of columns, too.

Each contestant is a process of its own. The parent asks one after the other for a step; times are medians over
the rounds, memory is the peak of the resident set above what the process held before the model was built.

    python benchmarks/lora.py [--rounds 9] [--threads 2] [--layers 12] [--batch 4] [--length 512]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONTESTANTS = ("full", "lora", "dora", "qlora")
RANK = 8


def built(arguments):
    """A GPT-2 with random weights and its language model's head, tied."""
    import keras

    from kerasllm.models.families import FAMILIES
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.transformer.backbone import TransformerBackbone

    config = {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_embd": arguments.dim,
        "n_layer": arguments.layers,
        "n_head": arguments.dim // 64,
        "n_positions": 1024,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    family = FAMILIES["gpt2"]
    keras.utils.set_random_seed(0)
    config = family.full_config(config) if hasattr(family, "full_config") else config
    backbone = TransformerBackbone(family.backbone(config), dtype=arguments.dtype)
    head = family.head(config, "causal_language", 0, tied=True)
    return ModelWithHead(backbone, head, kind="causal_language", checkpoint_config=config, name="model")
