"""Words that several pages use for the same thing."""

from __future__ import annotations

SPLITS_JA = {"train": "学習", "valid": "検証", "test": "テスト"}
KINDS_JA = {"chat": "質問と回答（会話）", "text": "文章", "preference": "好みの比較"}
"""Of dataset rows."""
JOBS_JA = {
    "train": "学習",
    "evaluate": "評価",
    "export": "書き出し",
    "verify": "検証",
    "certify": "学習の証明",
    "deploy": "Ollamaへの登録",
    "serve_model": "対話の準備",
    "dry_run": "見積もり",
    "preview": "トークンの確認",
    "build_model": "モデルの作成",
}
"""Kinds of jobs."""
