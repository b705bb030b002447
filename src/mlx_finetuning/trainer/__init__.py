"""Engines that are not our own: mlx-lm's trainer, run as it is, and a marked rehearsal. Import no MLX.

The engine `mlx`, our own training loop, is `mlx_trainer`, which does all that touches MLX.
"""
