"""The section `augmentation`: a list of layers by name, all problems at once, close matches."""

import pytest

from kerasllm.config.augmentation import AUGMENTATIONS
from kerasllm.config.dumping import dump_config
from kerasllm.config.loading import load_config
from kerasllm.errors import ConfigError

MINIMAL = {"task": "text_classification", "preset": "x"}


def load(entries, overrides=()):
    return load_config({**MINIMAL, "augmentation": entries}, overrides)


def problems(entries, overrides=()):
    with pytest.raises(ConfigError) as error:
        load(entries, overrides)
    return str(error.value)


def test_every_layer_has_a_name_and_defaults(tmp_path):
    config = load([{"name": name} for name in AUGMENTATIONS])
    assert [entry.name for entry in config.augmentation] == list(AUGMENTATIONS)
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(config))
    assert load_config(file).augmentation == config.augmentation
    assert "- name: random_deletion\n  rate: 0.1\n" in dump_config(config)
    assert all(field.description for model in AUGMENTATIONS.values() for field in model.model_fields.values())


def test_it_is_set_from_the_shell():
    override = "augmentation=[{name: random_deletion, rate: 0.2, protected: [not, never]}, {name: mixup}]"
    config = load([], [override])
    assert [entry.name for entry in config.augmentation] == ["random_deletion", "mixup"]
    assert config.augmentation[0].protected == ["not", "never"]


def test_all_problems_are_said_at_once_with_what_was_meant():
    message = problems(
        [
            {"name": "random_deleton"},
            {"name": "mixup", "alfa": 1.0},
            {"rate": 0.1},
            {"name": "random_swap", "rate": 2.0, "protect": ["a"]},
            {"name": "cutoff", "kind": "tokn"},
            {"name": "random_typo", "operations": ["swop"]},
            "random_swap",
        ]
    )
    assert "has 8 problems" in message
    assert (
        "`augmentation[0]`: received the `name` 'random_deleton', expected one of 'cutoff', 'mixup'"
        in message
    )
    assert "Did you mean 'random_deletion'?" in message
    assert "`augmentation[1].alfa` is not a field. Did you mean `alpha`?" in message
    assert "`augmentation[2]`: the `name` is missing, expected one of" in message
    assert (
        "`augmentation[3].rate`: received 2.0 (a number), expected a number of at least 0 and below 1."
        in message
    )
    assert "`augmentation[3].protect` is not a field. Did you mean `protected`?" in message
    assert "Did you mean 'token'?" in message
    assert "Did you mean 'swap'?" in message
    assert "Write `{name: random_swap}`." in message


def test_a_field_of_another_layer_is_refused_with_those_there_are():
    message = problems([{"name": "mixup", "source": "uniform"}])
    assert "`augmentation[0].source` is not a field. There is alpha, name." in message


def test_what_cannot_be_together_is_said():
    assert "`augmentation` has `mixup` more than once" in problems([{"name": "mixup"}, {"name": "mixup"}])
    message = problems([{"name": "random_replacement", "source": "synonyms"}])
    assert "`augmentation[0]` has the source 'synonyms', but no `synonyms`; give a mapping" in message
    assert "expected a list (each a section of `key: value` lines)" in problems({"name": "mixup"})
