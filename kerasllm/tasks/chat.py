"""Conversations with a language model, by the template that it was trained with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from kerasllm.errors import DataError, PresetError
from kerasllm.generation.conversations import CompiledTemplate, compile_template
from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.models.stop_tokens import start_id_of, stop_ids_of
from kerasllm.serving.results import Generation
from kerasllm.tasks.text_generation import TextGenerator
from kerasllm.tokenization.chat_template import ChatTemplate
from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["ROLES", "Chat", "Message", "check_messages"]

Message = Mapping[str, str]
ROLES = ("system", "user", "assistant")


class Chat(TextGenerator):
    """A language model that answers conversations.

    Made by `kerasllm.load` from a checkpoint with a chat template.

    `reply` and `predict` render conversations by the template; `generate` and `stream` take texts as they
    are.

    Args:
        keras_model: As for `TextGenerator`, like all others but the template.
        tokenizer: The checkpoint's tokenizer.
        template: How a conversation becomes a text.
        **options: `stop_ids`, `start_id`, `max_length`, `preset` and `dtype`.

    Example:
    >>> chat = kerasllm.load("hf://HuggingFaceTB/SmolLM2-135M-Instruct")
    >>> chat.reply([{"role": "user", "content": "What is the capital of France?"}]).text
    'The capital of France is Paris.'
    """

    task = "chat"

    def __init__(
        self, keras_model: keras.Model, tokenizer: Tokenizer, *, template: ChatTemplate, **options: Any
    ):
        # The template writes the special tokens, as in training.
        super().__init__(keras_model, tokenizer.without_special_tokens(), **options)
        self.template = template

    @classmethod
    def from_preset(cls, preset: Preset, *, dtype: str = "float32") -> "Chat":
        """A chat from a checkpoint with a causal language head and a chat template.

        Raises:
            PresetError: If the checkpoint lacks one of the two.
        """
        source = preset.tokenizer.chat_template
        if preset.head != "causal_language" or source is None:
            lacks = "chat template" if source is None else "causal language head"
            raise PresetError(
                f"`{preset.handle}` has no {lacks}, so it cannot hold a conversation. Take a checkpoint that "
                "was trained to chat; those are often called `Instruct` or `Chat`."
            )
        preset.tokenizer.check_graph()
        return cls(
            build_with_head(preset),
            preset.tokenizer,
            template=ChatTemplate(source, preset.tokenizer.named_special_tokens),
            stop_ids=stop_ids_of(preset),
            start_id=start_id_of(preset),
            max_length=preset.max_sequence_length,
            preset=str(preset.handle),
            dtype=dtype,
        )

    def reply(self, messages: str | Sequence[Message], **settings: Any) -> Generation:
        """Says what comes next in a conversation.

        Args:
            messages: Each with `role` (`"system"`, `"user"` or `"assistant"`) and `content`; a text alone is
                one message of the user.
            **settings: As for `TextGenerator.generate`, `stop` and `log_probs` among them.

        Raises:
            DataError: If a message is none, or the template does not take the conversation.
            ConfigError: If a setting is unknown or impossible.
        """
        (answer,) = self.generate([self.prompt(messages)], **settings)
        return answer  # type: ignore[no-any-return]

    def predict(self, prompts: str | Sequence[str], **settings: Any) -> list[Any]:
        """Answers texts, each as the first turn of a conversation."""
        texts = self._checked(prompts)
        return self.generate([self.prompt(text) for text in texts], **settings)

    def _compiled_template(self) -> CompiledTemplate:
        return compile_template(self.template)

    def stream_reply(self, messages: str | Sequence[Message], **settings: Any) -> Iterator[str]:
        """As `reply`, piece by piece; see `TextGenerator.stream`."""
        return self.stream(self.prompt(messages), **settings)

    def prompt(self, messages: str | Sequence[Message]) -> str:
        """The text that the model reads: the conversation, and the beginning of its own turn."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        check_messages(messages)
        return self.template.render(messages, add_generation_prompt=True)


def check_messages(messages: Any, where: str = "messages") -> None:
    """Checks a conversation that the model is to answer.

    Raises:
        DataError: If there is none, a message lacks a role or a text, a role is unknown, or a system message
            comes later than first.
    """
    if not isinstance(messages, Sequence) or not messages:
        raise DataError(
            f"`{where}` is {str(messages)[:40]!r}; expected a list such as "
            '[{"role": "user", "content": "Hello"}].'
        )
    for number, message in enumerate(messages):
        place = f"`{where}[{number}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise DataError(f'{place}` is {str(message)[:60]!r}; expected {{"role": …, "content": …}}.')
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise DataError(f"{place}.role` is {role!r}; expected one of {', '.join(ROLES)}.")
        if not isinstance(content, str) or not content.strip():
            raise DataError(f"{place}.content` is {content!r} ({role}); expected a text with a word in it.")
        if role == "system" and number:
            first = "there is one already" if messages[0]["role"] == "system" else "it must come first"
            raise DataError(f"{place}.role` is 'system', but {first}. Put its text into the first message.")
