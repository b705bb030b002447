"""`doctor --full`: the whole product tried on this machine, in a folder that is thrown away.

Every check is one function that does what a user does, through the studio, and says in Japanese what
came of it; one that fails does not keep the others from being made. `as_text` is plain text to be
sent to whoever helps: no path, no name, no secret is in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning import __version__, diagnostics
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.demo import SETTINGS, run_demo, stage_name
from mlx_finetuning.doctor import Diagnosis
from mlx_finetuning.errors import Interrupted, StudioError
from mlx_finetuning.language import N_, _
from mlx_finetuning.messages import describe
from mlx_finetuning.models import BUILT_IN
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.units import duration, percent
from mlx_finetuning.workspace import Workspace

UPDATES, WARM = 40, 8
"""Of a timed training, and those of them at its beginning that are not timed."""
MOST_S = 90.0
"""Of a timed training: on a CPU mlx-lm starts a compiler for every new shape."""
LEAST_ACCURACY = 0.9
"""Of the built-in model's answers to what it was taught."""
LAYOUTS_JA = {
    "padded": N_("1例に1行（余白を足す）"),
    "packed": N_("詰める（GPU向き）"),
    "concatenated": N_("つなげる（CPU向き）"),
}


@dataclass(frozen=True)
class Finding:
    """What one check came to."""

    key: str
    name: str
    passed: bool
    lines: tuple[str, ...]
    """For people, with the figures."""
    seconds: float


@dataclass(frozen=True)
class SelfTest:
    """All findings, in the order of the checks."""

    diagnosis: Diagnosis
    model: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.diagnosis.can_train and all(item.passed for item in self.findings)


@dataclass(frozen=True)
class Trial:
    """What the checks share: a studio of their own, a model, and what earlier ones left."""

    studio: Studio
    model: str
    progress: Progress
    run_ids: list[str]
    """Of the demo, once it is done."""

    def train_config(self, **changes: object) -> TrainConfig:
        """A short training on the demo's data, with nothing beside the updates."""
        alone = replace(SETTINGS, model=self.model, replay=0, sample_every=0, iterations=UPDATES)
        return replace(alone, validate_every=UPDATES, **changes)  # type: ignore[arg-type]


Outcome = tuple[bool, list[str]]


def run(studio: Studio, model: str, progress: Progress) -> SelfTest:
    """Make all checks with `model`, which may be one of `studio`'s workspace; some minutes.

    Raises ModelError where there is no such model, and Interrupted.
    """
    from mlx_finetuning import bases

    folder = model if model == BUILT_IN else str(bases.resolve(model, studio.workspace))
    diagnosis = studio.machine.doctor()
    findings = []
    with tempfile.TemporaryDirectory(prefix="mlx-finetuning-") as place:
        trial = Trial(Studio(Workspace(Path(place))), folder, progress, [])
        try:
            for number, (key, (name, check)) in enumerate(CHECKS.items(), 1):

                def numbered(step: Step, number: int = number) -> None:
                    progress(replace(step, stage=f"[{number}/{len(CHECKS)}] {step.stage}"))

                findings.append(_finding(key, _(name), check, replace(trial, progress=numbered)))
        finally:
            # Nobody would find what still works in a folder that is gone. A worker that has just been
            # started can be ended a moment later.
            while living := trial.studio.jobs.living():
                for job in living:
                    trial.studio.jobs.end(job)
    return SelfTest(
        diagnosis, BUILT_IN if model == BUILT_IN else Path(folder).name, tuple(findings)
    )


def _finding(key: str, name: str, check: Callable[[Trial], Outcome], trial: Trial) -> Finding:
    began_s = time.monotonic()
    try:
        passed, lines = check(trial)
    except Interrupted:
        raise
    except StudioError as problem:
        passed, lines = (
            False,
            [f"{problem.code}: {line}" for line in describe(problem).text.splitlines()],
        )
    return Finding(key, name, passed, tuple(lines), round(time.monotonic() - began_s, 1))


# --- the checks --------------------------------------------------------------------------


def journey(trial: Trial) -> Outcome:
    """The demo, and what its certificate says."""
    demo = run_demo(trial.studio, trial.model, {}, trial.progress)
    trial.run_ids.append(demo.run_id)
    certificate = trial.studio.evaluation.certificate(demo.run_id)
    assert certificate is not None  # the journey made it
    learned = (demo.tuned_accuracy or 0.0) >= LEAST_ACCURACY or trial.model != BUILT_IN
    loss = f"{demo.valid_loss_before:.3f} → {demo.valid_loss_after:.3f}"
    return learned and certificate.passed, [
        _("教えた質問の正答率 {base} → {tuned}、検証の損失 {loss}").format(
            base=_share(demo.base_accuracy), tuned=_share(demo.tuned_accuracy), loss=loss
        ),
        _("llama.cpp の正答率 {accuracy}").format(accuracy=percent(demo.q4_k_m_accuracy)),
        *(
            _("{kind}: 予測の一致 {agreement}、予測の差 {difference:.1e}").format(
                kind=kind, agreement=percent(parity.top1_agreement), difference=parity.mean_kl
            )
            for kind, parity in demo.parities.items()
            if parity is not None
        ),
        _("証明: {verdict}").format(verdict=certificate.verdict),
        _("、").join(
            f"{stage_name(stage)} {duration(value)}" for stage, value in demo.seconds.items()
        ),
    ]


