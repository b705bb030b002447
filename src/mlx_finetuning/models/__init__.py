"""Base models: the catalogue, the built-in tiny model, folders on disk and the Hugging Face hub.

A base model is a Hugging Face folder: `config.json`, a tokenizer and safetensors weights. Nothing
here loads one; `check_folder` decides whether the rest of the application may.
"""

from mlx_finetuning.models.entries import CatalogueEntry, Twin, catalogue, find
from mlx_finetuning.models.fitting import MachineFit, fit, needed_gb
from mlx_finetuning.models.folder import check_folder, width
from mlx_finetuning.models.found_files import FoundFile, found, gguf_file, names_gguf_file
from mlx_finetuning.models.found_files import find as found_file
from mlx_finetuning.models.hub import has_token, use_token
from mlx_finetuning.models.store import (
    BUILT_IN,
    InstalledModel,
    delete,
    download,
    installed,
    resolve,
    search,
)

__all__ = [
    "BUILT_IN",
    "CatalogueEntry",
    "FoundFile",
    "InstalledModel",
    "MachineFit",
    "Twin",
    "catalogue",
    "check_folder",
    "delete",
    "download",
    "find",
    "fit",
    "found",
    "found_file",
    "gguf_file",
    "has_token",
    "installed",
    "names_gguf_file",
    "needed_gb",
    "resolve",
    "search",
    "use_token",
    "width",
]
