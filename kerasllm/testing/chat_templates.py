"""Chat templates of the kinds that checkpoints come with, written for tests."""

__all__ = ["ALTERNATING", "CHATML", "INSTRUCTIONS", "MARKED", "SPECIAL", "TEMPLATES"]

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# No system turn, strict turns, texts without the white space around them.
ALTERNATING = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}\n"
    "{% for message in messages %}\n"
    "    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
    "        {{ raise_exception('Roles must alternate') }}\n"
    "    {% endif %}\n"
    "{{ '<turn>' + message['role'] + '\n' + message['content'] | trim + '<end>\n' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
# The system's text is put into the user's first turn.
INSTRUCTIONS = (
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}"
    "{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turns!') }}{% endif %}"
    "{% if loop.first and system != false %}"
    "{% set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m.content %}"
    "{% else %}{% set text = m.content %}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MARKED = (
    "{% for m in messages %}{{ '[' ~ m.role ~ ']' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{% if m.content is not string %}{% break %}{% endif %}{% endfor %}"
    "{{ {'tools': [1, '<é>']} | tojson }}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "alternating": ALTERNATING,
    "instructions": INSTRUCTIONS,
    "marked": MARKED,
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
