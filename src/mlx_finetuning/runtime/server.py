"""The server process: `python -P …/runtime/server.py PORT_FILE`.

The first line of standard input holds the settings as JSON, so that the key appears on no command
line. Standard input stays open as a lifeline: when it closes, because the parent closed it or died
in any way, this process ends. Listens on loopback only, on a port of the system's choice that is
published in PORT_FILE, and answers only requests that carry the key.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from mlx_finetuning import files

HOST = "127.0.0.1"


def main(port_file: Path) -> None:
    """Serve until the parent has gone. Raises what xllamacpp raises when it cannot load the model."""
    settings = json.loads(sys.stdin.buffer.readline())
    lifeline = threading.Thread(target=_end_with_parent, daemon=True)
    lifeline.start()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["gguf"]
    if settings["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(settings["adapter"], 1.0)]
    params.model_alias = {Path(settings["gguf"]).stem}
    params.n_ctx = settings["context"]
    params.cpuparams.n_threads = settings["threads"]
    params.hostnames = [HOST]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.cors_origins = "null"  # no web page may read answers
    params.use_jinja = True  # the file's own chat template
    params.force_pure_content_parser = True  # the text as generated, no guessed tool calls
    params.n_parallel = 1
    params.cache_prompt = False  # the same question always takes the same path
    params.offline = True
    params.ui = False
    server = xllamacpp.Server(params)
    files.write_json(port_file, {"address": server.listening_address, "pid": os.getpid()})
    lifeline.join()


def _end_with_parent() -> None:
    # Not through sys.stdin: its lock would hold up an exit of the main thread.
    while os.read(0, 1024):
        pass
    # llama.cpp's threads need no farewell, and nothing here is worth saving.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
