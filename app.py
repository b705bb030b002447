from mlx_finetuning.ui import navigation

navigation.run()
