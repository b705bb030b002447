"""The kinds of jobs: what people call them, what they wait for, and how they are told of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobKind:
    """Its settings and its result are dataclasses that its task and who starts it know."""

    name_ja: str
    """What people call it."""
    has_task: bool = True
    """Whether a module of `tasks` does it."""
    needs_device: bool = True
    """Whether it waits for its turn: all but those that compute nothing, or answer people who wait."""
    needs_rows: bool = False
    """Whether it asks what the run's dataset holds."""
    is_told: bool = True
    """Not those that whoever asked for them is waiting for, or that do not end by themselves."""


KINDS = {
    "train": JobKind("学習"),
    "merge": JobKind("アダプターの合成"),
    "import_adapter": JobKind("アダプターの取り込み"),
    "evaluate": JobKind("成果の確認", needs_rows=True),
    "export": JobKind("書き出し"),
    "advise": JobKind("おすすめの測定", has_task=False),  # an export of which nothing is kept
    "verify": JobKind("検証"),
    "certify": JobKind("学習の証明"),
    "auto": JobKind("おまかせ", needs_device=False, needs_rows=True),
    "tune": JobKind("設定を探す"),
    "batch_test": JobKind("まとめて試す", needs_rows=True),
    "deploy": JobKind("Ollamaへの登録"),
    "share": JobKind("モデルの受け渡し", needs_device=False),
    "read_documents": JobKind("文書を読む", needs_device=False),
    "generate": JobKind("質問と回答を作る"),
    "reword": JobKind("言い換えの生成"),
    "refuse": JobKind("データにない質問の生成"),
    "serve_model": JobKind("対話用のモデル", needs_device=False, is_told=False),
    "dry_run": JobKind("見積もり", is_told=False),
    "layouts": JobKind("行の並べ方の測定", is_told=False),
    "preview": JobKind("トークンの確認", needs_device=False, is_told=False),
    "download_model": JobKind("ダウンロード", needs_device=False),
    "build_model": JobKind("モデルの作成", has_task=False),  # older workspaces have some
}
ENDINGS_JA = {
    "done": "が終わりました",
    "failed": "が失敗しました",
    "interrupted": "が途切れました",
}
"""By state, what is said behind a kind's name. A job that was stopped on request is not told of."""


def of(kind: str) -> JobKind:
    """A kind by its name; one that another version knows is just work."""
    return KINDS.get(kind, JobKind("作業", has_task=False))
