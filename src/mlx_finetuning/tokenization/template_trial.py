"""Tries a chat template in a process that may be lost, before it is rendered anywhere else.

A template is a program by the model's author. Jinja's sandbox keeps it from files and from
Python's inside, but lets it count to a billion or fill the memory. The trial renders an ordinary
conversation under limits; what a template makes of other conversations is not known from it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import subprocess
import sys
from pathlib import Path

from mlx_finetuning.errors import TemplateHostile
from mlx_finetuning.language import N_, _

_BUILT_IN = Path(__file__).parents[1] / "assets" / "tiny-ja" / "tokenizer_config.json"
TIME_S = 10.0
"""Ordinary templates take milliseconds, Python's start a tenth of a second."""
MEMORY = 2 * 10**9
"""Bytes of address space (Linux; macOS does not enforce it)."""
FORBIDDEN, TOO_LARGE = 3, 4
REASONS = {
    FORBIDDEN: N_("テンプレートが、許されない操作をしようとしました。"),
    TOO_LARGE: N_("テンプレートが、大きすぎる文章を作ろうとしました。"),
}
CONVERSATION = [
    {"role": "user", "content": "こんにちは"},
    {"role": "assistant", "content": "はい。"},
    {"role": "user", "content": "終わりです"},
]


class _HarmfulError(Exception):
    """Its text is the reason."""


def require_harmless(template: str, folder: str) -> None:
    """Raises TemplateHostile; a template with ordinary mistakes passes, and is judged in use.

    Raises RuntimeError, with what the trial wrote, where it failed by no fault of the template.
    """
    if template == _built_in():
        return
    try:
        _try_out(template)
    except _HarmfulError as error:
        raise TemplateHostile(folder=folder, reason=str(error)) from error


@functools.cache
def _built_in() -> str:
    """The template of the model that comes with the application, which spares its jobs the trial."""
    template: str = json.loads(_BUILT_IN.read_text(encoding="utf-8"))["chat_template"]
    return template


# Only what passed is kept: a machine that was too busy for a trial may have time for the next one.
@functools.lru_cache(maxsize=64)
def _try_out(template: str) -> None:
    command = [sys.executable, "-P", "-m", "mlx_finetuning.tokenization.template_trial"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(template).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIME_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _HarmfulError(
            _("テンプレートの処理が{time_s:.0f}秒で終わりません。").format(time_s=TIME_S)
        ) from error
    if done.returncode < 0 or done.returncode in REASONS:
        # Killed for its memory, or the interpreter fell over what the template made it do.
        raise _HarmfulError(_(REASONS.get(done.returncode, REASONS[TOO_LARGE])))
    if done.returncode:
        written = done.stderr.decode(errors="replace").strip()
        last_line = written.rpartition("\n")[2]
        failure = RuntimeError(f"template_trial ({done.returncode}): {last_line}")
        failure.add_note(written)
        raise failure


def main() -> int:
    """The trial itself; the template comes as JSON on standard input."""
    with contextlib.suppress(ValueError, OSError):  # a lower limit may be set already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from jinja2.exceptions import SecurityError

    from mlx_finetuning.tokenization import rendering

    template = json.loads(sys.stdin.buffer.read())
    told = {"add_generation_prompt": True, "bos_token": "", "eos_token": ""}
    try:
        rendering.render(template, CONVERSATION, told)
    except SecurityError:
        return FORBIDDEN
    except (MemoryError, OverflowError, RecursionError):
        return TOO_LARGE
    except Exception:
        return 0  # a mistake of the template's
    return 0


if __name__ == "__main__":
    sys.exit(main())
