"""Every problem of a config is reported, with its place, what was received and what was expected."""

import logging
import textwrap

import pytest

from kerasllm.config.loading import load_config, load_data_config, read_config
from kerasllm.errors import ConfigError

MINIMAL = {"task": "text_classification", "preset": "tiny"}


@pytest.fixture
def write(tmp_path):
    def write_config(body, *, head="task: text_classification\npreset: tiny\n"):
        path = tmp_path / "run.yaml"
        path.write_text(head + textwrap.dedent(body), encoding="utf-8")
        return path

    return write_config


def problems(source, overrides=(), **kwargs):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides, **kwargs)
    return str(caught.value)


def test_a_file_a_dict_and_a_run_directory_give_the_same_config(write):
    path = write("training:\n  epochs: 5\n")
    (path.parent / "run").mkdir()
    path.rename(path.parent / "run" / "config.yaml")
    from_dict = load_config({**MINIMAL, "training": {"epochs": 5}})
    assert load_config(path.parent / "run") == load_config(path.parent / "run" / "config.yaml") == from_dict
    assert from_dict.training.epochs == 5
    assert from_dict.data.validation == 0.1


def test_all_problems_are_reported_at_once(write):
    path = write(
        """\
        epochs: 3
        data:
          validation: 1.5
          columns: {txt: review}
        training:
          epocs: 3
          batch_size: many
          batch_size: 8
        export: models
        """
    )
    message = problems(path, ["foo", "training.schedule=linaer"], require_data=True)
    assert f"`{path}` has 10 problems:" in message
    for sentence in [
        "`training.batch_size` (line 10): the key is already on line 9; keep one.",
        "`-s foo` is not an override; write `KEY=VALUE`, e.g. `-s training.epochs=5`.",
        "`epochs` (line 3) is not a field. Did you mean `training.epochs`?",
        "`data.validation` (line 5): received 1.5 (a number), expected a number above 0 and below 1, a file, "
        "a list (each a file) or none.",
        "`data.columns.txt` (line 6): 'txt' is not a key of `data.columns`. Did you mean 'text'?",
        "`training.epocs` (line 8) is not a field. Did you mean `training.epochs`?",
        "`training.schedule` (-s training.schedule=linaer): received 'linaer' (text), expected one of "
        "'linear', 'cosine', 'constant', 'inverse_sqrt', 'one_cycle'. Did you mean 'linear'?",
        "`export` (line 11): received 'models' (text), expected a section of `key: value` lines.",
        "`data.train` is missing: give the file to learn from, e.g. `-s data.train=reviews.csv`.",
    ]:
        assert sentence in message


def test_missing_fields_say_what_they_take():
    message = problems({})
    assert "`task` is missing: it takes one of 'text_classification', 'masked_language_modeling'." in message
    assert "`preset` is missing: it takes text." in message


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("[no, maybe]", 'received no (YAML reads it as false), expected text. Put it in quotes: "no".'),
        ("[On, off]", 'received On (YAML reads it as true), expected text. Put it in quotes: "On".'),
        ("[true, maybe]", 'received true (true or false), expected text. Put it in quotes: "true".'),
        ("[1, 2]", 'received 1 (a number), expected text. Put it in quotes: "1".'),
        ("[null, other]", 'received nothing, expected text. Put it in quotes: "null".'),
        ("[2026-11-23, x]", 'received 2026-11-23 (a date), expected text. Put it in quotes: "2026-11-23".'),
    ],
)
def test_labels_that_yaml_does_not_read_as_text_must_be_quoted(write, labels, sentence):
    assert f"`data.labels[0]` (line 4): {sentence}" in problems(write(f"data:\n  labels: {labels}\n"))


def test_keys_that_yaml_does_not_read_as_text_must_be_quoted(write):
    path = write("data:\n  labels: {no: bad, 1: good}\n")
    message = problems(path)
    assert (
        '`data.labels.no` (line 4): YAML does not read the key no as text; put it in quotes: "no".' in message
    )
    assert '`data.labels.1` (line 4): YAML does not read the key 1 as text; put it in quotes: "1".' in message


def test_quoted_labels_are_text(write):
    config = load_config(write('data:\n  labels: {"no": bad, "1": good, "5e-5": none}\n'))
    assert config.data.labels == {"no": "bad", "1": "good", "5e-5": "none"}


def test_a_number_that_yaml_reads_as_text_is_taken_with_a_message(write, caplog):
    with caplog.at_level(logging.WARNING, logger="kerasllm"):
        config = load_config(write("training:\n  learning_rate: 5e-5\n"))
    assert config.training.learning_rate == 5e-5
    assert caplog.messages == [
        "`training.learning_rate` (line 4) is written 5e-5, which YAML reads as text; taken as a number. "
        "Write 5.0e-05."
    ]


