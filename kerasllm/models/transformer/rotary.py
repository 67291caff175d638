"""Rotary positions and their stretched kinds, as transformers' `modeling_rope_utils.py` computes them."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.models.transformer.settings import RotarySettings, as_settings, to_dict

__all__ = ["RotaryPositions", "rotate"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RotaryPositions(keras.layers.Layer):
    """Cosines and sines of positions, float32, each of shape `(batch, sequence, dim / 2)`.

    Args:
        settings: `RotarySettings`, or `to_dict` of it.

    Call arguments:
        positions: Integers of shape `(batch, sequence)`.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = settings = as_settings(settings, RotarySettings)
        self._factor = _attention_factor(settings)

    def call(self, positions):
        """See the class."""
        angles = tf.cast(positions, tf.float32)[..., None] * self._frequencies(positions)
        return tf.cos(angles) * self._factor, tf.sin(angles) * self._factor

    def compute_output_shape(self, input_shape):
        """Twice the positions' shape with half the rotated numbers behind."""
        shape = (*input_shape, self.settings.dim // 2)
        return shape, shape

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "settings": to_dict(self.settings)}

    def _frequencies(self, positions: Any) -> Any:
        settings = self.settings
        if settings.kind == "dynamic":
            # The longest row of the batch decides for all, as in transformers.
            return _dynamic(settings, tf.reduce_max(positions) + 1)
        if settings.kind == "longrope":
            length = tf.reduce_max(positions) + 1
            original = settings.options["original_max_position_embeddings"]
            short, long = (
                _plain(settings) / np.asarray(settings.options[name], np.float64) for name in _LONGROPE
            )
            return tf.where(length > original, tf.constant(long, tf.float32), tf.constant(short, tf.float32))
        return tf.constant(frequencies(settings), tf.float32)


_LONGROPE = ("short_factor", "long_factor")


def rotate(heads: Any, cosines: Any, sines: Any) -> Any:
    """Turns the first numbers of each head's vectors, in pairs half their count apart.

    Args:
        heads: Of shape `(batch, heads, sequence, head_dim)`.
        cosines: What `RotaryPositions` gave first.
        sines: What it gave second.
    """
    half = cosines.shape[-1]
    cosines, sines = cosines[:, None], sines[:, None]
    values = tf.cast(heads, tf.float32)
    first, second, rest = values[..., :half], values[..., half : 2 * half], values[..., 2 * half :]
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    if 2 * half < heads.shape[-1]:
        turned.append(rest)
    return tf.cast(tf.concat(turned, axis=-1), heads.dtype)


def frequencies(settings: RotarySettings) -> np.ndarray:
    """Angle by which each pair turns from one position to the next, float64[dim / 2].

    For the kinds that do not depend on the length of the text.
    """
    plain = _plain(settings)
    if settings.kind == "linear":
        return plain / settings.options["factor"]
    if settings.kind == "llama3":
        return _llama3(plain, settings.options)
    if settings.kind == "yarn":
        return _yarn(plain, settings)
    return plain


def _plain(settings: RotarySettings) -> np.ndarray:
    exponents = np.arange(0, settings.dim, 2, dtype=np.float64) / settings.dim
    return np.asarray(1.0 / np.float64(settings.theta) ** exponents)


def _dynamic(settings: RotarySettings, length: Any) -> Any:
    """Source: https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr (dynamic NTK scaling)."""
    factor, most = settings.options["factor"], settings.max_positions
    length = tf.cast(tf.maximum(length, most), tf.float32)
    power = settings.dim / (settings.dim - 2)
    theta = settings.theta * ((factor * length / most) - (factor - 1)) ** power
    exponents = tf.constant(np.arange(0, settings.dim, 2) / settings.dim, tf.float32)
    return 1.0 / theta**exponents


def _llama3(plain: np.ndarray, options: Any) -> np.ndarray:
    """Llama 3.1: long waves are stretched, short ones are not, and between the two goes a slope."""
    original, factor = options["original_max_position_embeddings"], options["factor"]
    low, high = options["low_freq_factor"], options["high_freq_factor"]
    waves = 2 * math.pi / plain
    share = np.clip((original / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray((1 - share) * plain / factor + share * plain)


def _yarn(plain: np.ndarray, settings: RotarySettings) -> np.ndarray:
    """YaRN (Peng et al., 2023, https://arxiv.org/abs/2309.00071)."""
    options, dim = settings.options, settings.dim
    original = options["original_max_position_embeddings"]
    factor = options.get("factor") or settings.max_positions / original

    def place(rotations: float) -> float:
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(settings.theta))

    low, high = place(options.get("beta_fast") or 32), place(options.get("beta_slow") or 1)
    if options.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0.0, 1.0)
    return np.asarray(plain / factor * ramp + plain * (1 - ramp))


def _attention_factor(settings: RotarySettings) -> float:
    """What cosines and sines are multiplied with."""
    options = settings.options
    if settings.kind not in ("yarn", "longrope"):
        return 1.0
    if options.get("attention_factor") is not None:
        return float(options["attention_factor"])
    original = options["original_max_position_embeddings"]
    factor = options.get("factor") or settings.max_positions / original
    if settings.kind == "longrope":
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    if options.get("mscale") and options.get("mscale_all_dim"):
        return _mscale(factor, options["mscale"]) / _mscale(factor, options["mscale_all_dim"])
    return _mscale(factor)


def _mscale(factor: float, mscale: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
