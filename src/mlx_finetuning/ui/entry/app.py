"""What `mlx-finetuning serve` has Streamlit run."""

from mlx_finetuning.ui import navigation

navigation.run()
