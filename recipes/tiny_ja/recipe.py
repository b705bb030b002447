"""tiny-ja's shape and training recipe. The shipped folder was made with exactly these numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recipes.tiny_ja.tokenizer import END, PAD, START, VOCABULARY


@dataclass(frozen=True)
class Recipe:
    seed: int = 20261123
    updates: int = 7500
    """Optimizer updates."""
    rows: int = 32
    """Rows per update."""
    length: int = 1024
    """Tokens per row; also the model's context."""
    learning_rate: float = 3e-3
    """Peak; warm-up over the first 2%, then a cosine down to 1%."""
    weight_decay: float = 0.1
    weight_noise: float = 0.1
    """Gaussian noise on the blocks' matrices in each update, as a share of their root mean square.
    It grows over the first half and leads to weights that stand being changed: by an adapter, by
    quantization."""
    others_weight: float = 0.1
    """Loss weight of tokens the assistant did not write (its own weigh 1)."""
    settling_updates: int = 150
    """Of the short second phase, in which the model learns to prefer 'I do not
    know' to a guess, and to write every word of its vocabulary."""
    settling_rows: int = 8
    settling_length: int = 256
    settling_rate: float = 5e-4
    tokenizer_sample: int = 40_000
    """Conversations the tokenizer is trained on."""
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 512

    def config(self) -> dict[str, Any]:
        """`config.json` of the Hugging Face folder. Widths are multiples of 256, as K-quants need."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "intermediate_size": self.feed_forward,
            "hidden_act": "silu",
            "vocab_size": VOCABULARY,
            "max_position_embeddings": self.length,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "bos_token_id": START,
            "eos_token_id": END,
            "pad_token_id": PAD,
            "torch_dtype": "float16",
            "use_cache": True,
        }
