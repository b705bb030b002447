"""The parts of the page 量子化: what to write, and what was written."""
