"""The parts of the page データセット, in the order in which they are drawn."""
