"""What was learned and what was forgotten: figures to scores, verdicts and the report."""
