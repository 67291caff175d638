"""Which numbers a device computes well: the Keras dtype policy, chosen or checked."""

import difflib
from collections.abc import Collection
from pathlib import Path

from kerasllm.errors import ConfigError

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")

_FULL_NAMES = {
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
    "bf16": "mixed_bfloat16",
    "fp16": "mixed_float16",
}


def resolve_dtype_policy(name: str | None = "auto") -> str:
    """Checks the name of a dtype policy, or chooses one for this machine.

    `"auto"` asks the GPUs for their compute capability: all at 8.0 or more (A100 and
    later) multiply bfloat16 natively, all at 7.0 or more (V100, T4) float16. Without a
    GPU the CPU decides: see `cpu_policy`.

    Args:
        name: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, or `"auto"`, which
            `None` means too. Defaults to `"auto"`.

    Returns:
        A name that Keras knows.

    Raises:
        ConfigError: If the name is unknown.

    Example:
    >>> resolve_dtype_policy("mixed_bfloat16")
    'mixed_bfloat16'
    """
    if name in POLICIES:
        return str(name)
    if name is not None and name != "auto":
        raise ConfigError(_unknown(name))
    capabilities = _compute_capabilities()
    if capabilities is None:
        return cpu_policy()
    return gpu_policy(capabilities)


def gpu_policy(capabilities: list[tuple[int, int]]) -> str:
    """Chooses the policy for GPUs of these compute capabilities; the weakest decides.

    >>> gpu_policy([(9, 0), (7, 5)])
    'mixed_float16'
    """
    weakest = min(capabilities, default=(0, 0))
    if weakest >= (8, 0):
        return "mixed_bfloat16"
    if weakest >= (7, 0):
        return "mixed_float16"
    return "float32"


def cpu_policy(flags: Collection[str] | None = None) -> str:
    """Chooses the policy for a CPU: bfloat16 where the CPU multiplies it natively, which makes steps shorter.

    `benchmarks/fine_tuning.py` and `training_speed` compare accuracy and speed with float32.

    Args:
        flags: The CPU's features, as Linux names them. Defaults to those of this machine.

    >>> cpu_policy({"avx2"})
    'float32'
    """
    flags = _cpu_flags() if flags is None else flags
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _cpu_flags() -> set[str]:
    """Features of this machine's CPU; none where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _compute_capabilities() -> list[tuple[int, int]] | None:
    """Compute capabilities of the visible GPUs, `None` without a GPU; (0, 0) where one does not say."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [detail.get("compute_capability", (0, 0)) for detail in details]


def _unknown(name: object) -> str:
    known = ["auto", *POLICIES]
    close = _FULL_NAMES.get(str(name)) or next(iter(difflib.get_close_matches(str(name), known, n=1)), None)
    hint = f"Did you mean `{close}`? " if close else ""
    return f"The dtype policy {name!r} is unknown. {hint}Choose one of {', '.join(known)}."
