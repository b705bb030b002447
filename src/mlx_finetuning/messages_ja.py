"""The Japanese wording of every error: what happened, why, what to do next. Used by CLI and UI.

Placeholders are keys of the error's `data`. No logic beyond filling them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_finetuning.errors import StudioError


@dataclass(frozen=True)
class Message:
    what: str
    why: str
    next_step: str

    @property
    def text(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.next_step) if line)


CATALOGUE: dict[str, Message] = {
    # the request itself
    "INVALID_NAME": Message(
        "{kind}の名前「{name}」は使えません。",
        "使えるのは、英小文字・数字・ハイフンだけの64文字以内の名前です（先頭は英小文字か数字）。",
        "名前を変えて、もう一度実行してください。例: my-data-01",
    ),
    "INVALID_SETTINGS": Message(
        "設定に誤りがあります。",
        "{problems}",
        "設定を直して、もう一度実行してください。設定の一覧は config/default_config.yaml にあります。",
    ),
    "CONFIG_FILE_UNREADABLE": Message(
        "設定ファイル {path} を読めません。",
        "{reason}",
        "ファイルの場所と、YAMLの書き方（字下げ、コロンの後の空白）を確認してください。",
    ),
    "NEWER_SCHEMA": Message(
        "{path} は、このアプリより新しい版で作られています。",
        "ファイルの版は {found}、このアプリが扱える版は {supported} までです。",
        "アプリを新しい版に更新してください。ファイルは書き換えていません。",
    ),
    "RECORD_DAMAGED": Message(
        "{path} は壊れていて読めません。",
        "書き込みの途中で止まったか、手で書き換えられた可能性があります。",
        "元のファイルがあれば戻してください。残りの記録はそのまま使えます。",
    ),
    # data
    "DATASET_NOT_FOUND": Message(
        "データセット「{name}」が見つかりません。",
        "このワークスペースにあるデータセット: {available}",
        "名前を確認するか、mlx-finetuning data prepare ファイル --name {name} で作成してください。",
    ),
    "DATASET_EXISTS": Message(
        "データセット「{name}」はすでにあります。",
        "同じ名前のデータセットを、確認なしに上書きすることはしません。",
        "別の名前にするか、置き換えるときは --replace を付けてください。",
    ),
    # runs
    "RUN_NOT_FOUND": Message(
        "実験「{run_id}」が見つかりません。",
        "最近の実験: {recent}",
        "mlx-finetuning runs list で実験IDを確認してください。",
    ),
    # system
    "DISK_FULL": Message(
        "ディスクに書き込めません: {path}",
        "空き容量が足りないか、ファイルの大きさの上限に達しました。",
        "不要なファイルを消して空きを作り、もう一度実行してください。書きかけのファイルは残していません。",
    ),
    "UNEXPECTED": Message(
        "予期しないエラーが起きました（{kind}）。",
        "{reason}",
        "同じ操作でもう一度試し、続くときはログを添えて報告してください。ログ: {log}",
    ),
    "INTERRUPTED": Message(
        "中断しました。", "停止の指示を受けました。", "必要なときに、もう一度実行してください。"
    ),
}


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "不明"


def _shown(value: Any) -> Any:
    if isinstance(value, list | tuple):
        lines = [str(item) for item in value]
        sentences = any(line.endswith(("。", "）")) for line in lines)
        return ("\n" if sentences else "、").join(lines) or "なし"
    return value


def describe(error: StudioError) -> Message:
    """The error's wording with its data filled in."""
    template = CATALOGUE[error.code] if error.code in CATALOGUE else CATALOGUE["UNEXPECTED"]
    data = _Blank({key: _shown(value) for key, value in error.data.items()})
    return Message(
        *(part.format_map(data) for part in (template.what, template.why, template.next_step))
    )
