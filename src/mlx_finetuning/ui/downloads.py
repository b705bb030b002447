"""Written models for the browser to save, read from the drive piece by piece, whatever their size.

Streamlit's own button would hold a whole file in memory. Behind the same guard as the pages.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mlx_finetuning.errors import InvalidName
from mlx_finetuning.language import _
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

FOLDER = "/files"


def address(run_id: str, name: str) -> str:
    """Where one of a run's files is to be had, for a link on a page of the same server."""
    return f"{FOLDER}/{quote(run_id)}/{quote(name)}"


def send(request: Request) -> Response:
    """A file that was made of a run, and nothing else."""
    run_id, name = request.path_params["run_id"], request.path_params["name"]
    try:
        written = Studio(Workspace.locate()).exports.list(run_id)
    except InvalidName:
        written = []
    for model in written:
        if model.path.name == name and model.path.is_file():
            return FileResponse(model.path, filename=name, media_type="application/octet-stream")
    return PlainTextResponse(_("このファイルはありません。"), 404)


ROUTES = (Route(f"{FOLDER}/{{run_id}}/{{name}}", send),)
