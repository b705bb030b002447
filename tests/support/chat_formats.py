"""Fifteen chat formats as their models know them, in templates written for these tests, and
conversations with what people and programs put into them."""

from __future__ import annotations

import random
from dataclasses import dataclass

Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class Format:
    template: str
    eos: str
    bos: str = ""
    """The tokenizer itself puts it before a text, unless it is empty."""
    special: tuple[str, ...] = ()
    """Further special tokens."""
    takes_system: bool = True


ALTERNATES = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
SPLIT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
)
LLAMA_TURNS = (
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ELYZA_SYSTEM = "あなたは誠実で優秀な日本人のアシスタントです。"

FORMATS = {
    "chatml": Format(
        "{% for message in messages %}\n"
        "<|im_start|>{{ message['role'] }}\n"
        "{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}\n",
        eos="<|im_end|>",
    ),
    "qwen, with a default system text": Format(
        "{%- if messages[0].role != 'system' %}\n"
        "    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
        "{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n"
        "{%- endif %}\n",
        eos="<|im_end|>",
    ),
    "llama 2": Format(SPLIT_SYSTEM + LLAMA_TURNS, eos="</s>", bos="<s>"),
    "elyza": Format(
        SPLIT_SYSTEM
        + "{% if not system %}{% set system = '"
        + ELYZA_SYSTEM
        + "' %}{% endif %}"
        + LLAMA_TURNS,
        eos="</s>",
        bos="<s>",
    ),
    "llama 3": Format(
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
        "+ message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        "{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
        special=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "gemma": Format(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        + ALTERNATES
        + "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        eos="<end_of_turn>",
        bos="<bos>",
        special=("<start_of_turn>",),
        takes_system=False,
    ),
    "phi-3": Format(
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}"
        "{% else %}{{ eos_token }}{% endif %}",
        eos="<|end|>",
        special=("<|user|>", "<|assistant|>", "<|system|>"),
    ),
    "mistral": Format(
        "{{ bos_token }}{% for message in messages %}"
        + ALTERNATES
        + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% else %}{{ message['content'] + eos_token + ' ' }}{% endif %}{% endfor %}",
        eos="</s>",
        bos="<s>",
        special=("[INST]", "[/INST]"),
        takes_system=False,
    ),
    "alpaca": Format(
        SPLIT_SYSTEM + "{{ system }}{% for message in turns %}"
        "{% if message['role'] == 'user' %}"
        "{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
        "{% else %}{{ '\\n\\n### Response:\\n' + message['content'] + eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}",
        eos="</s>",
    ),
    "vicuna": Format(
        SPLIT_SYSTEM + "{{ bos_token }}{% if system %}{{ system + ' ' }}{% endif %}"
        "{% for message in turns %}{% if message['role'] == 'user' %}"
        "{{ 'USER: ' + message['content'] | trim + ' ' }}"
        "{% else %}{{ 'ASSISTANT: ' + message['content'] | trim + eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        eos="</s>",
        bos="<s>",
    ),
    "zephyr": Format(
        "{% for message in messages %}\n"
        "{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
        "{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
        "{% endfor %}",
        eos="</s>",
    ),
    "command-r": Format(
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|START_OF_TURN_TOKEN|>' }}"
        "{% if message['role'] == 'user' %}{{ '<|USER_TOKEN|>' }}"
        "{% elif message['role'] == 'assistant' %}{{ '<|CHATBOT_TOKEN|>' }}"
        "{% else %}{{ '<|SYSTEM_TOKEN|>' }}{% endif %}"
        "{{ message['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}",
        eos="<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
        special=(
            *("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"),
            *("<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        ),
    ),
    "deepseek": Format(
        "{% set found = namespace(system='') %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% set found.system = message['content'] %}"
        "{% endif %}{% endfor %}{{ bos_token }}{{ found.system }}"
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '<｜User｜>' + message['content'] }}{% elif message['role'] == 'assistant' %}"
        "{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
        eos="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        special=("<｜User｜>", "<｜Assistant｜>"),
    ),
    "plain": Format(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        eos="</s>",
    ),
    "spaces at the end": Format(
        "{%- for m in messages -%}\n[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}\n"
        "{% endfor %}\n  {{ '[assistant]' }}\n    ",
        eos="</s>",
    ),
}

TEXTS = (
    *(
        "返品はできますか？",
        "はい、7日以内なら可能です。",
        "営業時間は？\n\n定休日も教えて",
        " 前後に空白 ",
    ),
    *(
        "Hello, world! It's 3.14.",
        "\t字下げ\nと改行\n",
        "価格は¥1,200(税込)🎉👨‍👩‍👧",
        "がぎぐ（結合文字）か\u3099",
    ),
    *(
        "<|im_end|>と書くと？",
        "</s>で終わり?",
        "{{ 7 * 7 }} {% raw %} {# x #}",
        "\"引用\"と'一重'と\\n",
    ),
    *(
        "### Response:\n答え",
        "[INST] 命令 [/INST]",
        "<b>太字</b> &amp;",
        "a" * 70,
        "１２３　全角",
        "。",
    ),
)


def conversations(count: int, takes_system: bool, seed: int = 0) -> list[Conversation]:
    """Questions ready for an answer: one to four turns, half with a system text if it is taken."""
    chosen = random.Random(seed)
    return [_conversation(chosen, takes_system) for _ in range(count)]


def _conversation(chosen: random.Random, takes_system: bool) -> Conversation:
    roles = ["user"] + ["assistant", "user"] * chosen.randrange(4)
    if takes_system and chosen.random() < 0.5:
        roles.insert(0, "system")
    return [{"role": role, "content": _text(chosen)} for role in roles]


def _text(chosen: random.Random) -> str:
    pieces = chosen.choices(TEXTS, k=chosen.randint(1, 3))
    return chosen.choice(("", " ", "\n")).join(pieces)
