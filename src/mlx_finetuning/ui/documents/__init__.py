"""Parts of the page データセット: documents that are handed in, and the pairs made of them."""
