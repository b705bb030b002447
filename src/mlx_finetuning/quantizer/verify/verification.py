"""Proves that a GGUF file is the trained model, or says how far it is from it.

Structure and tokenizer must be right in every file. In a file without quantization the logits
must be the original's (`MAX_MEAN_KL`, `MIN_TOP1`); for a quantized one they are reported, and only
a difference that no quantization makes counts as an error. Rendering of chat templates is
compared by the caller, with the runtime.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import ExportNotProven
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, proof, structure, tensor_error
from mlx_finetuning.quantizer.verify.parity import (
    Reference,
    Tokenize,
    compare_logits,
    compare_tokens,
)
from mlx_finetuning.quantizer.verify.results import LogitParity, Proof, Verification
from mlx_finetuning.quantizer.verify.written import report_path
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.tokenization import battery
from mlx_finetuning.utils import gguf_reader

EXACT = ("F32", "F16")
"""Types whose logits must be the original's."""
MAX_MEAN_KL = 1e-3
MIN_TOP1 = 0.99
TIE_KL = 2e-5
"""Nats. Below it the chances are the same, and another likeliest token is a tie: llama.cpp's caches are
in half precision, and a tie at the start of every conversation counts as often as it occurs."""
MIN_TOKENS = 400
FUSED_KL = 0.05
"""Nats: what rounding fused weights to the base's 16 bits may cost; far below any fault."""
FOREIGN_KL = 1.0
"""Nats. Planted faults give 1.5 and more; Q4_K_M gives 0.01 on a trained model, 0.44 on noise."""

BANDS = (
    (0.01, N_("学習したモデルとほぼ同じです")),
    (0.1, N_("学習したモデルとの差はわずかです")),
    (0.5, N_("学習したモデルとの差があります。大きめの型（Q8_0など）も試してください")),
    (float("inf"), N_("学習したモデルと大きく違います。大きめの型（Q8_0など）を使ってください")),
)
"""Mean KL up to which a quantized file is called so."""


def examine(
    gguf: Path,
    model: Path,
    adapter: Path | None,
    references: Iterable[Reference],
    encode: Tokenize,
    *,
    context: int,
    texts: Sequence[str] = (),
    prompts: Sequence[str] = (),
    end_tokens: Collection[int] = (),
    chat: ChatFormat | None = None,
    progress: Progress = silent,
) -> Verification:
    """Examine `gguf`, made from the folder `model` and perhaps an adapter.

    references: what the trained model says; context: its longest sequence, tokens; texts: cut by
    both tokenizers, besides the built-in battery; prompts: the same for rendered conversations;
    end_tokens: those that end an answer; chat: how the run converses.
    Raises GgufUnreadable, QuantizerUnusable, TokenizerUnsupported.
    """
    config = export.read_config(model)
    original = tokenizer.read(model, config["vocab_size"], registry.of(config), chat)
    file = gguf_reader.read(gguf)
    described = structure.inspect(file, model, config, original)
    errors = tensor_error.errors(file, export.sources(model, config, adapter))
    with LlamaVocabulary(gguf) as loaded:
        tokens = compare_tokens(loaded, encode, texts, original, battery.TEXTS, prompts=prompts)
        ends = all(loaded.ends_generation(token) for token in end_tokens)
    logits = compare_logits(
        gguf, references, registry.of(config).context_for(config, context), progress
    )
    weight_errors = tensor_error.problems(file, errors)
    problems = [*described.problems, *weight_errors]
    if tokens.differing:
        problems.append(parity.problem(tokens))
    if not ends:
        problems.append(_("発言の終わりのトークンで、生成が止まりません。"))
    problems += _logit_problems(described.quant, logits)
    return Verification(
        path=str(gguf),
        size_bytes=gguf.stat().st_size,
        structure=described,
        tokens=tokens,
        logits=logits,
        errors=tensor_error.largest_by_type(file, errors),
        problems=tuple(problems),
        warnings=tuple(parity.warnings(tokens)),
        verdict=_verdict(described.quant, logits, problems),
        proven=not problems,
        weight_errors=tuple(weight_errors),
    )


def proof_problems(logits: LogitParity) -> list[str]:
    """In words, what speaks against an unquantized file's being the trained model."""
    return _logit_problems(proof.QUANT, logits)


def adapter_problems(logits: LogitParity) -> list[str]:
    """The same against an adapter on the quantized file it was trained on."""
    return _logit_problems("", logits)


def with_problems(report: Verification, more: Sequence[str]) -> Verification:
    """The report with problems that were found elsewhere, and the verdict they call for."""
    problems = (*report.problems, *more)
    verdict = _verdict(report.structure.quant, report.logits, problems)
    return replace(report, problems=problems, verdict=verdict, proven=not problems)


def require_proven(report: Verification, path: Path) -> None:
    """`path`: the name to show. Raises ExportNotProven."""
    if report.problems:
        raise ExportNotProven(path=str(path), problems=list(report.problems[:5]))


def write(report: Verification, gguf: Path, proof: Proof | None = None) -> Verification:
    """Keep a report beside its file, with the proof; returns what was kept. Raises DiskFull."""
    path = report_path(gguf)
    kept = replace(report, path=str(gguf), report_path=str(path), proof=proof)
    files.write_json(path, asdict(kept))
    return kept


def _logit_problems(quant: str, logits: LogitParity) -> list[str]:
    limit, least = (MAX_MEAN_KL, MIN_TOP1) if quant in EXACT else (FOREIGN_KL, 0.0)
    problems = []
    if not logits.mean_kl < limit:
        problems.append(
            _("予測の差が {kl:.3g} です（上限 {limit:g}）。").format(kl=logits.mean_kl, limit=limit)
        )
    if logits.top1_agreement < least and not logits.mean_kl < TIE_KL:
        problems.append(
            _("次のトークンの一致率が {share:.1%} です。").format(share=logits.top1_agreement)
        )
    if quant in EXACT and logits.tokens < MIN_TOKENS:
        problems.append(
            _("比べたトークンが {tokens} 個だけです（{least} 個以上必要）。").format(
                tokens=logits.tokens, least=MIN_TOKENS
            )
        )
    return problems


def _verdict(quant: str, logits: LogitParity, problems: Sequence[str]) -> str:
    if problems:
        return _("学習したモデルと同じとは認められません: {problem}").format(problem=problems[0])
    figures = _(
        "次のトークンの一致率 {share:.1%}、予測の差 {kl:.3f}、{tokens}トークンで比較"
    ).format(share=logits.top1_agreement, kl=logits.mean_kl, tokens=logits.tokens)
    if quant in EXACT:
        return _("学習したモデルと同じ動きをします（{figures}）。").format(figures=figures)
    judgement = next(_(text) for bound, text in BANDS if logits.mean_kl <= bound)
    return _("{judgement}（{figures}）。").format(judgement=judgement, figures=figures)