def _share(value: float | None) -> str:
    return "—" if value is None else percent(value)


def layouts(trial: Trial) -> Outcome:
    """Whether every batch layout gives the gradient of padded examples, and what each costs."""
    measured = trial.studio.training.try_layouts(trial.train_config()).follow(trial.progress)
    lines = [_("MLXの装置 {device}").format(device=measured.device.upper())]
    for one in measured.trials:
        lines.append(
            _(
                "{layout}{chosen}: 1更新 {milliseconds:.1f} ミリ秒、勾配の差 {difference:.1e}{wrong}"
            ).format(
                layout=_(LAYOUTS_JA[one.layout]),
                chosen=_("（使うもの）") if one.is_chosen else "",
                milliseconds=1000 * one.seconds,
                difference=one.difference,
                wrong="" if one.agrees else _("（違います）"),
            )
        )
    return all(one.agrees for one in measured.trials), lines


def chat(trial: Trial) -> Outcome:
    """One question by MLX, whose answer must be the one that was graded."""
    if not trial.run_ids:
        return False, [_("学習できなかったため、話せません。")]
    [run_id] = trial.run_ids
    report = trial.studio.evaluation.report(run_id)
    assert report is not None  # the journey made it
    asked = report.splits["train"].answers[0]
    messages = [{"role": "user", "content": asked.question}]
    began_s = time.monotonic()
    answer = trial.studio.chat.answer(run_id, messages, progress=trial.progress)
    took_s = time.monotonic() - began_s
    trial.studio.chat.stop_servers(run_id)
    return answer.text.strip() == asked.tuned.strip(), [
        _("質問「{question}」").format(question=asked.question),
        _("答え「{text}」").format(text=answer.text.strip()),
        _("読み込みから答えの終わりまで {took_s:.1f} 秒").format(took_s=took_s),
    ]


def speed(trial: Trial) -> Outcome:
    """Ours beside mlx-lm; which is the faster is a figure, not a fault."""
    rates, lines = {}, []
    for engine in ("mlx", "mlx-lm"):
        end_s = time.monotonic() + MOST_S

        def limited(step: Step, end_s: float = end_s) -> None:
            if time.monotonic() > end_s:
                raise Interrupted
            trial.progress(step)

        run_id = trial.studio.training.start(trial.train_config(engine=engine))
        memory = "—"
        try:
            result = trial.studio.runs.follow(run_id, limited, stops=True)
            if result.peak_memory_gb is not None:
                memory = f"{result.peak_memory_gb:.2f} GB"
        except Interrupted:
            if time.monotonic() < end_s:
                raise
        lines_of_run = trial.studio.runs.metrics(run_id)
        ends_s = [one.elapsed_s for one in lines_of_run if one.loss is not None and one.elapsed_s]
        timed = ends_s[min(WARM, len(ends_s) // 2) :]
        if len(timed) < 2:
            lines.append(
                _("{engine}: {limit}では測れませんでした").format(
                    engine=engine, limit=duration(MOST_S)
                )
            )
            continue
        rates[engine] = SETTINGS.batch_size * (len(timed) - 1) / (timed[-1] - timed[0])
        lines.append(
            _("{engine}: {rate:.1f} 例/秒（{updates} 回の更新）、メモリー {memory}").format(
                engine=engine, rate=rates[engine], updates=len(timed) - 1, memory=memory
            )
        )
    if len(rates) == 2:
        lines.append(
            _("速さは mlx-lm の {ratio:.2f} 倍").format(ratio=rates["mlx"] / rates["mlx-lm"])
        )
    return "mlx" in rates, lines


CHECKS: dict[str, tuple[str, Callable[[Trial], Outcome]]] = {
    "journey": (N_("学習・評価・書き出し・検証・llama.cpp"), journey),
    "layouts": (N_("行の並べ方（どれも同じ勾配か、速いのはどれか）"), layouts),
    "chat": (N_("MLXでの対話"), chat),
    "speed": (N_("mlx-lm と比べた速さとメモリー"), speed),
}
"""By key: the name, and what is done. The demo's dataset is made by the first."""


# --- the text ----------------------------------------------------------------------------


def as_text(test: SelfTest, workspace: Workspace) -> str:
    """The report to hand on."""
    lines = [
        _("mlx-finetuning {version} 自己診断（doctor --full）").format(version=__version__),
        "",
        _("■ この機械"),
    ]
    lines += [f"{item.name}: {item.value} [{item.state}]" for item in test.diagnosis.items]
    lines += ["", _("■ 試したこと（モデル {model}、付属のデータ）").format(model=test.model)]
    for finding in test.findings:
        mark = "○" if finding.passed else "×"
        lines += [
            _("{mark} {name}（{took}）").format(
                mark=mark, name=finding.name, took=duration(finding.seconds)
            )
        ]
        lines += [f"    {line}" for line in finding.lines]
    total = duration(sum(finding.seconds for finding in test.findings))
    failed = [finding.name for finding in test.findings if not finding.passed]
    verdict = (
        _("通らなかったもの: {failed}").format(failed=_("、").join(failed))
        if failed
        else _("全て通りました。")
    )
    lines += [
        "",
        _("{verdict}（{total}）").format(verdict=verdict, total=total),
        _("この文には、名前も場所も入っていません。そのまま送れます。"),
    ]
    return diagnostics.anonymous("\n".join(lines), workspace)
