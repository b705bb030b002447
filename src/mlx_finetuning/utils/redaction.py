"""Masks secrets in texts that are kept or shown: the one filter before every log and report.

Values of environment variables that look secret, and tokens by their form, wherever they stand.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import StudioError, UnexpectedError
from mlx_finetuning.language import _

MASK = "***"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY$|^KEY$|APIKEY")
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|github_pat|sk|xox[abp])[_-][A-Za-z0-9_-]{8,}")
_LEAST_SECRET = 6
"""Shorter values would mask ordinary words."""


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with `***` in the place of each secret; the longest go first."""
    environment = os.environ if environment is None else environment
    secrets = [
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name.upper()) and len(value) >= _LEAST_SECRET
    ]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _TOKEN.sub(MASK, text)


def traceback_of(error: BaseException) -> str:
    """How it came about, without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


def log_traceback(error: BaseException) -> None:
    """Print how it came about to standard error, which is the log of a worker."""
    # The log may be on the full disk that is the reason.
    with contextlib.suppress(OSError):
        print(traceback_of(error), file=sys.stderr)  # noqa: T201


def recorded(error: Exception, log: str) -> UnexpectedError:
    """What is shown of an error that nobody foresaw; its traceback goes to standard error, `log`."""
    log_traceback(error)
    return _unexpected(error, log)


def appended(error: Exception, log: Path) -> UnexpectedError:
    """As `recorded`, with the traceback at the end of the file `log`; on standard error if that
    cannot be written."""
    try:
        files.make_folder(log.parent)
        with log.open("a", encoding="utf-8") as stream:
            now = datetime.now().isoformat(timespec="seconds")
            stream.write(f"--- {now}\n{traceback_of(error)}\n")
    except (OSError, StudioError):
        return recorded(error, _("標準エラー出力"))
    return _unexpected(error, str(log))


def _unexpected(error: Exception, log: str) -> UnexpectedError:
    reason = without_secrets(str(error))
    return UnexpectedError(kind=type(error).__name__, reason=reason, log=log)
