"""Answers, logits and figures of a trained model. Trains nothing."""
