"""Writes files from a base model and what a run changed in it."""
