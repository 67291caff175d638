"""A fine-tuned classifier of every family goes to transformers, whose pipeline gives our answers."""

import json

import keras
import numpy as np
import pytest

from kerasllm.data.labels import LabelMap
from kerasllm.errors import ExportError
from kerasllm.export.hugging_face import convert_preset, convert_to_keras
from kerasllm.models.builders import build_classifier, build_with_head
from kerasllm.models.presets import Preset
from kerasllm.tasks.text_classification import TextClassifier
from kerasllm.testing import tiny_bert
from kerasllm.testing.architectures import write_checkpoint
from kerasllm.testing.families import family as tokenizer_family
from kerasllm.tokenization import Tokenizer

TEXTS = ["A joy from start to end.", "Dull.", "The plot is thin, the cast is not, and the end comes late!"]
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
GROUPED = {**SMALL, "num_key_value_heads": 2}
NARROW_HEADS = {**GROUPED, "head_dim": 8}
# transformers' config class, its settings, and the tokenizer that such checkpoints come with.
FAMILIES = {
    "Bert": (SMALL, "bert-uncased"),
    "DistilBert": ({"dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40}, "bert-uncased"),
    "Roberta": ({**SMALL, "max_position_embeddings": 130}, "roberta"),
    "XLMRoberta": ({**SMALL, "max_position_embeddings": 130}, "roberta"),
    "Albert": ({**SMALL, "embedding_size": 16}, "bert-uncased"),
    "Electra": ({**SMALL, "embedding_size": 16}, "bert-uncased"),
    "DebertaV2": (
        {**SMALL, "relative_attention": True, "position_buckets": 8, "pos_att_type": "p2c|c2p"},
        "bert-uncased",
    ),
    "GPT2": ({"n_embd": 24, "n_layer": 2, "n_head": 4}, "gpt2"),
    "GPTNeoX": (SMALL, "gpt2"),
    "OPT": (
        {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 40,
            "word_embed_proj_dim": 24,
        },
        "gpt2",
    ),
    "Llama": (GROUPED, "gpt2"),
    "Mistral": ({**GROUPED, "sliding_window": 5}, "gpt2"),
    "Mixtral": ({**GROUPED, "num_local_experts": 4}, "gpt2"),
    "Qwen2": (GROUPED, "gpt2"),
    "Qwen3": (NARROW_HEADS, "gpt2"),
    "Phi3": ({**GROUPED}, "gpt2"),
    "Gemma": (NARROW_HEADS, "gpt2"),
    "Gemma2": ({**NARROW_HEADS, "sliding_window": 5}, "gpt2"),
    "Gemma3Text": ({**NARROW_HEADS, "sliding_window": 5}, "gpt2"),
    "T5": (
        {
            "d_model": 24,
            "d_kv": 6,
            "d_ff": 40,
            "num_layers": 2,
            "num_heads": 4,
            "pad_token_id": 0,
            "decoder_start_token_id": 0,
        },
        "t5",
    ),
    "Bart": (
        {
            "d_model": 24,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
        },
        "roberta",
    ),
    "SmolLM3": ({**GROUPED}, "gpt2"),
}


QUICK = ("GPT2", "Mixtral", "T5")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Writes a checkpoint without a head, with a tokenizer that fits it."""
    transformers = pytest.importorskip("transformers", reason="transformers writes the checkpoints")
    import torch

    def write(name):
        settings, tokenizer = FAMILIES[name]
        path = tmp_path_factory.mktemp(name)
        document = tokenizer_family(tokenizer)
        (path / "tokenizer.json").write_text(document, "utf-8")
        size = Tokenizer.from_json(document).vocabulary_size + 20
        ends = {token["content"]: token["id"] for token in json.loads(document)["added_tokens"]}
        end = ends.get("<|endoftext|>", ends.get("</s>", 2))
        kind = getattr(transformers, f"{name}Model")
        torch.manual_seed(0)
        padding = {"pad_token_id": end} if name in ("Phi3", "SmolLM3") else {}
        config = kind.config_class(
            **{**padding, "vocab_size": size, "bos_token_id": 1, "eos_token_id": end, **settings}
        )
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(path)
        return path

    return write


@pytest.fixture
def answers_of_transformers():
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")

    def answer(path, texts, **options):
        pipeline = transformers.pipeline("text-classification", model=str(path), device="cpu")
        return pipeline(texts, top_k=None, truncation=True, **options)

    return answer


def make_classifier(path, labels=("bad", "fair", "good"), *, multi_label=False, pooling="cls"):
    keras.utils.set_random_seed(1)
    preset = Preset.load(path)
    problem = "multi_label_classification" if multi_label else "single_label_classification"
    model = build_classifier(
        preset, num_classes=len(labels), pooling=pooling, labels=labels, problem_type=problem
    )
    for weight in model.head.weights:  # new heads answer nearly alike
        weight.assign(np.random.default_rng(2).normal(0, 0.5, weight.shape))
    return TextClassifier(
        model,
        preset.tokenizer,
        label_map=LabelMap(tuple(labels), multi_label=multi_label),
        sequence_length=12,
        preset=str(path),
    )


def assert_same_answers(classifier, theirs, texts):
    for answer, scores in zip(classifier.predict(texts), theirs, strict=True):
        by_label = {score["label"]: score["score"] for score in scores}
        assert set(by_label) == set(classifier.labels)
        for label, score in answer.scores.items():
            assert by_label[label] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pipeline_gives_our_answers(name, checkpoint, answers_of_transformers, tmp_path):
    classifier = make_classifier(checkpoint(name))
    path = classifier.export(tmp_path / "exported", format="huggingface")
    assert_same_answers(classifier, answers_of_transformers(path, TEXTS, batch_size=3), TEXTS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in FAMILIES  # each is some seconds of building graphs
    ],
)
def test_it_is_served_too(name, checkpoint, tmp_path):
    """Export itself compares the graph with Python, empty and long texts included, and looks at its ops."""
    classifier = make_classifier(checkpoint(name))
    exported = classifier.export(tmp_path / "served")
    answers = exported.predict(TEXTS)
    for answer, found in zip(classifier.predict(TEXTS), answers, strict=True):
        assert (answer.label, answer.score) == (found.label, pytest.approx(found.score, abs=1e-4))


def test_multi_label_scores_are_sigmoids_there_too(checkpoint, answers_of_transformers, tmp_path):
    classifier = make_classifier(checkpoint("Bert"), multi_label=True)
    path = classifier.export(tmp_path / "exported", format="huggingface")
    assert_same_answers(classifier, answers_of_transformers(path, TEXTS), TEXTS)


def test_it_comes_back_as_it_was(checkpoint, tmp_path):
    import kerasllm

    classifier = make_classifier(checkpoint("GPT2"))
    path = classifier.export(tmp_path / "exported", format="huggingface")
    again = kerasllm.load(path)
    assert again.labels == classifier.labels
    assert [answer.score for answer in again.predict(TEXTS)] == pytest.approx(
        [answer.score for answer in classifier.predict(TEXTS)], abs=1e-6
    )


def test_files_and_model_card(checkpoint, tmp_path):
    path = make_classifier(checkpoint("Bert")).export(tmp_path / "reviews", format="huggingface")
    names = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in path.iterdir()} == names
    card = (path / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert 'pipeline("text-classification", model="reviews", truncation=True, max_length=12)' in card
    assert "Labels: `bad`, `fair`, `good`." in card
    assert json.loads((path / "tokenizer_config.json").read_text())["model_max_length"] == 12


def test_what_transformers_cannot_compute_is_refused(tmp_path):
    classifier = make_classifier(tiny_bert(tmp_path / "tiny"), pooling="mean")
    with pytest.raises(ExportError, match=r"no classifier on the mean of the token vectors.*pooling=cls"):
        classifier.export(tmp_path / "exported", format="huggingface")
    assert not (tmp_path / "exported").exists()


def test_nothing_is_overwritten_and_formats_are_checked(tmp_path):
    classifier = make_classifier(tiny_bert(tmp_path / "tiny"))
    with pytest.raises(ExportError, match=r"`.*tiny` exists already"):
        classifier.export(tmp_path / "tiny", format="huggingface")
    with pytest.raises(ExportError, match=r"The format 'onnx' is unknown"):
        classifier.export(tmp_path / "other", format="onnx")


def test_a_converted_checkpoint_is_the_same_model(checkpoint, tmp_path):
    source = checkpoint("Llama")
    (source / "generation_config.json").write_text('{"max_new_tokens": 7}')
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    path = convert_preset(Preset.load(source), tmp_path / "converted")
    again = Preset.load(path)
    assert again.generation_config == {"max_new_tokens": 7}
    assert again.tokenizer.chat_template == "{{ messages[0]['content'] }}"
    ids = np.arange(5, 25).reshape(2, 10)
    expected = Preset.load(source).hidden_states(ids, np.ones_like(ids))
    np.testing.assert_array_equal(again.hidden_states(ids, np.ones_like(ids)), expected)
    with pytest.raises(ExportError, match="exists already"):
        convert_preset(Preset.load(source), path)


def test_a_checkpoint_converted_to_keras_is_the_same_model(checkpoint, tmp_path):
    preset = Preset.load(checkpoint("Qwen3"))
    path = convert_to_keras(preset, tmp_path / "converted")
    model = keras.saving.load_model(path / "model.keras")
    ids = np.arange(5, 25).reshape(2, 10)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    expected = preset.hidden_states(**inputs)
    np.testing.assert_array_equal(np.asarray(model(inputs)["sequence_output"]), expected)
    assert (path / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    "case", ["Llama-tied-biased", "Qwen2ForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration"]
)
def test_a_language_model_converted_to_keras_is_the_same_model(case, tmp_path):
    """Also where the output's matrix is that of the token embeddings, which no layer may save twice."""
    (tmp_path / "source").mkdir()
    write_checkpoint(case, tmp_path / "source")
    preset = Preset.load(tmp_path / "source")
    model = build_with_head(preset)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    ids = np.arange(5, 25).reshape(2, 10)
    inputs = {name: ids if name.endswith("token_ids") else np.ones_like(ids) for name in model.input}
    np.testing.assert_array_equal(np.asarray(again(inputs)), np.asarray(model(inputs)))
