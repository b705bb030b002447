"""The kinds of jobs: what people call them, what they wait for, and how they are told of."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_finetuning.language import N_, _


@dataclass(frozen=True)
class JobKind:
    """Its settings and its result are dataclasses that its task and who starts it know."""

    called: str
    """What people call it, in Japanese."""
    has_task: bool = True
    """Whether a module of `tasks` does it."""
    needs_device: bool = True
    """Whether it waits for its turn: all but those that compute nothing, or answer people who wait."""
    needs_rows: bool = False
    """Whether it asks what the run's dataset holds."""
    is_told: bool = True
    """Not those that whoever asked for them is waiting for, or that do not end by themselves."""

    @property
    def name(self) -> str:
        """What people call it."""
        return _(self.called, "job")


KINDS = {
    "train": JobKind(N_("学習", "job")),
    "merge": JobKind(N_("アダプターの合成", "job")),
    "import_adapter": JobKind(N_("アダプターの取り込み", "job")),
    "evaluate": JobKind(N_("成果の確認", "job"), needs_rows=True),
    "export": JobKind(N_("書き出し", "job")),
    "advise": JobKind(
        N_("おすすめの測定", "job"), has_task=False
    ),  # an export of which nothing is kept
    "verify": JobKind(N_("検証", "job")),
    "certify": JobKind(N_("学習の証明", "job")),
    "auto": JobKind(N_("おまかせ", "job"), needs_device=False, needs_rows=True),
    "tune": JobKind(N_("設定を探す", "job")),
    "batch_test": JobKind(N_("まとめて試す", "job"), needs_rows=True),
    "deploy": JobKind(N_("Ollamaへの登録", "job")),
    "share": JobKind(N_("モデルの受け渡し", "job"), needs_device=False),
    "read_documents": JobKind(N_("文書を読む", "job"), needs_device=False),
    "generate": JobKind(N_("質問と回答を作る", "job")),
    "reword": JobKind(N_("言い換えの生成", "job")),
    "refuse": JobKind(N_("データにない質問の生成", "job")),
    "serve_model": JobKind(N_("対話用のモデル", "job"), needs_device=False, is_told=False),
    "dry_run": JobKind(N_("見積もり", "job"), is_told=False),
    "layouts": JobKind(N_("行の並べ方の測定", "job"), is_told=False),
    "preview": JobKind(N_("トークンの確認", "job"), needs_device=False, is_told=False),
    "download_model": JobKind(N_("ダウンロード", "job"), needs_device=False),
    "build_model": JobKind(N_("モデルの作成", "job"), has_task=False),  # older workspaces have some
}
ENDINGS_JA = {
    "done": N_("{name}が終わりました"),
    "failed": N_("{name}が失敗しました"),
    "interrupted": N_("{name}が途切れました"),
}
"""By state, what is said of a job. One that was stopped on request is not told of."""


def of(kind: str) -> JobKind:
    """A kind by its name; one that another version knows is just work."""
    return KINDS.get(kind, JobKind(N_("作業", "job"), has_task=False))


def told(kind: str, state: str) -> str:
    """What is said when a job of this kind ended in this state, one of `ENDINGS_JA`."""
    return _(ENDINGS_JA[state]).format(name=of(kind).name)
