"""Exported language models: what Python says, whatever stands beside it in a batch."""

import json

import numpy as np
import pytest
import tensorflow as tf

import kerasllm
from kerasllm.errors import ExportError
from kerasllm.export.servable_ops import read_signatures
from kerasllm.export.warmup import WARMUP_FILE
from kerasllm.testing import tiny_llama
from kerasllm.testing.chat_templates import CHATML

PROMPTS = ["The sea is", "", "A joy from start to end, and a film that I would see again", "é 🙂"]
UNSET = {
    "max_new_tokens": ([-1], tf.int32),
    "temperature": ([-1.0], tf.float32),
    "top_k": ([-1], tf.int32),
    "top_p": ([-1.0], tf.float32),
    "min_p": ([-1.0], tf.float32),
    "repetition_penalty": ([-1.0], tf.float32),
    "seed": ([-1], tf.int64),
    "stop": ([[""]], tf.string),
}


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return kerasllm.load(tiny_llama(tmp_path_factory.mktemp("chat"), chat_template=CHATML))


@pytest.fixture(scope="module")
def exported(chat, tmp_path_factory):
    return chat.export(tmp_path_factory.mktemp("served") / "chat")


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(str(exported.path)).signatures


def ask(signature, given=None, **inputs):
    settings = {name: tf.constant(*UNSET[name]) for name in UNSET if name in _names(signature)}
    for name, value in (given or {}).items():
        settings[name] = tf.constant(value, UNSET[name][1])
    found = signature(**{name: tf.constant(value, tf.string) for name, value in inputs.items()}, **settings)
    columns = [
        values.numpy().tolist() for values in (found["text"], found["finish_reason"], found["num_tokens"])
    ]
    return [(text.decode(), reason.decode(), number) for text, reason, number in zip(*columns, strict=True)]


def _names(signature):
    return signature.structured_input_signature[1]


def told(answers):
    return [(a.text, a.finish_reason + "+prompt_cut" * a.prompt_cut, a.num_tokens) for a in answers]


def test_prompts_alone_are_answered_as_python_does(chat, served):
    assert ask(served["serving_default"], prompt=PROMPTS) == told(chat.generate(PROMPTS))


def test_settings_and_lengths_of_a_batch_are_each_row_s_own(chat, served):
    settings = {
        "max_new_tokens": [5, 20, -1, 9],
        "temperature": [-1, 1.0, 0.8, 0.0],
        "top_k": [0, -1, 20, 0],
        "top_p": [1.0, 0.9, -1, 1.0],
        "repetition_penalty": [-1, 1.2, 1.0, 1.5],
        "seed": [0, 1, 2, 3],
    }
    together = ask(served["generate"], settings, prompt=PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        own = {name: values[row : row + 1] for name, values in settings.items()}
        assert ask(served["generate"], own, prompt=[prompt]) == [together[row]]
        known = {name: values[0] for name, values in own.items() if values[0] != -1}
        assert told(chat.generate([prompt], **known)) == [together[row]]


def test_stop_strings_come_with_the_request(chat, served):
    (whole,) = chat.generate(PROMPTS[:1], max_new_tokens=30)
    stop = whole.text[4:6]
    found = ask(
        served["generate"],
        {"max_new_tokens": [30, 30], "stop": [[stop, ""], ["", "never said"]]},
        prompt=[PROMPTS[0]] * 2,
    )
    assert found[0] == (whole.text[: whole.text.index(stop)], "stop", found[0][2])
    assert found[1] == told([whole])[0]


def test_conversations_are_rendered_in_the_graph(chat, served):
    talks = [
        [("user", "Hello")],
        [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")],
        [("robot", "Hello")],
        [("user", " ")],
    ]
    turns = max(map(len, talks))
    parts = [
        [[turn[part] for turn in talk] + [""] * (turns - len(talk)) for talk in talks] for part in (0, 1)
    ]
    found = ask(served["chat"], {"max_new_tokens": [12]}, roles=parts[0], contents=parts[1])
    for row in (0, 1):
        messages = [{"role": role, "content": content} for role, content in talks[row]]
        assert found[row] == told([chat.reply(messages, max_new_tokens=12)])[0]
    assert found[2:] == [("", "error: the chat template does not take this conversation", 0)] * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", -7),
        ("temperature", -0.5),
        ("temperature", float("nan")),
        ("top_k", -2),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("seed", -2),
    ],
)
def test_an_impossible_setting_is_the_trouble_of_its_row_alone(chat, served, name, value):
    found = ask(served["generate"], {name: [value, UNSET[name][0][0]]}, prompt=PROMPTS[:1] * 2)
    assert found[0] == ("", f"error: {name} is out of its range", 0)
    if name != "seed":
        assert found[1] == told(chat.generate(PROMPTS[:1]))[0]


