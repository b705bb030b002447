"""Why a GGUF file cannot be trained."""

from __future__ import annotations


class Unusable(Exception):
    """Its text is a Japanese sentence for the user; `folder.write` turns it into an error."""
