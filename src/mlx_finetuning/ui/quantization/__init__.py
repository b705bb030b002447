"""The parts of the page 軽くする: what to write, and what was written."""