def test_a_number_on_the_command_line_needs_no_point(caplog):
    assert load_config(MINIMAL, ["training.learning_rate=3e-4"]).training.learning_rate == 3e-4
    assert caplog.messages == []


def test_a_fraction_in_quotes_is_no_file_name(write):
    assert load_config(write("data:\n  validation: 2e-1\n")).data.validation == 0.2


def test_octal_numbers_are_pointed_out(write):
    message = problems(write("training:\n  batch_size: 010\n"))
    assert (
        "`training.batch_size` (line 4): YAML reads 010 as 8, in base 8; leave out the leading zero."
        in message
    )


@pytest.mark.parametrize("none", ["none", "None", "null", "~", ""])
def test_none_means_none_where_a_field_may_be_none(write, none):
    config = load_config(write(f"data:\n  validation: {none}\n"), [f"export.path={none}"])
    assert config.data.validation is None
    assert config.export.path is None


def test_none_in_quotes_is_a_name(write):
    assert load_config(write('export:\n  path: "none"\n')).export.path == "none"


def test_quoted_booleans_are_text(write):
    message = problems(write('data:\n  remove_leaks: "true"\n'))
    assert "received 'true' (text), expected true or false. Leave out the quotes" in message


@pytest.mark.parametrize("value", [".inf", ".nan", "0", "-1.0"])
def test_learning_rates_are_positive_and_finite(write, value):
    message = problems(write(f"training:\n  learning_rate: {value}\n"))
    assert "`training.learning_rate` (line 4): received" in message
    assert "expected a number above 0 or 'auto'." in message


def test_booleans_are_no_numbers(write):
    assert "received true (true or false), expected a whole number" in problems(
        write("training:\n  epochs: true\n")
    )


def test_unknown_fields_without_a_close_match_point_to_the_reference():
    message = problems({**MINIMAL, "zebra": 1})
    assert (
        "`zebra` is not a field. The config has task, preset, output_dir, seed, seeds, data, augmentation, "
        "model, " in message
    )


def test_python_keys_that_are_no_text_are_named():
    assert "`data`: the key 3 is no text; put it in quotes." in problems({**MINIMAL, "data": {3: 4}})


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"data": {"labels": ["a", "b", "a"]}},
            r"`data.labels` names \['a'\] more than once; name each class once.",
        ),
        (
            {"data": {"validation": 0.5, "test": 0.5}},
            "`data.validation` and `data.test` together take 100% of the training rows; leave",
        ),
        (
            {"data": {"validation": None}, "training": {"patience": 1}},
            r"`training.patience` needs validation rows to watch, but `data.validation` is none; set",
        ),
        (
            {"training": {"loss": "focal", "label_smoothing": 0.1}},
            r"`training.label_smoothing` is 0.1, but the focal loss has none; set it to 0, or",
        ),
        (
            {"data": {"labels": ["a", "b"]}, "training": {"class_weights": {"a": 2.0, "c": 1.0}}},
            r"`training.class_weights` has \['a', 'c'\], but the classes are \['a', 'b'\]; give each",
        ),
    ],
)
def test_settings_that_do_not_fit_together(section, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config({**MINIMAL, **section})


# Overrides --------------------------------------------------------------------------------------------------


def test_overrides_are_yaml_and_win_over_the_source():
    config = load_config(
        {**MINIMAL, "data": {"labels": {"x": "a", "y": "b"}}},
        [
            "data.labels=[fresh, rotten]",
            "data.columns.text=review",
            "data.train=a=b.csv",
            "export.path=models/x",
        ],
    )
    assert config.data.labels == ["fresh", "rotten"]
    assert config.data.columns == {"text": "review"}
    assert config.data.train == "a=b.csv"
    assert config.export.path == "models/x"


def test_the_last_override_wins_and_the_source_stays_as_it_is():
    source = {**MINIMAL, "training": {"epochs": 1}}
    assert load_config(source, ["training.epochs=2", "training.epochs=3"]).training.epochs == 3
    assert source["training"] == {"epochs": 1}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epochs", "`-s training.epochs` is not an override; write `KEY=VALUE`"),
        ("=5", "`-s =5` is not an override"),
        ("training..epochs=5", "`-s training..epochs=5` is not an override"),
        (
            "export.path=a: b: c",
            "the value is not YAML: line 1, column 5: mapping values are not allowed here",
        ),
        ("data.train.x=1", "`-s data.train.x=1`: `data.train` is 'a.csv' and has no fields."),
        (
            "data.labels={no: a}",
            "`-s data.labels={no: a}`: `no`: YAML does not read the key no as text; put it in",
        ),
        (
            "training.epocs=1",
            "`training.epocs` (-s training.epocs=1) is not a field. Did you mean `training.epochs`?",
        ),
        ("trainin.epochs=1", "`trainin` (-s trainin.epochs=1) is not a field. Did you mean `training`?"),
        (
            "training.epochs=five",
            "(-s training.epochs=five): received 'five' (text), expected a whole number of at",
        ),
    ],
)
def test_overrides_that_cannot_be_applied(override, sentence):
    assert sentence in problems({**MINIMAL, "data": {"train": "a.csv"}}, [override])


