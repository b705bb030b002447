"""The parts of the page 実験: the list, one run, several side by side, and the trash."""
