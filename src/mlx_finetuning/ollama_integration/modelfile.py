"""The Modelfile that lies beside a GGUF file, for those who import it by hand.

Ollama's own importer has no escapes: a line that ends in three quotation marks ends the text, and
what follows is read as commands. Three in a row are therefore written apart. Characters that the
importer drops (control characters, wide spaces) are left out or become spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlx_finetuning.language import N_, _

_THREE = re.compile(r'""(?=")')
ABOUT = N_("""\
# mlx-finetuning が書き出したモデルです。Ollamaに手で登録するには、このフォルダで:
#   ollama create {name} -f {file}
""")


def text(
    name: str,
    gguf: str,
    file: str,
    system: str = "",
    parameters: Mapping[str, Any] | None = None,
    license_text: str = "",
    base: str = "",
) -> str:
    """The content of a Modelfile. gguf, file: names in its folder; name: for the user to type; base: the
    model in Ollama that `gguf` is an adapter to."""
    made_of = [f"FROM {base}", f"ADAPTER ./{gguf}"] if base else [f"FROM ./{gguf}"]
    lines = [_(ABOUT).format(name=name, file=file), *made_of]
    for key, value in (parameters or {}).items():
        for item in value if isinstance(value, list) else [value]:
            lines.append(f"PARAMETER {key} {quoted(item) if isinstance(item, str) else item}")
    lines += [f"SYSTEM {quoted(system)}"] if system else []
    lines += [f"LICENSE {quoted(license_text)}"] if license_text else []
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    """`value` between quotation marks, so that nothing in it can end the text."""
    plain = "".join(
        letter if letter.isprintable() or letter in "\n\t" else " " if letter.isspace() else ""
        for letter in value.replace("\r\n", "\n").replace("\r", "\n")
    )
    return f'"""{_THREE.sub(chr(34) * 2 + " ", plain)}"""'