def test_an_override_mends_what_is_wrong_in_the_file(write):
    path = write("training:\n  epochs: many\n")
    assert load_config(path, ["training.epochs=1"]).training.epochs == 1


def test_data_settings_alone():
    config = load_data_config(["data.columns.text=review"], train="a.csv")
    assert (config.train, config.columns, config.validation) == ("a.csv", {"text": "review"}, None)
    with pytest.raises(ConfigError, match=r"`-s training.epochs=2`: only fields of `data` matter here"):
        load_data_config(["training.epochs=2"])


# Files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected `key: value` lines, found nothing."),
        (b"- a\n- b\n", "expected `key: value` lines, found a list."),
        (b"task: [a\n", "is not YAML: line 2, column 1: expected ',' or ']'"),
        (b"task: \xff\n", "is not UTF-8 at byte 6; save it as UTF-8."),
        (b"\ttask: a\n", "is not YAML: line 1, column 1: found character '\\t'"),
        (b"a: " + b"[" * 5000, "is not YAML"),
        (b"x" * (1 << 20) + b"yy", "has 1,048,578 bytes; a config has less than 1,048,576."),
        (
            b"a: !!python/object/apply:os.system [ls]\n",
            "python/object/apply:os.system is not allowed",
        ),
        (b"a: !!python/name:os.system x\n", "could not determine a constructor for the tag"),
        (b"? [a, b]\n: 1\n", "a key must be a word, not a list or a mapping."),
        (b"a: 2026-13-99\n", "put it in quotes if it is meant as text"),
    ],
)
def test_files_that_are_no_configs(tmp_path, content, sentence):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    message = problems(path)
    assert str(path) in message
    assert sentence in message


def test_anchors_cannot_make_a_small_file_fill_memory(tmp_path):
    path = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path.write_text("\n".join(lines))
    assert "it has more than 100,000 values" in problems(path)


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("task: text_classification\npreset: tiny\n", encoding="utf-8-sig")
    assert load_config(path).preset == "tiny"


def test_read_config_gives_what_is_written(write):
    path = write("training:\n  epochs: many\n")
    assert read_config(path)["training"] == {"epochs": "many"}
    with pytest.raises(ConfigError, match=r"the key is already on line 3; keep one"):
        read_config(write("data: {}\ndata: {}\n"))


def test_adapters_and_unfreezing_exclude_each_other():
    source = {"task": "text_classification", "preset": "tiny", "training": {"unfreeze": [1]}}
    with pytest.raises(ConfigError, match=r"which `model\.lora` leaves frozen; set one"):
        load_config(source, ["model.lora.rank=4"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora.rank=0", r"`model\.lora\.rank` .* expected a whole number of at least 1"),
        ("model.lora.alpha=0", r"`model\.lora\.alpha` .* expected a number above 0"),
        ("model.lora.dropout=1.0", r"`model\.lora\.dropout` .* below 1"),
        ("model.lora.roles=[qury]", r"`model\.lora\.roles\[0\]` .* Did you mean 'query'"),
        ("model.lora.roles=[]", r"`model\.lora\.roles`"),
        ("model.lora.quantize_base=int4", r"`model\.lora\.quantize_base` .* expected one of 'none', 'int8'"),
        ("model.lora.rnk=8", r"`model\.lora\.rnk` .* Did you mean `model\.lora\.rank`"),
        ("lora_rank=8", r"Did you mean `model\.lora\.rank`"),
    ],
)
def test_wrong_settings_of_adapters_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"task": "text_classification", "preset": "tiny"}, [override])


def test_an_override_without_a_space_after_the_colon_says_what_to_write():
    with pytest.raises(ConfigError, match=r"write `\{a: 2\}`"):
        load_config("text_classification/sentiment_minilm", overrides=["training.class_weights={a:2}"])


def test_layers_that_are_trained_cannot_be_frozen_again():
    with pytest.raises(ConfigError, match=r"do not fall, such as \[1, 3\]"):
        load_config("text_classification/sentiment_minilm", overrides=["training.unfreeze=[3, 1]"])
