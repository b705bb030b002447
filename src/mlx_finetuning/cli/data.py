"""`data inspect|prepare|preview|edit|export|list|delete|trash`: source files and datasets; `made_rows`
has `reword` and `refuse`, `generate` has `generate`."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_finetuning import config
from mlx_finetuning.cli import made_rows, text, trashing
from mlx_finetuning.cli.generate import generate
from mlx_finetuning.cli.session import CommandResult, Session, command, group
from mlx_finetuning.config import GOALS, HOLD_OUT, SUPERVISE, PrepareConfig
from mlx_finetuning.jobs.preview import Preview, PreviewSequence, PreviewToken
from mlx_finetuning.language import _, n_
from mlx_finetuning.utils import goals
from mlx_finetuning.utils.goals import GOALS_JA, SPLITS_JA

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary, Inspection
    from mlx_finetuning.data_processor.clean import CleaningStep
    from mlx_finetuning.data_processor.findings import Finding

LABELS = {True: _("○（よい回答）"), False: _("×（よくない回答）")}
KINDS = {
    "chat": _("質問と回答（会話）"),
    "text": _("文章", "rows"),
    "preference": _("好みの比較"),
    "judged": _("○×の付いた答え"),
}
SEVERITIES = {
    "error": _("使えない", "finding"),
    "warning": _("注意", "finding"),
    "info": _("参考", "finding"),
}
SHOWN_ROWS = 10
TOOLS_IGNORED = _(
    "[注意] この行には tools がありますが、このモデルのチャットテンプレートは使いません。"
    "モデルは道具の説明を見ずに学習します。"
)

data = group("data", _("データの確認と、データセットの作成"))
made_rows.add_commands(data)
data.add_command(generate)

FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
ENCODING = click.option("--encoding", metavar="NAME", help=_("文字コード。省略時は自動判定"))
MAPPING = click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="ROLE=COLUMN",
    help=_("列の役割を指定する（何度でも）。例: --map question=質問"),
)


SHEET = click.option("--sheet", metavar="NAME", help=_("表計算のブックの、読むシート"))
HEADER_ROW = click.option(
    "--header-row", metavar="ROW", help=_("見出しの行の番号（0なら見出しなし）。省略時は自動判定")
)
DELIMITER = click.option(
    "--delimiter",
    metavar="SIGN",
    help=_("CSVなどの区切り文字（comma, tab, semicolon, pipe か1文字）。省略時は自動判定"),
)
CLEAN = click.option(
    "--clean", metavar="STEPS", help=_("文章の整え方（コンマ区切り）。設定の一覧の clean を参照")
)
GOAL = click.option(
    "--goal",
    type=click.Choice(GOALS),
    help=_("何のために学習するか。省略時はデータから推定（{goals}）").format(goals=goals.listed()),
)
EVALUATION = click.option(
    "--evaluation",
    "evaluation",
    multiple=True,
    metavar="FILE",
    help=_("この評価用ファイルの問題が混ざっていないか確かめる（何度でも）"),
)


@command(data)
@FILE
@ENCODING
@MAPPING
@SHEET
@HEADER_ROW
@DELIMITER
@CLEAN
@EVALUATION
@GOAL
def inspect(session: Session, file: Path, mapping: tuple[str, ...], **named: Any) -> CommandResult:
    """ファイルの文字コード・形式・列・気になる行を調べる（データセットは作らない）

    FILE が - なら、標準入力の表やJSONを読む（作業フォルダに控えを残す）。
    """
    columns = config.parse_assignments(list(mapping))
    settings = config.load(PrepareConfig, _given(**named))
    with session.progress() as progress:
        inspection = session.studio.data.inspect(
            _received(session, file), mapping=columns or None, settings=settings, progress=progress
        )
    return CommandResult(dataclasses.asdict(inspection), _described(inspection))


def _given(evaluation: tuple[str, ...], **named: object) -> dict[str, object]:
    """The settings that were named on the command line."""
    sets = tuple(str(Path(item).absolute()) for item in evaluation) or None
    values = {"evaluation_sets": sets, **named}
    return {key: value for key, value in values.items() if value is not None}


def _received(session: Session, file: Path) -> Path:
    """The file itself; what stands on standard input, kept in the workspace, for `-`."""
    if str(file) != "-":
        return file
    return session.studio.data.keep_pasted(sys.stdin.buffer.read())


@command(data)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help=_("データセットの名前"))
@ENCODING
@MAPPING
@SHEET
@HEADER_ROW
@DELIMITER
@GOAL
@click.option("--hold-out", type=click.Choice(HOLD_OUT), help=_("検証・テスト行の選び方"))
@click.option("--stratify", metavar="COLUMN", help=_("分割の割合をそろえる列（カテゴリなど）"))
@CLEAN
@EVALUATION
@click.option(
    "--weight", "weights", multiple=True, metavar="NUMBER", help=_("各ファイルの重み（FILEの順に）")
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
@click.option(
    "--from-manifest",
    "manifest",
    metavar="JSON",
    type=click.Path(path_type=Path),
    help=_("dataset.json から同じデータセットを作り直す。元のファイルを移したときは FILE も書く"),
)
@click.option(
    "--replace", is_flag=True, help=_("同じ名前のデータセットを置き換える（前のものはゴミ箱へ）")
)
def prepare(
    session: Session,
    files: tuple[Path, ...],
    name: str | None,
    mapping: tuple[str, ...],
    assignments: tuple[str, ...],
    weights: tuple[str, ...],
    manifest: Path | None,
    replace: bool,
    **named: Any,
) -> CommandResult:
    """行を整えて確かめ、学習・検証・テストに分けてデータセットを作る

    FILE を複数書くと、1つのデータセットに合わせる。- なら、標準入力の表やJSONを読む。
    """
    values: dict[str, object] = {**config.parse_assignments(list(assignments))}
    values |= _given(**named, weights=weights or None)
    if manifest is not None:
        if values or mapping:
            raise click.UsageError(
                _("--from-manifest では、設定は dataset.json のものを使います。")
            )
        with session.progress() as progress:
            summary = session.studio.data.reproduce(
                manifest, name, files, replace=replace, progress=progress
            )
        return CommandResult(dataclasses.asdict(summary), _written(summary))
    if not files:
        raise click.UsageError(_("FILE（元のファイル）を1つ以上書いてください。"))
    if not name:
        raise click.UsageError(_("--name でデータセットの名前を指定してください。"))
    columns = config.parse_assignments(list(mapping))
    with session.progress() as progress:
        summary = session.studio.data.prepare(
            [_received(session, file) for file in files],
            name,
            config.load(PrepareConfig, values),
            columns or None,
            replace=replace,
            progress=progress,
        )
    return CommandResult(dataclasses.asdict(summary), _written(summary))


@command(data)
@click.argument("name", metavar="NAME")
@click.option("--model", required=True, metavar="MODEL", help=_("学習に使うモデル"))
@click.option("--row", type=int, metavar="N", help=_("元のファイルの行番号。省略時は最初の学習行"))
@click.option("--max-length", type=int, metavar="TOKENS", help=_("1例の最大トークン数"))
@click.option(
    "--supervise",
    type=click.Choice(SUPERVISE),
    help=_("学習するトークン。answersは答えだけ、allは全て"),
)
def preview(
    session: Session,
    name: str,
    model: str,
    row: int | None,
    max_length: int | None,
    supervise: str | None,
) -> CommandResult:
    """学習で実際に使われる文章・トークン・学習の対象を表示する"""
    with session.progress() as progress:
        shown = session.studio.data.preview(name, model, row, max_length, supervise).follow(
            progress
        )
    sequences: list[tuple[str, PreviewSequence]] = [("", shown.row)]
    others = enumerate(shown.more, 2)
    sequences += [
        (_("{number}つ目の回答（別に学習します）").format(number=at), other) for at, other in others
    ]
    if shown.rejected is not None:
        sequences = [(_("選ばれた回答"), shown.row), (_("選ばれなかった回答"), shown.rejected)]
    if shown.label is not None:
        sequences = [(LABELS[shown.label], shown.row)]
    parts = [_facts(shown)]
    if shown.tools_ignored:
        parts.append(TOOLS_IGNORED)
    if shown.warnings:
        parts.append(
            "\n".join(_("注意: {warning}").format(warning=warning) for warning in shown.warnings)
        )
    for title, sequence in sequences:
        tokens = sequence.tokens
        heading = f"■ {title}\n" if title else ""
        rows = (
            (
                str(token.id),
                _("切り捨て", "token")
                if token.cut
                else _("学習", "token")
                if token.supervised
                else "",
                repr(token.piece)[1:-1],
            )
            for token in tokens
        )
        table = text.table(("ID", _("対象"), _("文字")), rows)
        parts.append(f"{heading}{_marked(tokens)}\n\n{table}")
    return CommandResult(dataclasses.asdict(shown), "\n\n".join(parts))


@command(data)
@click.argument("name", metavar="NAME")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="ROW.COLUMN=VALUE",
    help=_("行の項目を書き換える（何度でも）。会話の発言は ROW.COLUMN[番号]=VALUE"),
)
@click.option("--delete", "deleted", multiple=True, type=int, metavar="ROW", help=_("行を除く"))
@click.option(
    "--undo", type=click.IntRange(1), metavar="N", help=_("前に直したところを、後からN個戻す")
)
@click.option(
    "--file", "file", metavar="FILE", help=_("複数のファイルから作ったときの、ファイル名")
)
@click.option("--name", "new_name", metavar="NEW", help=_("別の名前で作る（元のものはそのまま）"))
def edit(
    session: Session,
    name: str,
    changes: tuple[str, ...],
    deleted: tuple[int, ...],
    undo: int | None,
    file: str | None,
    new_name: str | None,
) -> CommandResult:
    """データセットの行を直して、作り直す（前のものはゴミ箱に移る）

    直すのは元のファイルを読んだ行で、元のファイルは書き換えない。例: --set "5.回答=9時です。"
    """
    parsed = [_CHANGE.fullmatch(change) for change in changes]
    if not (changes or deleted or undo) or not all(parsed):
        raise click.UsageError(
            _('--set "行.列=文章"、--delete 行、--undo 数 のどれかを書いてください。')
        )
    if undo and (changes or deleted):
        raise click.UsageError(_("--undo は、--set や --delete と一緒には使えません。"))
    rows = session.studio.data.edited(name, file or "")
    for change in filter(None, parsed):
        rows.set(int(change["row"]), change["column"], change["text"], int(change["turn"] or 0))
    for row in deleted:
        rows.delete(row)
    edits = rows.edits[: len(rows.edits) - undo] if undo else rows.edits
    with session.progress() as progress:
        summary = session.studio.data.edit(name, edits, new_name or "", progress=progress)
    return CommandResult(dataclasses.asdict(summary), _written(summary))


_CHANGE = re.compile(
    r"(?P<row>[0-9]{1,9})\.(?P<column>[^=]+?)(?:\[(?P<turn>[0-9]{1,6})\])?=(?P<text>.*)", re.DOTALL
)


@command(data)
@click.argument("name", metavar="NAME")
@click.option(
    "--format",
    "form",
    type=click.Choice(("csv", "xlsx")),
    default="xlsx",
    help=_("ファイルの形式。csvは、Excelで開けるUTF-8（BOM付き）"),
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=_("省略時は NAME.xlsx か NAME.csv"),
)
def export(session: Session, name: str, form: str, out: Path | None) -> CommandResult:
    """データセット全体を、表計算のファイルに書き出す（data prepare で読み戻せる）"""
    written = session.studio.data.export(name, form, out or Path(f"{name}.{form}"))
    return CommandResult(
        {"path": str(written)}, _("書き出しました: {written}").format(written=written)
    )


@command(data, "list")
def list_(session: Session) -> CommandResult:
    """データセットの一覧を表示する"""
    entries, rows = session.studio.data.list(), []
    for entry in entries:
        if entry.manifest is None:
            rows.append([entry.name, _("記録が読めません"), "", "", ""])
            continue
        kind, counts = str(entry.manifest.get("kind")), entry.manifest.get("counts", {})
        splits = (str(counts.get(split, 0)) for split in ("train", "valid", "test"))
        rows.append([entry.name, KINDS.get(kind, kind), *splits])
    shown = text.table(
        [_("名前"), _("種類"), _("学習", "split"), _("検証", "split"), _("テスト", "split")], rows
    )
    nothing = _("データセットはまだありません。mlx-finetuning data prepare で作れます。")
    data = {"datasets": [dataclasses.asdict(entry) for entry in entries]}
    return CommandResult(data, shown if entries else nothing)


@command(data)
@click.argument("name", metavar="NAME")
@click.option("--restore", is_flag=True, help=_("ゴミ箱から元に戻す"))
def delete(session: Session, name: str, restore: bool) -> CommandResult:
    """データセットをゴミ箱に移す（--restore で元に戻せる）"""
    if restore:
        session.studio.data.restore(name)
        return trashing.restored(name)
    session.studio.data.delete(name)
    return trashing.moved(name, "data")


@command(data)
@click.option("--empty", is_flag=True, help=_("ゴミ箱を空にする（元に戻せない）"))
def trash(session: Session, empty: bool) -> CommandResult:
    """ゴミ箱の中のデータセットを表示する"""
    if empty:
        return trashing.emptied(session.studio.machine.clean("deleted_datasets"))
    deleted = session.studio.data.deleted()
    rows = ([dataset.name, dataset.deleted_at[:16]] for dataset in deleted)
    return CommandResult(
        {"deleted": [dataclasses.asdict(dataset) for dataset in deleted]},
        text.table([_("データセット", "one"), _("削除", "when")], rows)
        if deleted
        else _("ゴミ箱は空です。"),
    )


def _facts(shown: Preview) -> str:
    row, totals = shown.row, shown.totals
    cut = _("なし")
    if row.cut:
        cut = n_("{cut} トークン", row.cut).format(cut=row.cut)
        if row.answer_end_lost:
            cut = _("{cut}。回答の終わりが切れます").format(cut=cut)
    too_long = _("、").join(
        _("{source} {row}（{cut} 超過）")
        .format(source=item.source, row=item.row, cut=item.cut)
        .strip()
        for item in totals.too_long[:SHOWN_ROWS]
    )
    if totals.cut_rows > SHOWN_ROWS:
        too_long = _("{rows} ほか").format(rows=too_long)
    return text.pairs(
        [
            (
                _("行"),
                _("{row} 行目（{split}）").format(
                    row=row.row, split=_(SPLITS_JA.get(row.split, row.split))
                ),
            ),
            (
                _("トークン"),
                _("{tokens}（1文字あたり {share}）").format(
                    tokens=row.token_count, share=row.tokens_per_character
                ),
            ),
            (
                _("学習の対象"),
                _("{tokens} トークン（下の【】の中）").format(tokens=row.supervised_tokens),
            ),
            (_("切り捨て", "tokens"), cut),
            (
                _("考えた過程"),
                _("学習します（考えてから答えるモデルになります）") if shown.thinks else "",
            ),
            ("", ""),
            (
                _("全体", "rows"),
                _("{rows} 行、{tokens} トークン").format(rows=totals.rows, tokens=totals.tokens),
            ),
            (_("学習の対象の割合"), f"{totals.supervised_share:.1%}"),
            (
                _("最も長い行"),
                _("{row} 行目（{tokens} トークン）").format(
                    row=totals.longest_row, tokens=totals.longest_tokens
                ),
            ),
            (
                _("上限を超える行"),
                _(
                    "{rows}（うち回答の終わりが切れる行 {ends_lost}、学習に使えない行 {unused}）"
                ).format(
                    rows=totals.cut_rows,
                    ends_lost=totals.answer_end_lost_rows,
                    unused=totals.unused_rows,
                ),
            ),
            (_("その行番号"), too_long),
            (_("学習後に使える場所"), _("、").join(shown.ends)),
        ]
    )


def _marked(tokens: Iterable[PreviewToken]) -> str:
    """The pieces in a row, what is learned in brackets, what is cut after a bar."""
    parts: list[str] = []
    before = end = PreviewToken(0, "", supervised=False, cut=False)
    for token in [*tokens, end]:
        if before.supervised and not token.supervised:
            parts.append(_("】"))
        if token.cut and not before.cut:
            parts.append(_("〔ここから切り捨て〕"))
        if token.supervised and not before.supervised:
            parts.append(_("【"))
        parts.append(token.piece)
        before = token
    return "".join(parts)


def _described(inspection: Inspection) -> str:
    kind = KINDS.get(inspection.kind or "", _("学習に使えない形"))
    wordings = (
        _("{facts}件の内容にあります（その一部を、教えずに確かめに使います）").format(
            facts=inspection.reworded_facts
        )
        if inspection.reworded_facts
        else _("ありません（全ての行を教え、確かめには、機械的に作った言い換えを使います）")
    )
    facts = text.pairs(
        [
            (
                _("ファイル"),
                _("{path}（{format}、{size}）").format(
                    path=inspection.path,
                    format=inspection.format,
                    size=text.size(inspection.size_bytes),
                ),
            ),
            (
                _("文字コード"),
                _("{encoding}（{reason}）").format(
                    encoding=inspection.encoding, reason=inspection.encoding_reason
                ),
            ),
            (_("シート"), inspection.sheet if len(inspection.sheets) > 1 else ""),
            (_("種類"), kind),
            (_("目的"), _goal(inspection) if inspection.kind else ""),
            (_("別の聞き方"), wordings if inspection.goal == "faq" else ""),
            (
                _("行", "count"),
                _("{rows}（使える行 {usable}）").format(
                    rows=inspection.source_rows, usable=inspection.usable_rows
                ),
            ),
            (_("列", "count"), _("、").join(inspection.columns)),
            *(
                (
                    f"  {choice.role}",
                    _("{column}（{reason}）").format(column=choice.column, reason=choice.reason),
                )
                for choice in inspection.mapping
            ),
        ]
    )
    return "\n".join([facts, *_steps(inspection.cleaning), *_findings(inspection.findings)])


def _goal(judged: Inspection | DatasetSummary) -> str:
    """What the model is for, and why that is supposed."""
    return _("{goal}（{reason}。変えるには --goal）").format(
        goal=_(GOALS_JA[judged.goal]), reason=judged.goal_reason
    )


def _steps(cleaning: Iterable[CleaningStep]) -> list[str]:
    """What cleaning changes, with the first change of each step."""
    lines: list[str] = []
    for step in cleaning:
        if step.rows:
            row, before, after = step.samples[0]
            lines.append(
                _("[整形] {description}: {rows} 行（--clean {name}）").format(
                    description=_(step.description), rows=step.rows, name=step.name
                )
            )
            lines.append(
                _("    {row} 行目: {before} → {after}").format(
                    row=row, before=_quoted(before), after=_quoted(after)
                )
            )
    return lines


def _quoted(value: str) -> str:
    """Short, with invisible characters as escapes, so that a change can be seen."""
    visible = (sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in value)
    return text.shorten("".join(visible), 40)


def _written(summary: DatasetSummary) -> str:
    counts = summary.counts
    sources = []
    for source in summary.sources:
        facts = [source.encoding, n_("{rows} 行", source.rows).format(rows=source.rows)]
        if source.weight != 1:
            facts.append(_("重み {weight:g}").format(weight=source.weight))
        sources.append(_("{path}（{facts}）").format(path=source.path, facts=_("、").join(facts)))
    told = text.pairs(
        [
            (
                _("データセット", "one"),
                _("{name}（{folder}）").format(name=summary.name, folder=summary.folder),
            ),
            (_("種類"), KINDS.get(summary.kind, summary.kind)),
            (_("目的"), _goal(summary)),
            *((_("元のファイル"), source) for source in sources),
            (
                _("行", "count"),
                _("{rows} 行のうち {usable} 行を使用").format(
                    rows=summary.source_rows, usable=summary.usable_rows
                ),
            ),
            (_("教える行"), n_("{rows} 行", counts["train"]).format(rows=counts["train"])),
            (
                _("教えない行"),
                _("検証 {valid} 行、テスト {test} 行").format(
                    valid=counts["valid"], test=counts["test"]
                ),
            ),
            (
                _("列の役割"),
                _("、").join(f"{role}={name}" for role, name in summary.mapping.items()),
            ),
            (
                _("除いた行"),
                _("、").join(f"{code} {rows}" for code, rows in summary.dropped.items()),
            ),
        ]
    )
    return "\n".join([told, *_steps(summary.cleaning), *_findings(summary.findings)])


def _findings(findings: Iterable[Finding]) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        places = [finding.source] if finding.source else []
        if finding.rows:
            rows = _("、").join(str(row) for row in finding.rows[:SHOWN_ROWS])
            if len(finding.rows) > SHOWN_ROWS:
                rows = _("{rows} ほか").format(rows=rows)
            places.append(_("行 {rows}").format(rows=rows))
        where = _("（{place}）").format(place=" ".join(places)) if places else ""
        lines.append(f"[{SEVERITIES[finding.severity]}] {_(finding.message)}{where}")
        lines += [f"    → {_(finding.fix)}"] if finding.fix else []
    return lines
