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
import tempfile
from collections.abc import Iterator
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


_PASSED: set[str] = set()
"""Only what passed is kept: a machine that was too busy for a trial may have time for the next one."""


def require_harmless(template: str, folder: str) -> None:
    """Raises TemplateHostile; a template with ordinary mistakes passes, and is judged in use.

    Raises RuntimeError, with what the trial wrote, where it failed by no fault of the template.
    """
    with trying(template, folder):
        pass


@contextlib.contextmanager
def trying(template: str, folder: str) -> Iterator[None]:
    """The trial beside the block, which may not render the template. Raises as `require_harmless` at its end."""
    if template == _built_in() or template in _PASSED:
        yield
        return
    command = [sys.executable, "-P", "-m", "mlx_finetuning.tokenization.template_trial"]
    # A file, since a trial that hangs would not read a pipe.
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(template).encode())
        given.seek(0)
        with subprocess.Popen(
            command, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as trial:
            try:
                yield
                reason = _fault(trial)
            finally:
                trial.kill()
    if reason:
        raise TemplateHostile(folder=folder, reason=reason)
    _PASSED.add(template)


@functools.cache
def _built_in() -> str:
    """The template of the model that comes with the application, which spares its jobs the trial."""
    template: str = json.loads(_BUILT_IN.read_text(encoding="utf-8"))["chat_template"]
    return template


def _fault(trial: subprocess.Popen[bytes]) -> str:
    """What the template did; nothing where it is harmless."""
    try:
        __, errors = trial.communicate(timeout=TIME_S)
    except subprocess.TimeoutExpired:
        return _("テンプレートの処理が{time_s:.0f}秒で終わりません。").format(time_s=TIME_S)
    if trial.returncode < 0 or trial.returncode in REASONS:
        # Killed for its memory, or the interpreter fell over what the template made it do.
        return _(REASONS.get(trial.returncode, REASONS[TOO_LARGE]))
    if trial.returncode:
        written = errors.decode(errors="replace").strip()
        last_line = written.rpartition("\n")[2]
        failure = RuntimeError(f"template_trial ({trial.returncode}): {last_line}")
        failure.add_note(written)
        raise failure
    return ""


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
