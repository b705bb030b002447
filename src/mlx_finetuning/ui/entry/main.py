"""Drawn anew by Streamlit at each interaction."""

from mlx_finetuning.ui import navigation

navigation.run()
