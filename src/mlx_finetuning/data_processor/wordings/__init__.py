"""Rows that are made from a dataset's own: other wordings of its questions, and near misses to refuse."""
