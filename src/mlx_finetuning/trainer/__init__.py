"""Run folders, their jobs, queue and states, and the engines that are not our own loop. Knows no MLX."""
