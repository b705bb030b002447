"""The engines: mlx-lm's trainer as it is and a marked rehearsal; our own loop is `mlx_trainer`."""
