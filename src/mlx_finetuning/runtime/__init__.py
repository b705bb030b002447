"""Runs a GGUF file in llama.cpp's server, embedded: for machines and moments without Ollama."""

from mlx_finetuning.runtime.client import Answer, Client
from mlx_finetuning.runtime.process import serve

__all__ = ["Answer", "Client", "serve"]
