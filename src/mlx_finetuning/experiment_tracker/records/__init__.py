"""What is kept of runs: notes, comparisons, repeats, exports, the trash."""
