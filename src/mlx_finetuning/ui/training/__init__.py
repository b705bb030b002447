"""The parts of the page 学習: what to train, and a run as it goes on."""
