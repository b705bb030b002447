"""Mutated files for every reader, in a process of its own: `python -m support.fuzzing SECONDS SEED
[TARGET …]`, from the folder `tests`.

Each case is a seed file with a node of its JSON exchanged, a few mutations of its bytes, or both;
reading it may end well or with a StudioError, within `CASE_S` seconds and `MEMORY` bytes. The seconds are
the processor's, of the clock ten times as many: a crowded machine is no finding. Prints one JSON object:
cases by target, and the findings with the bytes that made them. Everything follows from the seed.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import mlx.core as mx
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from tokenizers.pre_tokenizers import ByteLevel

from mlx_finetuning import config, data_processor, files, preferences
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.records import notes
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.mlx_trainer.kernels import backend, gguf_blocks
from mlx_finetuning.models import ollama_store
from mlx_finetuning.models.folder import check_configuration, is_whole
from mlx_finetuning.quantizer.base import byte_level, settings, weights
from mlx_finetuning.quantizer.base import folder as base_folder
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.formats import safetensors
from mlx_finetuning.quantizer.verify import written
from mlx_finetuning.runtime import chats
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import JobPaths, RunPaths, Workspace
from support.workbooks import WRITERS, draw

CASE_S = 10
HALVES = (GGMLQuantizationType.F16, GGMLQuantizationType.BF16)
MEMORY = 4 * 10**9
MOST_FINDINGS = 20
CSV = "質問,回答,カテゴリ\n" + "".join(
    f'"商品{n}の""値段""は？","{n}00円\nです。",価格\n' for n in range(8)
)
PAGE = "<html><table><tr><th>質問<th>回答</tr>" + "".join(
    f'<tr><td rowspan="{n % 3}">問い{n}<td>答え&amp;<br>{n}</tr>' for n in range(8)
)
ROW = {"messages": [{"role": "user", "content": "問い"}, {"role": "assistant", "content": "答え"}]}
ROWS = "".join(json.dumps({**ROW, "row": n}, ensure_ascii=False) + "\n" for n in range(6))
TEXTS = (
    "+---+\n| question | answer |\n+---+\n" + "| 問い | 答え |\n" * 4 + "4 rows in set\n",
    "番号  質問      回答\n" + "1     問い      答え\n" * 4,
    "[LINE] 店とのトーク履歴\n保存日時：2024/05/01\n\n2024/05/01(水)\n"
    + "10:00\t客\t問い\n10:01\t店\t答え\n" * 3,
    "客「問い」\n店員「答え」\n\n" * 4,
    "Q1. 問い\nA1. 答え\n\n" * 4,
)
TYPED = {"Items": [{"question": {"S": "問い"}, "answer": {"M": {"text": {"S": "答え"}}}}] * 4}
LINES = "".join(
    json.dumps({"update": n, "loss": 1.5, "valid_loss": 2.0, "elapsed_s": 0.1}) + "\n"
    for n in range(6)
)
TENSOR = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
HEADER = json.dumps({"__metadata__": {"format": "pt"}, **TENSOR}).encode()
WORDS = (
    *(b"0", b"-1", b"9" * 400, b"1e999", b"-1e999", b"NaN", b"null", b"true", b'""', b"[]", b"{}"),
    *(b"[" * 2000, b'{"a":' * 500, b'"', b"'", b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\x81", b"\x1b$B", "あ".encode(), "\u2028".encode(), b"=1+1"),
    *(b"*a", b"&a", b"!!python/object:os.system", b"<<", b": ", b"- ", b"|", b"\\ud800"),
    *(struct.pack("<Q", 2**n - 1) for n in (8, 16, 31, 32, 63, 64)),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 0.5, 2**63, 10**400, 1e308, float("inf"), float("nan")),
    *("", "x", "あ\0", "../x", "9" * 400, [], [[]], ["abc"], [1, None], {}, {"a": 1}, {"": {}}),
)


def gguf() -> bytes:
    """A small whole file with every kind of field, and one tensor."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    fields = [text(b"n") + struct.pack("<II", 4, 7), text(b"t") + struct.pack("<I", 8) + text(b"x")]
    fields += [text(b"a") + struct.pack("<IIQ", 9, 4, 3) + struct.pack("<3I", 1, 2, 3)]
    fields += [text(b"s") + struct.pack("<IIQ", 9, 8, 2) + text(b"y") + text(b"z")]
    fields += [text(b"general.alignment") + struct.pack("<II", 4, 32)]
    info = text(b"w") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + info
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32


