"""Masks secrets in texts that are kept or shown: the one filter before every log and report.

Values of environment variables that look secret, and tokens by their form, wherever they stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

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
