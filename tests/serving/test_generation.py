"""A language model behind a server: both clients say what Python says."""

import pytest

import kerasllm
from kerasllm.errors import ConfigError, DataError, ServingError
from kerasllm.serving import Client, GrpcClient
from kerasllm.serving.generation_requests import generations
from kerasllm.testing import tiny_llama
from kerasllm.testing.chat_templates import CHATML

PROMPTS = ["The sea is", "", "A joy from start to end, and a film that I would see again"]
SETTINGS = {"max_new_tokens": [5, 20, 9], "temperature": [0.0, 1.0, 0.7], "seed": [1, 2, 3]}
TALK = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return kerasllm.load(tiny_llama(tmp_path_factory.mktemp("chat"), chat_template=CHATML))


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request, servers):
    server = servers
    if request.param == "rest":
        with Client(f"http://127.0.0.1:{server.rest_port}", "chat") as client:
            yield client
    else:
        with GrpcClient(f"127.0.0.1:{server.grpc_port}", "chat") as client:
            yield client


@pytest.fixture(scope="module")
def servers(chat, tmp_path_factory):
    from kerasllm.serving.server.embedded import EmbeddedServer
    from kerasllm.serving.server.model_config import config_for_path
    from kerasllm.serving.server.options import ServerOptions

    base = tmp_path_factory.mktemp("served") / "chat"
    chat.export(base)
    with EmbeddedServer([config_for_path(base)], ServerOptions(port=0, rest_api_port=0)) as server:
        yield server


def test_answers_are_those_of_python(client, chat):
    assert client.generate(PROMPTS, **SETTINGS) == chat.generate(PROMPTS, **SETTINGS)
    assert client.generate("Once", max_new_tokens=8) == chat.generate("Once", max_new_tokens=8)
    assert client.generate([]) == []


def test_stop_strings_and_conversations(client, chat):
    (whole,) = chat.generate(PROMPTS[:1], max_new_tokens=20)
    stop = whole.text[3:5]
    assert client.generate(PROMPTS[:1], max_new_tokens=20, stop=stop) == chat.generate(
        PROMPTS[:1], max_new_tokens=20, stop=stop
    )
    assert client.chat(TALK, max_new_tokens=12) == chat.reply(TALK, max_new_tokens=12)
    with pytest.raises(
        ServingError, match="refused row 0: the chat template does not take this conversation"
    ):
        client.chat([{"role": "robot", "content": "Hello"}])


def test_pieces_are_the_answer(client, chat):
    pieces = list(client.stream("Once", tokens_at_a_time=3, max_new_tokens=9))
    assert len(pieces) == 3
    assert "".join(pieces).startswith(pieces[0])


def test_impossible_requests_do_not_leave_the_client(client):
    with pytest.raises(ConfigError, match="`top_p` is 2"):
        client.generate(["x"], top_p=2)
    with pytest.raises(ConfigError, match="`presence_penalty` cannot be sent to a server"):
        client.generate(["x"], presence_penalty=1.0)
    with pytest.raises(DataError, match="A prompt is a text"):
        client.generate([3])


def test_another_model_is_no_language_model():
    with pytest.raises(ServingError, match=r"it answers \['label'\] instead of `text`"):
        generations({"label": ["x"]})
