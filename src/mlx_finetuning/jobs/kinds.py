"""The kinds of jobs: what people call them, and how they are told of."""

from __future__ import annotations

JOBS_JA = {
    "train": "学習",
    "merge": "アダプターの合成",
    "import_adapter": "アダプターの取り込み",
    "evaluate": "成果の確認",
    "export": "書き出し",
    "advise": "おすすめの測定",  # an export of which nothing is kept
    "verify": "検証",
    "certify": "学習の証明",
    "auto": "おまかせ",
    "tune": "設定を探す",
    "batch_test": "まとめて試す",
    "deploy": "Ollamaへの登録",
    "share": "モデルの受け渡し",
    "read_documents": "文書を読む",
    "generate": "質問と回答を作る",
    "reword": "言い換えの生成",
    "refuse": "データにない質問の生成",
    "serve_model": "対話用のモデル",
    "dry_run": "見積もり",
    "layouts": "行の並べ方の測定",
    "preview": "トークンの確認",
    "download_model": "ダウンロード",
    "build_model": "モデルの作成",  # no longer run; older workspaces have some
}


def name_ja(kind: str) -> str:
    """What people call a kind; of one that another version knows, just work."""
    return JOBS_JA.get(kind, "作業")


WITHOUT_DEVICE = (*("preview", "serve_model", "download_model", "auto", "share", "read_documents"),)
"""Those that need not wait for their turn: they compute nothing, or answer people who wait."""
NEED_ROWS = ("evaluate", "batch_test", "auto")
"""Those that ask what the run's dataset holds."""
SILENT = ("serve_model", "dry_run", "preview", "layouts")
"""Those that whoever asked for them is waiting for, or that do not end by themselves."""
ENDINGS_JA = {
    "done": "が終わりました",
    "failed": "が失敗しました",
    "interrupted": "が途切れました",
}
"""By state, what is said behind a kind's name. A job that was stopped on request is not told of."""
