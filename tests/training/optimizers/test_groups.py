"""Parameter groups, layer-wise decay of the rate, and what is never decayed."""

import pytest

from kerasllm.errors import ConfigError
from kerasllm.training.optimizers.depth import distances_from_top
from kerasllm.training.optimizers.groups import NO_DECAY, ParameterGroup, as_groups, settings_of

PATHS = [
    "token_embedding/embeddings",
    "encoder_embeddings/norm/gamma",
    "encoder_layer_0/attention/query/kernel",
    "encoder_layer_0/attention/query/bias",
    "encoder_layer_1/attention_norm/beta",
    "encoder_layer_1/feed_forward/up/kernel",
    "pooler/kernel",
    "head/output/kernel",
]


def test_distances_count_from_the_head_down():
    assert distances_from_top(PATHS) == [3, 3, 2, 2, 1, 1, 0, 0]


def test_each_stack_counts_from_its_own_top():
    paths = [
        "token_embedding/embeddings",
        "encoder_relative_bias/embeddings",
        "encoder_layer_0/up/kernel",
        "encoder_layer_1/up/kernel",
        "encoder_norm/gamma",
        "decoder_layer_0/cross_attention/key/kernel",
        "decoder_layer_3/cross_attention/key/kernel",
        "decoder_norm/gamma",
    ]
    assert distances_from_top(paths) == [5, 5, 2, 1, 0, 4, 1, 0]


def test_other_libraries_names_of_layers_are_read():
    paths = ["embeddings_layer_norm/gamma", "transformer_layer_9/_self_attention_layer/query/kernel"]
    assert distances_from_top([*paths, "layer_normalization_4/gamma", "dense_12/kernel"]) == [11, 1, 0, 0]


def test_layers_without_numbers_are_an_error():
    with pytest.raises(ConfigError, match=r"none of the 2 variables has one; the first is `dense_1/kernel`"):
        distances_from_top(["dense_1/kernel", "dense_2/kernel"])


def test_the_rate_decays_from_layer_to_layer():
    multipliers = [settings.multiplier for settings in settings_of(PATHS, (), layer_decay=0.5)]
    assert multipliers == [0.125, 0.125, 0.25, 0.25, 0.5, 0.5, 1.0, 1.0]


def test_the_later_group_decides_what_it_sets():
    groups = as_groups(
        [
            {"pattern": "encoder_layer", "learning_rate_multiplier": 0.1, "weight_decay": 0.3},
            {"pattern": "bias", "weight_decay": 0.0},
            {"pattern": "^encoder_layer_1/", "learning_rate_multiplier": 0.2, "frozen": True},
        ]
    )
    chosen = settings_of(PATHS, groups, layer_decay=0.5)
    assert [s.multiplier for s in chosen] == [0.125, 0.125, 0.025, 0.025, 0.1, 0.1, 1.0, 1.0]
    assert [s.weight_decay for s in chosen] == [None, None, 0.3, 0.0, 0.3, 0.3, None, None]
    assert [s.frozen for s in chosen] == [False] * 4 + [True] * 2 + [False] * 2


def test_norms_and_biases_are_the_ones_without_decay():
    group = ParameterGroup(NO_DECAY, weight_decay=0.0)
    more = [
        "layer_normalization_3/scale",
        "normal_layer/kernel",
        "encoder_relative_bias/embeddings",
        "lora/b",
    ]
    chosen = settings_of([*PATHS, *more], (group,))
    without = [path for path, s in zip([*PATHS, *more], chosen, strict=True) if s.weight_decay == 0.0]
    assert without == [PATHS[1], PATHS[3], PATHS[4], more[0], more[2]]


def test_a_pattern_that_matches_nothing_names_close_variables():
    message = (
        r"The pattern `\^encodr_layer_1/` is found in the path of none of the 8 variables that can be "
        r"trained\. Close ones: `encoder_layer_1`, `encoder_layer_0`"
    )
    with pytest.raises(ConfigError, match=message):
        settings_of(PATHS, as_groups([{"pattern": "^encodr_layer_1/", "frozen": True}]))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            {"pattern": "a", "lr": 0.1},
            r"has the unknown keys \['lr'\]; its keys are \['pattern', 'learning_rate",
        ),
        ({"weight_decay": 0.1}, r"has no `pattern`"),
        ({"pattern": "layer_(0"}, r"`layer_\(0` is no regular expression \(missing \)"),
        ({"pattern": "a", "weight_decay": -0.1}, r"`weight_decay` -0\.1; expected a number from 0 up"),
        ({"pattern": "a", "learning_rate_multiplier": 0.0}, r"say `frozen: true` instead"),
    ],
)
def test_wrong_groups_are_errors(group, message):
    with pytest.raises(ConfigError, match=message):
        as_groups([group])


@pytest.mark.parametrize("layer_decay", [0.0, 1.5, -1.0])
def test_a_layer_decay_out_of_range_is_an_error(layer_decay):
    with pytest.raises(
        ConfigError, match=r"`layer_decay` is .*; expected more than 0 and at most 1, such as 0\.9"
    ):
        settings_of(PATHS, (), layer_decay=layer_decay)
