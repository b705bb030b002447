"""What a run achieved: comparison, verdicts and the report. Figures come in; knows no MLX."""
