"""A writer around a tiny random model whose chat template knows tools."""

from assistant.writing import Writer
from fusion.decoder import Decoder
from fusion.prompt import PromptBuilder
from tests.fusion.tiny import tiny_decoder

TEMPLATE = (
    "{% for t in tools or [] %}<tool>{{ t | tojson }}</tool>\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}"
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments | tojson }}}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tool_decoder(seed: int = 0) -> Decoder:
    decoder = tiny_decoder(seed)
    decoder.tokenizer.chat_template = TEMPLATE
    return decoder


def tiny_writer(seed: int = 0) -> Writer:
    decoder = tiny_tool_decoder(seed)
    return Writer(decoder, PromptBuilder(decoder))
