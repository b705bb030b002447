"""Brings a finished GGUF file into Ollama over its HTTP API, and talks to the models there.

Fused GGUF files, and GGUF adapters over a model that is there; never adapters as safetensors, which
Ollama converts wrongly. What is to be deployed, and what a right answer is, is decided elsewhere
(`tasks/deploy.py`).
"""

from mlx_finetuning.ollama_integration.address import Address
from mlx_finetuning.ollama_integration.client import Client, Model, words
from mlx_finetuning.ollama_integration.deploy import check_name, copy, find
from mlx_finetuning.ollama_integration.health import Status, connect, status

__all__ = [
    "Address",
    "Client",
    "Model",
    "Status",
    "check_name",
    "connect",
    "copy",
    "find",
    "status",
    "words",
]