def test_long_and_broken_inputs(chat, served):
    found = ask(served["generate"], {"stop": [["x" * 10_000], ["y"]]}, prompt=PROMPTS[:1] * 2)
    assert found[0] == ("", "error: stop has a text of more than 256 bytes", 0)
    assert found[1][1] in ("stop", "length")
    long = "many words " * 100_000  # 1.1 MB
    (answer,) = ask(served["generate"], {"max_new_tokens": [4]}, prompt=[long])
    assert answer[1].endswith("+prompt_cut")
    assert answer == told(chat.generate([long], max_new_tokens=4))[0]
    (answer,) = ask(served["serving_default"], prompt=[b"\xff\xfe broken"])
    assert answer == told(chat.generate(["\ufffd\ufffd broken"]))[0]
    assert ask(served["serving_default"], prompt=np.zeros([0], object)) == []


def test_scores_are_those_of_python(chat, served):
    completions = [" wide", "Once", " and over", "!"]
    found = served["score"](prompt=tf.constant(PROMPTS), completion=tf.constant(completions))
    expected = chat.score(PROMPTS, completions)
    np.testing.assert_allclose(found["log_prob"], [score.log_prob for score in expected], atol=1e-4)
    assert found["num_tokens"].numpy().tolist() == [score.num_tokens for score in expected]


def test_a_request_may_leave_settings_out(exported):
    signature = read_signatures(exported.path)["generate"]
    assert set(signature.defaults) == set(UNSET)
    assert signature.defaults["temperature"].float_val == [-1.0]


def test_warm_up_asks_every_signature(exported, served):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    asked = {}
    for record in tf.data.TFRecordDataset(str(exported.path / WARMUP_FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        answers = served[name](**inputs)
        assert not any(reason.startswith(b"error") for reason in answers["finish_reason"].numpy())
        asked.setdefault(name, set()).add(len(answers["text"]))
    assert set(asked) == {"serving_default", "generate", "chat"}
    assert all(sizes == {1, 2} for sizes in asked.values())


def test_what_the_export_says_of_itself(exported):
    content = json.loads((exported.path / "kerasllm.json").read_text("utf-8"))
    assert content["task"] == "chat"
    assert set(content["signatures"]) == {"serving_default", "generate", "chat", "score"}
    assert content["parity"]["num_probes"] > 10
    assert content["golden"]["requests"]
    assert exported.verify().num_requests == len(content["golden"]["requests"])


def test_a_template_that_no_table_holds_is_refused(tmp_path):
    template = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}"
    chat = kerasllm.load(tiny_llama(tmp_path / "m", chat_template=template))
    with pytest.raises(ExportError, match="cannot be written into a graph exactly"):
        chat.export(tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_an_answer_that_differs_is_not_published(chat, tmp_path, monkeypatch):
    monkeypatch.setattr(
        chat, "_greedy_texts", lambda prompts, _: (["other"] * len(prompts), np.ones(len(prompts)))
    )
    with pytest.raises(ExportError, match="The exported model answers otherwise than Python: after"):
        chat.export(tmp_path / "served")
    assert not (tmp_path / "served").exists()
