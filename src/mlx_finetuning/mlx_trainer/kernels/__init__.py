"""Numeric functions on arrays. Know no model."""
