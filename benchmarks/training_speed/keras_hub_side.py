"""`BertTextClassifier.fit` as a user would write it, with KerasHub's own preprocessor."""

import json
import time

import inputs
import numpy as np


class KerasHub:
    """Trains a slice of steps at a time.

    Args:
        job: `"reviews"` or `"long"`.
        sequence_length: What texts are padded to; KerasHub's default is 512.
    """

    def __init__(self, job, sequence_length):
        import keras_hub

        _, preset = inputs.minilm()
        ids = json.loads(preset.tokenizer.json)["model"]["vocab"]
        tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=sorted(ids, key=ids.get), lowercase=True)
        preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length)
        config = preset.config
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            hidden_dim=config["hidden_size"],
            intermediate_dim=config["intermediate_size"],
            max_sequence_length=config["max_position_embeddings"],
        )
        self.model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
        texts, targets = inputs.texts_of(job)
        self.texts, self.targets = np.asarray(texts, dtype=object), targets
        self.order = np.random.default_rng(inputs.SEED).permutation(len(texts))
        self.done = 0

    def run(self, steps):
        """Steps, input included: how many texts, and seconds."""
        import tensorflow as tf

        size = steps * inputs.BATCH
        rows = np.take(self.order, range(self.done, self.done + size), mode="wrap")
        self.done += size
        data = tf.data.Dataset.from_tensor_slices((self.texts[rows].tolist(), self.targets[rows]))
        began = time.perf_counter()
        self.model.fit(data.batch(inputs.BATCH), epochs=1, verbose=0)
        return size, time.perf_counter() - began

    def peak(self):
        """Not measured."""
