"""How the built-in base model `tiny-ja` was made: its generated corpus, its tokenizer, its training.

Everything it is trained on is made here from word lists and templates with a seed; no text of
others is used. From the repository's root:

    python -m recipes.tiny_ja OUTPUT_FOLDER
"""
