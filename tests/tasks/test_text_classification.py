"""The whole road on a tiny checkpoint, for each kind of classifier."""

import json
import os

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.data.labels import LabelMap
from kerasllm.errors import DataError, LabelError, ResourceError, RunDirectoryError
from kerasllm.models.builders import build_classifier
from kerasllm.testing import tiny_pairs, tiny_reviews, tiny_topics

KINDS = ("single", "pair", "multi")
ROWS = {"single": tiny_reviews, "pair": tiny_pairs, "multi": tiny_topics}


def inputs(kind, number=24):
    rows = ROWS[kind](number, seed=5)
    if kind == "pair":
        return [(row["text"], row["text_pair"]) for row in rows]
    return [row["text"] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(trained, kind):
    history = trained(kind).history
    assert history[-1]["loss"] < history[0]["loss"] - 0.05


def test_a_learnable_task_is_learnt(trained):
    evaluation = trained("single").evaluate(tiny_reviews(200, seed=7))
    assert evaluation.accuracy > 0.85
    low, high = evaluation.intervals["accuracy"]
    assert low <= evaluation.accuracy <= high


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_answers_bit_for_bit(trained, kind, tmp_path):
    classifier = trained(kind)
    classifier.save(tmp_path / "model")
    again = kerasllm.load(tmp_path / "model")
    np.testing.assert_array_equal(classifier.scores(inputs(kind)), again.scores(inputs(kind)))
    assert again.labels == classifier.labels
    assert repr(again) == repr(classifier)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_directory_loads_with_the_same_answers(trained, kind):
    classifier = trained(kind)
    again = kerasllm.load(classifier.run_directory)
    np.testing.assert_array_equal(classifier.scores(inputs(kind)), again.scores(inputs(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_gives_the_same_answers(trained, kind, tmp_path):
    classifier = trained(kind)
    rows = inputs(kind)
    exported = classifier.export(tmp_path / "models", probes=rows[:4])
    assert (tmp_path / "models" / "1" / "saved_model.pb").is_file()
    columns = list(zip(*rows, strict=True)) if kind == "pair" else [rows]
    answers = exported.predict(dict(zip(("text", "text_pair"), map(list, columns), strict=False)))
    np.testing.assert_allclose(answers["scores"], classifier.scores(rows), atol=1e-6)
    labels = [label.decode() if isinstance(label, bytes) else label for label in answers["label"]]
    assert labels == [result.label for result in classifier.predict(rows)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_does_not_change_the_answer(trained, kind):
    classifier, rows = trained(kind), inputs(kind)
    together = classifier.scores(rows)
    np.testing.assert_allclose(together, classifier.scores(rows, batch_size=5), atol=1e-6)
    alone = np.concatenate([classifier.scores([row]) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_predict_gives_label_score_and_all_scores(trained):
    classifier = trained("single")
    result = classifier.predict("the film is truly wonderful")[0]
    assert result.label in classifier.labels
    assert set(result.scores) == set(classifier.labels)
    assert result.score == max(result.scores.values())
    assert sum(result.scores.values()) == pytest.approx(1.0, abs=1e-5)
    assert classifier.predict([]) == []


@pytest.mark.parametrize("text", ["", " ", "\x00", "a " * 100_000, "[SEP]", "é" * 300, "\u2028", "👩‍👩‍👧‍👦"])
def test_odd_texts_are_answered(trained, text):
    assert 0 <= trained("single").predict([text])[0].score <= 1


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["a", "b"], ("a", "b")])
def test_what_is_no_text_is_refused(trained, text):
    with pytest.raises(DataError, match=r"Input 1 is .*but this classifier takes a string each"):
        trained("single").predict(["fine", text])


def test_a_pair_classifier_wants_pairs(trained):
    with pytest.raises(DataError, match=r"Input 0 is 'alone' \(str\), but .* a pair of strings each"):
        trained("pair").predict(["alone"])


def test_evaluation_refuses_a_label_it_does_not_know(trained):
    rows = [*tiny_reviews(4), {"text": "the film is truly odd", "label": "mixed"}]
    with pytest.raises(LabelError, match="mixed"):
        trained("single").evaluate(rows)


def test_labels_that_training_renamed_are_understood_in_other_files(preset, tmp_path):
    names = {"negative": "rotten", "positive": "fresh"}
    classifier = kerasllm.finetune(
        preset, tiny_reviews(40), epochs=1, output_dir=tmp_path / "run", config={"data": {"labels": names}}
    )
    assert classifier.labels == ("rotten", "fresh")
    again = kerasllm.load(tmp_path / "run")
    raw = tiny_reviews(20, seed=9)
    renamed = [{**row, "label": names[row["label"]]} for row in raw]
    assert (
        again.evaluate(raw).accuracy == again.evaluate(renamed).accuracy == classifier.evaluate(raw).accuracy
    )


def test_columns_that_training_was_told_are_known_in_other_files(preset, tmp_path):
    rows = [{"question": r["text"], "answer": r["text_pair"], "label": r["label"]} for r in tiny_pairs(40)]
    columns = {"text": "question", "text_pair": "answer"}
    kerasllm.finetune(preset, rows, columns=columns, epochs=1, output_dir=tmp_path / "run")
    again = kerasllm.load(tmp_path / "run")
    assert again.evaluate(rows).num_rows == 40
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["text_pair"] for row in again.predict_file(path)] == [row["answer"] for row in rows]
    path.write_text('{"question": "Is it open?"}\n')
    with pytest.raises(DataError, match=r"one column was read as text, but .* takes pairs. Name both, e.g."):
        list(again.predict_file(path))


def test_predict_file_streams_json_lines(trained, tmp_path):
    texts = inputs("single", 30)
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = list(trained("single").predict_file(path, batch_size=7))
    assert [row["text"] for row in rows] == texts
    expected = trained("single").predict(texts)
    assert [row["label"] for row in rows] == [result.label for result in expected]
    assert json.loads(json.dumps(rows[0]))["score"] == pytest.approx(expected[0].score, abs=1e-6)


def test_a_run_directory_says_what_ran(trained):
    run = trained("single").run_directory
    names = {path.name for path in run.iterdir()}
    wanted = "config.yaml manifest.json history.csv metrics.json report.html checkpoints model"
    assert set(wanted.split()) <= names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["state"] == "finished"
    assert set(manifest["data_sha256"]) == {"train", "validation"}
    config = (run / "config.yaml").read_text()
    assert "sequence_length: null" not in config
    assert "dtype_policy: auto" not in config


def test_saving_over_something_is_refused(trained, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ResourceError, match="exists already and is never overwritten"):
        trained("single").save(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "kerasllm.json", "config.json"])
def test_a_damaged_model_directory_is_refused(trained, tmp_path, name):
    path = trained("single").save(tmp_path / "model") / name
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=name):
        kerasllm.load(tmp_path / "model")


def test_user_callbacks_see_plain_keras_logs_and_can_stop(preset, tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(dict(logs))
            if epoch == 1:
                self.model.stop_training = True

    classifier = kerasllm.finetune(
        preset, tiny_reviews(40), epochs=5, batch_size=8, callbacks=[Watch()], output_dir=tmp_path / "run"
    )
    assert len(seen) == len(classifier.history) == 2
    assert {"loss", "accuracy", "macro_f1", "val_loss", "val_accuracy", "val_macro_f1"} <= set(seen[0])
    assert all(isinstance(value, float) for value in seen[0].values())


def test_a_classifier_held_in_mixed_precision_is_served_in_float32(preset, tmp_path):
    loaded = kerasllm.Preset.load(preset)
    classifier = kerasllm.TextClassifier(
        build_classifier(loaded, num_classes=2, dtype_policy="mixed_bfloat16"),
        loaded.tokenizer,
        label_map=LabelMap(("negative", "positive")),
        sequence_length=32,
    )
    exported = classifier.export(tmp_path / "models")
    answers = exported.predict(inputs("single"))
    assert [answer.label for answer in answers] == [one.label for one in classifier.predict(inputs("single"))]


def test_special_tokens_in_texts_are_text_in_training_and_on_the_server(preset, tmp_path):
    classifier = kerasllm.finetune(
        preset,
        tiny_reviews(40),
        config={"data": {"split_special_tokens": True}},
        epochs=1,
        output_dir=tmp_path / "run",
    )
    texts = ["good [SEP] [CLS] bad", "[MASK]"]
    separator = classifier.tokenizer.special_ids["[SEP]"]
    usual = kerasllm.Preset.load(preset).tokenizer
    for tokenizer in (classifier.tokenizer, kerasllm.load(tmp_path / "run").tokenizer):
        assert tokenizer.encode(texts) == usual.encode(texts, split_special_tokens=True)
        assert [row.count(separator) for row in tokenizer.encode(texts)] == [1, 1]
        assert tokenizer.graph_encode(texts).to_list() == tokenizer.encode(texts)
        assert tokenizer.fingerprint != usual.fingerprint
    served = classifier.export(tmp_path / "models").predict(texts)
    expected = classifier.predict(texts)
    assert [answer.label for answer in served] == [answer.label for answer in expected]
    np.testing.assert_allclose(
        [answer.score for answer in served], [answer.score for answer in expected], atol=1e-6
    )


def test_keras_early_stopping_works_as_it_is(preset, tmp_path):
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=10.0)
    classifier = kerasllm.finetune(
        preset, tiny_reviews(40), epochs=5, batch_size=8, callbacks=[stop], output_dir=tmp_path / "run"
    )
    assert len(classifier.history) == 2


def test_the_best_epoch_is_the_result(preset, tmp_path):
    """A learning rate that wrecks the model after a good start must not wreck the result."""

    class Wreck(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                for variable in self.model.trainable_variables:
                    variable.assign(keras.ops.zeros_like(variable))

    rows = tiny_reviews(240)
    training = {"epochs": 5, "batch_size": 8, "learning_rate": 5e-3, "dtype_policy": "float32"}
    config = {"training": training}
    classifier = kerasllm.finetune(
        preset, rows, validation_data=0.25, callbacks=[Wreck()], output_dir=tmp_path / "run", config=config
    )
    values = [logs["val_macro_f1"] for logs in classifier.history]
    assert max(values) > values[-1]
    assert classifier.evaluation.macro_f1 == pytest.approx(max(values), abs=0.02)


def test_resume_gives_the_weights_of_the_uninterrupted_run(preset, tmp_path):
    from kerasllm.api import finetune_from_config
    from kerasllm.config.loading import load_config

    data = tmp_path / "reviews.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in tiny_reviews(64)))
    settings = {
        "task": "text_classification",
        "preset": str(preset),
        "data": {"train": str(data)},
        "training": {"epochs": 3, "batch_size": 8},
    }

    def config(name):
        return load_config({**settings, "output_dir": str(tmp_path / name)}, [])

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 10:
                raise KeyboardInterrupt

    whole = finetune_from_config(config("whole"))
    with pytest.raises(KeyboardInterrupt, match=r"Interrupted after epoch 1.*--resume"):
        finetune_from_config(config("broken"), callbacks=[Kill()])
    kept = kerasllm.load(tmp_path / "broken")
    assert kept.labels == whole.labels
    resumed = finetune_from_config(config("broken"), resume=True)
    assert resumed.history == whole.history
    texts = inputs("single")
    np.testing.assert_array_equal(resumed.scores(texts), whole.scores(texts))


def test_a_dry_run_says_the_plan_and_writes_nothing(preset, tmp_path, monkeypatch):
    from kerasllm.api import finetune_from_config
    from kerasllm.config.loading import load_config

    data = tmp_path / "reviews.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in tiny_reviews(64)))
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    settings = {"task": "text_classification", "preset": str(preset), "data": {"train": str(data)}}
    plan = finetune_from_config(load_config(settings, []), dry_run=True)
    assert sorted(os.listdir(tmp_path)) == before
    assert plan.num_train + plan.num_validation == 64
    assert plan.num_steps == 3 * plan.steps_per_epoch
    assert plan.first_loss == pytest.approx(0.69, abs=0.2)
    assert "first loss" in str(plan)
    assert "GiB beside TensorFlow" in str(plan)
    assert plan.memory_warning is None
