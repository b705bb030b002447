"""Answers by a model that stays loaded: llama.cpp's server, embedded, and an OpenAI-compatible
endpoint over any engine (`endpoint`, not imported here: clients need no web server). Where models
come from, and in which process they run, is not known here.
"""

from mlx_finetuning.runtime.answers import (
    AnswerStream,
    Message,
    Question,
    apart,
    calling,
    collect,
)
from mlx_finetuning.runtime.client import Client
from mlx_finetuning.runtime.process import serve

__all__ = [
    "AnswerStream",
    "Client",
    "Message",
    "Question",
    "apart",
    "calling",
    "collect",
    "serve",
]
