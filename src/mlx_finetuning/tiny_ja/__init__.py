"""The built-in base model `tiny-ja`: its generated corpus, its tokenizer and its recipe.

Everything it is trained on is made here from word lists and templates with a seed; no text of
others is used. The training loop itself is `mlx_trainer.pretrain`.
"""
