"""Text to token ids as a model's own files say: its tokenizer, its chat template, its answers.

The one place that reads tokenizer files and chat templates; training, evaluation, export and chat all
go through it. Loads no MLX and no llama.cpp.
"""

from mlx_finetuning.utils import transformers_import

transformers_import.hasten()