KINDS = {
    "token_embd": GGMLQuantizationType.Q6_K,
    "attn_q": GGMLQuantizationType.Q4_K,
    "attn_output": GGMLQuantizationType.Q5_K,
    "attn_k": GGMLQuantizationType.Q8_0,
    "attn_v": GGMLQuantizationType.Q5_1,
    "ffn_gate": GGMLQuantizationType.Q4_0,
    "ffn_up": GGMLQuantizationType.F16,
    "ffn_down": GGMLQuantizationType.Q4_1,
}
"""Of the weights of `base_gguf`, by name; the others are float32."""


def base_gguf() -> bytes:
    """A whole model of one block, as a base: settings, vocabulary, and every weight, of many types."""
    width, inner, tokens = 256, 256, [*sorted(ByteLevel.alphabet()), "ab"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base.gguf"
        writer = GGUFWriter(path, "llama")
        for add, value in (
            (writer.add_block_count, 1),
            (writer.add_context_length, 128),
            (writer.add_embedding_length, width),
            (writer.add_feed_forward_length, inner),
            (writer.add_head_count, 2),
            (writer.add_head_count_kv, 1),
            (writer.add_rope_dimension_count, 128),
            (writer.add_vocab_size, len(tokens)),
            (writer.add_layer_norm_rms_eps, 1e-5),
            (writer.add_tokenizer_model, "gpt2"),
            (writer.add_tokenizer_pre, "llama-bpe"),
            (writer.add_token_list, tokens),
            (writer.add_token_types, [1] * len(tokens)),
            (writer.add_token_merges, ["a b"]),
            (writer.add_eos_token_id, 0),
            (writer.add_add_bos_token, False),
        ):
            add(value)  # type: ignore[arg-type]  # each takes a kind of its own
        square, shared = (width, width), (128, width)
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (len(tokens), width),
            "output_norm.weight": (width,),
            **{f"blk.0.{name}_norm.weight": (width,) for name in ("attn", "ffn")},
            "blk.0.attn_q.weight": square,
            "blk.0.attn_output.weight": square,
            "blk.0.attn_k.weight": shared,
            "blk.0.attn_v.weight": shared,
            **{f"blk.0.ffn_{name}.weight": (inner, width) for name in ("gate", "up")},
            "blk.0.ffn_down.weight": (width, inner),
        }
        for name, shape in shapes.items():
            kind = KINDS.get(name.split(".")[-2], GGMLQuantizationType.F32)
            values, stored = GGML_QUANT_SIZES[kind]
            content = np.zeros((*shape[:-1], shape[-1] // values * stored), np.uint8)
            writer.add_tensor(name, content, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def mutated_head(seed: bytes, draw: random.Random) -> bytes:
    """Changes before the weights, which are most of the file and say nothing wrong."""
    end = 4900
    return mutated(seed[:end], draw) + seed[end:]


def read_base(path: Path) -> object:
    """What is made of a base without llama.cpp; what `quantizer.base.folder` makes a refusal of is one."""
    with contextlib.suppress(Unusable, LookupError, TypeError, ValueError, OverflowError):
        file = gguf_reader.read(path)
        config = settings.config_of(file)
        placed = weights.placement(file, config)
        every, values = slice(None), []
        for stored in placed.weights.values():
            tensor = file.tensors[stored.tensor]
            values.append(backend.chosen().dequantized(tensor, every))
            if tensor.kind in gguf_blocks.PACKED:
                values += backend.chosen().packed(tensor, every).values()
            halves = backend.chosen().halves
            if halves is not None and tensor.kind in HALVES:
                values.append(halves(tensor, every))
        mx.eval(values)
        return config, values, byte_level.definition(file.metadata, {"eos": 0}, {"eos": False})
    return None


def make_base(path: Path) -> None:
    """The whole base, with llama.cpp, which may end its process: here it has one of its own, as it has in
    the program. What may not be is another error than the program's own, or a hang."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # C hears no Python
        signal.setitimer(signal.ITIMER_PROF, CASE_S)
        try:
            base_folder.write(path, path.parent / "made")
        except StudioError:
            pass
        except BaseException:
            os.write(writes, traceback.format_exc(limit=-4).encode()[:4000])
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as stream:
        error = stream.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(path.parent / "made", ignore_errors=True)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        error = "Hang"
    if error:
        raise AssertionError(error)


def reshaped(seed: bytes, draw: random.Random) -> bytes:
    """A seed of JSON lines with one node exchanged for what does not belong there."""
    lines = seed.splitlines() or [b""]
    at = draw.randrange(len(lines))
    try:
        holder = [json.loads(lines[at])]
    except ValueError:
        return seed
    container, key = draw.choice(list(nodes(holder)))
    container[key] = draw.choice(VALUES)
    lines[at] = json.dumps(holder[0]).encode()
    return b"\n".join(lines) + b"\n"


def nodes(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every place below a list or dict, as its container and key."""
    keys = holder if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from nodes(holder[key])


def reshaped_header(seed: bytes, draw: random.Random) -> bytes:
    """The same for safetensors, whose header is JSON behind its length."""
    (length,) = struct.unpack("<Q", seed[:8])
    header = reshaped(seed[8 : 8 + length], draw)
    return struct.pack("<Q", len(header)) + header + seed[8 + length :]


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader, the name of its file, and files to begin with."""

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    reshape: Callable[[bytes, random.Random], bytes] = reshaped


def read_status(path: Path) -> object:
    run = RunPaths(path.parent)
    runs.list_runs(Workspace(path.parents[2]))
    return status.read(run)


def read_experiment(path: Path) -> object:
    return runs.list_runs(Workspace(path.parents[2]))[0].state_label


def read_job(path: Path) -> object:
    return jobs.read_job(JobPaths(path.parent))


def read_metrics(path: Path) -> object:
    metrics = Metrics(path)
    metrics.refresh()
    list(files.read_lines(path))
    files.cut_lines(path, lambda line: line.get("update", 0) != 3)
    return metrics.best_valid, metrics.latest("loss")


def load_config(path: Path) -> object:
    return config.load(TrainConfig, config.read_yaml(path))


def read_report(path: Path) -> object:
    path.with_name("x.gguf").touch()
    return written.read_all(path.parent)


def read_chat(path: Path) -> object:
    return [chat.with_turn("問い", {"tuned": "答え"}) for chat in chats.read_all(path.parent)]


GGUF_BASE = (
    b'{"schema_version": 1, "path": "/m.gguf", "size": 5, "modified_ns": 7, "sha256": "ab",'
    b' "orders": [[0, 2, 1]], "weights": {"w": {"tensor": "t", "order": 0, "added": 1.0}}}'
)
MANIFEST = (
    b'{"schemaVersion": 2, "layers": [{"mediaType": "application/vnd.ollama.image.model",'
    b' "digest": "sha256:%s", "size": 3}]}' % (b"0" * 64)
)


def read_gguf(path: Path) -> object:
    with contextlib.suppress(StudioError):
        gguf_reader.read_tensors(path)
    return [tensor.values() for tensor in gguf_reader.read(path).tensors.values()]


def read_safetensors(path: Path) -> object:
    is_whole(path)
    return [tensor.rows(slice(None)) for tensor in safetensors.open_files([path]).values()]


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = pyarrow.BufferOutputStream()
    table = pyarrow.table({"質問": ["問い"] * 3, "回答": ["答え", None, "あ"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, stream)
    return bytes(stream.getvalue().to_pybytes())


def workbooks() -> dict[str, bytes]:
    """A small workbook of each format, by its ending."""
    books = {}
    with tempfile.TemporaryDirectory() as folder:
        for ending, write in WRITERS.items():
            path = Path(folder) / f"x{ending}"
            write(draw(4, 20), path)
            books[ending] = path.read_bytes()
    return books


def rezipped(seed: bytes, rng: random.Random) -> bytes:
    """A workbook with a mutation inside one of its parts, packed again."""
    if not seed.startswith(b"PK"):
        return seed
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(parts))
    parts[name] = mutated(parts[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return out.getvalue()


SETTINGS = (
    "".join(f"{name}: {value!r}\n" for name, value in config.as_dict(TrainConfig()).items())
    .replace("True", "true")
    .replace("False", "false")
)
STATUS = json.dumps({"schema_version": 1, **dataclasses.asdict(JobStatus(JobState.DONE))}).encode()
JOB = b'{"schema_version": 1, "kind": "train", "workspace": "/x", "run_id": "x", "config": {}}'
MANIFEST = (
    b'{"name": "x", "sources": [{"path": "/x", "sha256": "0"}], "config": {"seed": 1},'
    b' "requested_mapping": {"question": "q"}, "files": {"train.jsonl": "0"}}'
)
NOTE = '{"schema_version": 1, "text": "良い", "tags": ["本番"]}'.encode()
REPORT = (
    b'{"path": "x", "size_bytes": 4, "tokens": {"texts": 1, "differing": []}, "errors": {"F16": 0.1},'
    b' "structure": {"quant": "F16", "tensors": 1, "types": {"F16": 1}, "problems": []},'
    b' "logits": {"tokens": 512, "mean_kl": 0.01, "max_kl": 0.5, "top1_agreement": 0.987,'
    b' "perplexity_reference": 2.0, "perplexity_gguf": 2.1},'
    b' "problems": [], "verdict": "x", "proven": true}'
)
CHAT = json.dumps(
    dataclasses.asdict(chats.Conversation("mlx", {}, {"tuned": ROW["messages"]}, "chat-1"))
)
MODEL = b'{"model_type": "llama", "rope_scaling": {"type": "linear"}, "layers": [1, 2]}'
TARGETS = {
    "data.csv": Target("data.csv", (CSV.encode(), CSV.encode("cp932")), data_processor.inspect),
    "data.tsv": Target("data.tsv", (CSV.replace(",", "\t").encode(),), data_processor.inspect),
    "data.json": Target(
        "data.json",
        (json.dumps([ROW] * 3).encode(), json.dumps(TYPED).encode()),
        data_processor.inspect,
    ),
    "data.jsonl": Target("data.jsonl", (ROWS.encode(),), data_processor.inspect),
    "data.txt": Target(
        "data.txt",
        (CSV.encode(), "一\n\n二\n三\n".encode(), *(text.encode() for text in TEXTS)),
        data_processor.inspect,
    ),
    **{
        f"data{ending}": Target(f"data{ending}", (book,), data_processor.inspect, rezipped)
        for ending, book in workbooks().items()
    },
    "page.xls": Target("page.xls", (PAGE.encode(), PAGE.encode("cp932")), data_processor.inspect),
    "data.parquet": Target("data.parquet", (parquet(),), data_processor.inspect),
    "rows.jsonl": Target("rows.jsonl", (ROWS.encode(),), data_processor.read_rows),
    "config.yaml": Target("config.yaml", (SETTINGS.encode(), b"rank: 8"), load_config),
    "metrics.jsonl": Target("metrics.jsonl", (LINES.encode(),), read_metrics),
    "status.json": Target("status.json", (STATUS,), read_status),
    "experiment.json": Target("experiment.json", (STATUS, b'{"versions": {}}'), read_experiment),
    "job.json": Target("job.json", (JOB,), read_job),
    "dataset.json": Target(
        "dataset.json",
        (MANIFEST, MANIFEST.replace(b'{"train.jsonl": "0"}', b'["abc"]')),
        data_processor.read_manifest,
    ),
    "notes.json": Target("notes.json", (NOTE,), lambda path: notes.read(RunPaths(path.parent))),
    "report.json": Target(
        "x.export_report.json", (REPORT, REPORT.replace(b"0.987", b"9" * 400)), read_report
    ),
    "chat.json": Target("chat-1.json", (CHAT.encode(),), read_chat),
    "preferences.json": Target(
        "preferences.json",
        (b'{"train": {"iterations": 3}}',),
        lambda path: preferences.read(Workspace(path.parent)),
    ),
    "model.safetensors": Target(
        "model.safetensors",
        (struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 24,),
        read_safetensors,
        reshaped_header,
    ),
    "model.gguf": Target("model.gguf", (gguf(),), read_gguf),
    "base.gguf": Target("base.gguf", (base_gguf(),), read_base, mutated_head),
    "base.gguf with llama.cpp": Target("base.gguf", (base_gguf(),), make_base, mutated_head),
    "gguf_base.json": Target(
        "gguf_base.json", (GGUF_BASE,), lambda path: gguf_base.read(path.parent)
    ),
    "Ollama's manifest": Target(
        "latest", (MANIFEST,), lambda path: ollama_store.model_file(path.parent, path)
    ),
    "config.json": Target("config.json", (MODEL,), lambda path: check_configuration(path.parent)),
}


def mutated(seed: bytes, draw: random.Random) -> bytes:
    """A few changes: bits, cuts, repetitions, and words that readers trip over."""
    data = bytearray(seed)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        at = draw.randint(0, len(data))
        length = draw.choice((1, 1, 2, 8, 40))
        match draw.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = draw.choice(WORDS)
            case 3:
                data[at : at + length] = draw.choice(WORDS)
            case 4:
                data[at:at] = data[at : at + length] * draw.choice((1, 3, 50))
            case 5 if draw.random() < 0.2:
                del data[at:]
    return bytes(data)


class Hang(BaseException):
    """No reader may catch it."""


def too_long(number: int, frame: FrameType | None) -> None:
    raise Hang()


def finding(target: Target, content: bytes, folder: Path) -> str | None:
    """What went wrong, as a traceback; None for a file that was read or refused."""
    path = folder / "experiments" / "x" / target.name
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_PROF, CASE_S)
    signal.setitimer(signal.ITIMER_REAL, 10 * CASE_S)
    try:
        target.read(path)
    except StudioError as error:
        with contextlib.suppress(FileNotFoundError):
            str(error)  # its words can be shown
    except (Exception, Hang):
        return traceback.format_exc(limit=-4)
    finally:
        for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(clock, 0)
    return None


def cases(target: Target, seed: int) -> Iterator[bytes]:
    """Without end; the first are the seeds themselves."""
    yield from target.seeds
    for number in itertools.count():
        draw = random.Random(f"{seed}:{target.name}:{number}")
        content, way = draw.choice(target.seeds), draw.randrange(3)
        if way:
            content = target.reshape(content, draw)
        yield mutated(content, draw) if way < 2 else content


def fuzz(target: Target, seconds: float, seed: int) -> tuple[int, list[dict[str, str]]]:
    """Cases tried, and what they found, each kind once."""
    found: dict[str, dict[str, str]] = {}
    end_s = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "experiments" / "x").mkdir(parents=True)
        tried = 0
        for content in cases(target, seed):
            if time.monotonic() > end_s or len(found) >= MOST_FINDINGS:
                break
            tried += 1
            problem = finding(target, content, folder)
            if problem is not None:
                shown = base64.b64encode(content).decode()
                record = {"target": target.name, "error": problem, "content": shown}
                found.setdefault(problem.splitlines()[-1][:60], record)
    return tried, list(found.values())


def main(seconds: float, seed: int, names: list[str]) -> int:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, too_long)
    tried, found = {}, []
    for name in names or TARGETS:
        tried[name], findings = fuzz(TARGETS[name], seconds, seed)
        found += findings
    json.dump({"seed": seed, "cases": tried, "findings": found}, sys.stdout, indent=1)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
