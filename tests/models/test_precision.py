"""The dtype policy that a device computes well."""

import pytest

from kerasllm.errors import ConfigError
from kerasllm.models.precision import cpu_policy, gpu_policy, resolve_dtype_policy


@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_policy_asked_for_is_taken(name):
    assert resolve_dtype_policy(name) == name


@pytest.mark.parametrize("name", ["auto", None])
def test_without_a_gpu_the_cpu_decides(name):
    assert resolve_dtype_policy(name) == cpu_policy()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f"}, "float32"),
        ({"avx2", "avx512f", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16", "amx_tile"}, "mixed_bfloat16"),
        (set(), "float32"),
    ],
)
def test_a_cpu_that_multiplies_bfloat16_uses_it(flags, expected):
    assert cpu_policy(flags) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(7, 0)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([(8, 6), (7, 0)], "mixed_float16"),
        ([(0, 0)], "float32"),
    ],
)
def test_the_weakest_gpu_decides(capabilities, expected):
    assert gpu_policy(capabilities) == expected


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("bfloat16", "mixed_bfloat16"),
        ("fp16", "mixed_float16"),
        ("mixed_bf16", "mixed_bfloat16"),
        ("flaot32", "float32"),
    ],
)
def test_an_unknown_policy_is_answered_with_the_nearest(name, close):
    expected = rf"The dtype policy '{name}' is unknown. Did you mean `{close}`\? Choose one of auto, float32"
    with pytest.raises(ConfigError, match=expected):
        resolve_dtype_policy(name)
