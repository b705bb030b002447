"""Which rows their own table calls withdrawn, not yet approved or out of date, by the columns that say so."""

from __future__ import annotations

import datetime
import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from mlx_finetuning.data_processor.readers.column_names import key

Records = Sequence[tuple[int, Sequence[Any]]]

_STATUSES = frozenset(
    "公開状態 公開 状態 ステータス 公開設定 状況 使用区分 利用区分 公開区分 掲載区分 有効区分 承認 status state draft published".split()
)
"""Names of columns whose words may withdraw a row, alone or at the end of a longer one (公開ステータス)."""
_WITHDRAWN = frozenset(
    "下書き 草稿 非公開 未公開 公開前 公開終了 公開停止 掲載終了 掲載停止 使用停止 利用停止 アーカイブ 廃止 廃止済 廃止済み "
    "削除 削除済 削除済み 取り下げ 取下げ 取消 取り消し 失効 期限切れ 旧版 無効 使用不可 差し戻し 差戻し 差戻 承認待ち 承認待 未承認 "
    "承認前 否認 draft unpublished archived private deleted trash trashed auto-draft deprecated obsolete expired "
    "inactive withdrawn retired superseded disabled".split()
)
_HIDING = frozenset(
    "削除フラグ 削除 削除済み delflg delflag isdel 非公開フラグ 非表示 非表示フラグ 下書きフラグ deleted isdeleted deleteflag hidden "
    "ishidden isdraft archived isarchived 削除日 削除日時 削除年月日 deletedat deletedon archivedat 廃止 廃止フラグ 無効 無効フラグ "
    "取り下げ 取下げ".split()
)
"""Names of flags, and of dates, that withdraw a row."""
_SHOWING = frozenset(
    "公開フラグ 公開可否 公開 公開/非公開 掲載 掲載フラグ 掲載可否 表示 表示フラグ 表示可否 表示/非表示 有効 有効フラグ 有効/無効 "
    "使用可否 利用可否 使用フラグ 最新 最新フラグ 最新版 published ispublished ispublic visible active isactive "
    "enabled isenabled islatest islatestversion".split()
)
"""Names of flags without which a row is withdrawn."""
_YES = frozenset("1 1.0 true yes y ○ ◯ 〇 ✓ ✔ 済 削除済 非表示 下書き".split()) | _WITHDRAWN
_NO = (
    frozenset("0 0.0 false no n × ✕ ✖ 否 不可 非公開 未公開 非表示 非掲載 不使用".split())
    | _WITHDRAWN
)
_REMARKS = frozenset(
    "備考 メモ 注記 特記事項 社内メモ コメント 摘要 note notes remark remarks memo comment".split()
)
_NOT_TO_USE = re.compile(
    "使わない|使用しない|使用禁止|使用不可|利用不可|廃止(?:済み?|予定)?$|削除(?:済み?|予定)$|(?:古い|旧)(?:回答|情報|内容)"
)
_ENDS = re.compile(
    r"(?:有効期限|有効期間終了日?|有効期間(?:の)?(?:至|末)|(?:公開|掲載|適用|有効|表示)(?:終了|期限)(?:日|日時|年月日)?"
    r"|失効日|廃止日|廃止年月日|expires?|expiresat|expireson|expiry|expirydate|expirationdate|expireddate|validto|validuntil|effectiveto)$"
)
_DATE = re.compile(
    r"(?<!\d)(\d{4})(?:\s*[年/.-]\s*(\d{1,2})\s*[月/.-]\s*(\d{1,2})|(\d{2})(\d{2}))(?!\d)"
)
_LONGEST = 100
"""Letters of a cell that are looked at."""


def withdrawn(columns: Sequence[str], free: Sequence[str], records: Records) -> tuple[int, ...]:
    """Numbers of rows that a flag, a state or a remark withdraws. `free`: the columns that play no role,
    of which alone words are believed."""
    rows: set[int] = set()
    for at, name in enumerate(columns):
        named = key(name)
        if named in _HIDING:
            signs, pattern = _YES, _DATE  # deleted_at
        elif named in _SHOWING:
            signs, pattern = _NO, None
        elif name in free and named.endswith(tuple(_STATUSES)):
            signs, pattern = _WITHDRAWN, None
        elif name in free and named in _REMARKS:
            signs, pattern = _WITHDRAWN, _NOT_TO_USE
        else:
            continue
        for row, values in records:
            said = str(values[at])[:_LONGEST].strip().casefold()
            if said in signs or (pattern is not None and pattern.search(said)):
                rows.add(row)
    return tuple(sorted(rows))


def expired(
    columns: Sequence[str], records: Records, today: datetime.date | None = None
) -> dict[str, tuple[int, ...]]:
    """Column of last days → rows whose day is over."""
    ended = {}
    for at, name in enumerate(columns):
        if not _ENDS.search(key(name)):
            continue
        days = ((row, last_day(str(values[at])[:_LONGEST])) for row, values in records)
        over = tuple(row for row, day in days if day and day < (today or datetime.date.today()))
        if over:
            ended[name] = over
    return ended


@functools.lru_cache(maxsize=10_000)
def last_day(text: str) -> datetime.date | None:
    """The last day that a cell names, in either calendar; None for what is no date."""
    if not any(map(str.isdigit, text)):
        return None
    # Its lists of names are loaded only where there are dates to read.
    from mlx_finetuning.utils.facts import numeric

    found = list(_DATE.finditer(numeric(unicodedata.normalize("NFKC", text))))
    try:
        return datetime.date(*map(int, filter(None, found[-1].groups()))) if found else None
    except ValueError:
        return None
