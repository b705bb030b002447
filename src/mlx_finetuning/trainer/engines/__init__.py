"""The engines that are not our own loop: mlx-lm's trainer as it is, and a marked rehearsal."""
