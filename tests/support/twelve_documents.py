"""The twelve documents: what a small company has, in every format, with what must be read of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.documents import Pdf, docx_with, sentences

W = '<w:p><w:r><w:t xml:space="preserve">{}</w:t></w:r></w:p>'


@dataclass(frozen=True)
class Made:
    """A document and what it holds."""

    path: Path
    text: str
    """In reading order, cells of tables row by row."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Of its tables."""
    headings: tuple[str, ...] = ()
    scanned: tuple[int, ...] = ()


PRICES = (
    ("品名", "単価", "備考"),
    ("みかん（箱）", "3,200円", "10kg入り"),
    ("りんご（箱）", "4,500円", "産地直送"),
    ("ぶどう（房）", "980円", "冷蔵"),
)


def rules(folder: Path) -> Made:
    """A PDF of several pages with running heads, chapters and articles."""
    pdf = Pdf(folder / "就業規則.pdf", head="株式会社みどり商店　就業規則")
    text, headings = [], []
    pdf.heading("就業規則", 20)
    text.append("就業規則")
    headings.append("就業規則")
    for chapter in range(1, 5):
        title = f"第{chapter}章　{('総則', '勤務', '休暇', '賃金')[chapter - 1]}"
        pdf.heading(title)
        headings.append(title.replace("\u3000", " "))
        text.append(title)
        for article in range(1, 4):
            name = f"第{chapter * 3 + article - 3}条（{('目的', '範囲', '手続き')[article - 1]}）"
            pdf.heading(name, 11)
            headings.append(name)
            body = sentences(f"第{chapter}章の規定", 4)
            pdf.paragraph(body)
            text += [name, body]
    return Made(pdf.save(), "".join(text), headings=tuple(headings))


def price_list(folder: Path) -> Made:
    """A PDF with a ruled table, one with merged cells, and text around them."""
    pdf = Pdf(folder / "価格表.pdf")
    pdf.heading("価格表（2026年度版）")
    before = "表示の価格は全て税込みです。送料は地域によって異なり、別にいただきます。"
    pdf.paragraph(before)
    pdf.ruled(PRICES)
    after = "ご注文は電話（03-1234-5678）か、専用の用紙でお願いします。"
    pdf.paragraph(after)
    merged = (
        ("地域", "送料", ""),
        ("", "通常", "冷蔵"),
        ("関東", "800円", "1,100円"),
        ("九州", "1,200円", "1,600円"),
    )
    pdf.ruled(merged, [("SPAN", (1, 0), (2, 0)), ("SPAN", (0, 0), (0, 1))])
    filled = (("地域", "送料", "送料"), ("地域", "通常", "冷蔵"), *merged[2:])
    cells = "".join("".join(row) for row in (*PRICES, *filled))
    text = f"価格表（2026年度版）{before}{''.join(''.join(row) for row in PRICES)}{after}"
    text += cells.removeprefix("".join("".join(row) for row in PRICES))
    return Made(pdf.save(), text, (*PRICES, *filled), ("価格表（2026年度版）",))


def open_table(folder: Path) -> Made:
    """A PDF whose table has no ruled lines."""
    pdf = Pdf(folder / "内線番号.pdf")
    rows = (
        ("部署", "内線", "担当"),
        ("総務課", "101", "佐藤花子"),
        ("経理課", "102", "鈴木一郎"),
        ("営業課", "201", "田中実"),
    )
    pdf.heading("内線番号の一覧")
    intro = "部署ごとの内線番号は次のとおりです。変更があれば総務課まで届け出てください。"
    pdf.paragraph(intro)
    pdf.columns(rows)
    return Made(
        pdf.save(),
        "内線番号の一覧" + intro + "".join("".join(row) for row in rows),
        rows,
        ("内線番号の一覧",),
    )


def newsletter(folder: Path) -> Made:
    """A PDF in two columns."""
    pdf = Pdf(folder / "社内報.pdf")
    pdf.heading("社内報　秋号")
    left, right = sentences("社員旅行", 9), sentences("健康診断", 8)
    pdf.text_columns(left, right)
    return Made(pdf.save(), "社内報 秋号" + left + right, headings=("社内報 秋号",))


def vertical(folder: Path) -> Made:
    """A vertical PDF."""
    pdf = Pdf(folder / "縦書き.pdf")
    columns = [
        "　吾輩は猫である。名前はまだ無い。どこで生れたかとんと",
        "見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー",
        "泣いていた事だけは記憶している。",
        "　吾輩はここで始めて人間というものを見た。しかもあとで",
        "聞くとそれは書生という人間中で一番獰悪な種族であった。",
    ]
    pdf.vertical(columns)
    return Made(pdf.save(), "".join(columns))


def scanned(folder: Path) -> Made:
    """A PDF of which one page was scanned; another line has ruby."""
    pdf = Pdf(folder / "議事録.pdf")
    pdf.heading("第12回 安全会議 議事録")
    lines = [
        "日時：2026年10月5日（月）午後2時から",
        "場所：本社3階の会議室",
        "出席：佐藤、鈴木、田中",
    ]
    pdf.lines(lines)
    pdf.ruby("渡邉委員から、非常口の点検の報告があった。", "わたなべ")
    pdf.new_page()
    pdf.image()
    pdf.new_page()
    pdf.paragraph("次回は11月2日に開く。")
    text = (
        "第12回 安全会議 議事録"
        + "".join(lines)
        + "渡邉委員から、非常口の点検の報告があった。次回は11月2日に開く。"
    )
    return Made(pdf.save(), text, scanned=(2,))


def handbook(folder: Path) -> Made:
    """A DOCX with headings, a list and a table, by python-docx."""
    from docx import Document

    document = Document()
    document.add_heading("経費精算の手引き", 1)
    document.add_paragraph("経費は、使った月の翌月10日までに申請します。")
    document.add_heading("申請の手順", 2)
    steps = ["領収書を撮影する。", "申請書に金額を入れる。", "上長の承認を受ける。"]
    for step in steps:
        document.add_paragraph(step, style="List Number")
    document.add_heading("上限額", 2)
    rows = (("費目", "上限"), ("宿泊費", "1泊12,000円"), ("日当", "2,500円"))
    made = document.add_table(len(rows), 2)
    for row, values in zip(made.rows, rows, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    document.save(str(folder / "手引き.docx"))
    text = (
        "経費精算の手引き経費は、使った月の翌月10日までに申請します。申請の手順"
        + "".join(steps)
        + "上限額"
    )
    return Made(
        folder / "手引き.docx",
        text + "".join("".join(row) for row in rows),
        rows,
        ("経費精算の手引き", "申請の手順", "上限額"),
    )


def word_ruby(folder: Path) -> Made:
    """A DOCX with ruby, deleted words, and a heading by wording alone."""
    ruby = (
        "<w:p><w:r><w:t>担当は</w:t></w:r><w:r><w:ruby><w:rt><w:r><w:t>こうのいけ</w:t></w:r></w:rt>"
        "<w:rubyBase><w:r><w:t>鴻池</w:t></w:r></w:rubyBase></w:ruby></w:r><w:r><w:t>です。</w:t></w:r>"
        '<w:del w:id="1" w:author="a"><w:r><w:delText>消した文</w:delText></w:r></w:del></w:p>'
    )
    path = docx_with(
        folder / "担当者.docx", W.format("第1章 担当者") + ruby + W.format("内線は301番です。")
    )
    return Made(path, "第1章担当者担当は鴻池です。内線は301番です。", headings=("第1章 担当者",))


def slides(folder: Path) -> Made:
    """A PPTX with titles, items, a table and notes."""
    from pptx import Presentation
    from pptx.util import Inches

    show = Presentation()
    first = show.slides.add_slide(show.slide_layouts[1])
    first.shapes.title.text = "新入社員研修"
    first.placeholders[1].text = "初日は本社に集合する\n持ち物は筆記用具と印鑑"
    first.notes_slide.notes_text_frame.text = "受付は9時に始める。"
    second = show.slides.add_slide(show.slide_layouts[5])
    second.shapes.title.text = "日程"
    rows = (("日", "内容"), ("4月1日", "入社式"), ("4月2日", "安全教育"))
    grid = second.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(6), Inches(2)).table
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            grid.cell(row, column).text = value
    show.save(str(folder / "研修.pptx"))
    text = "新入社員研修初日は本社に集合する持ち物は筆記用具と印鑑受付は9時に始める。日程"
    return Made(
        folder / "研修.pptx",
        text + "".join("".join(row) for row in rows),
        rows,
        ("新入社員研修", "日程"),
    )


def page(folder: Path) -> Made:
    """A CP932 HTML page with ruby, a script, navigation and a table with spans."""
    html = (
        "<html><head><title>案内</title><script>alert('x')</script></head><body><nav>目次</nav>"
        "<h1>図書室の利用</h1><p>受付は<ruby>東雲<rp>（</rp><rt>しののめ</rt><rp>）</rp></ruby>が担当します。</p>"
        "<h2>貸し出し</h2><ul><li>一人5冊まで</li><li>期間は2週間</li></ul>"
        "<table><tr><th>曜日</th><th>時間</th></tr><tr><td rowspan=2>平日</td><td>10:00から</td></tr>"
        "<tr><td>18:00まで</td></tr></table></body></html>"
    )
    path = folder / "図書室.html"
    path.write_bytes(html.encode("cp932"))
    rows = (("曜日", "時間"), ("平日", "10:00から"), ("平日", "18:00まで"))
    text = "図書室の利用受付は東雲が担当します。貸し出し一人5冊まで期間は2週間"
    return Made(
        path, text + "".join("".join(row) for row in rows), rows, ("図書室の利用", "貸し出し")
    )


def manual(folder: Path) -> Made:
    """A Markdown manual with a nested list and a table."""
    path = folder / "手順書.md"
    path.write_text(
        "# 複合機の使い方\n\n電源は**右の側面**にあります。\n\n## 紙詰まり\n\n1. 前のカバーを開ける。\n2. 紙を引き抜く。\n\n"
        "- 注意\n  - 中は熱い\n\n| 番号 | 意味 |\n|---|---|\n| E1 | 紙切れ |\n| E2 | 紙詰まり |\n",
        encoding="utf-8",
    )
    rows = (("番号", "意味"), ("E1", "紙切れ"), ("E2", "紙詰まり"))
    text = "複合機の使い方電源は右の側面にあります。紙詰まり前のカバーを開ける。紙を引き抜く。注意中は熱い"
    return Made(
        path, text + "".join("".join(row) for row in rows), rows, ("複合機の使い方", "紙詰まり")
    )


def plain(folder: Path) -> Made:
    """A plain text with broken lines, ruby of Aozora Bunko and numbered articles."""
    path = folder / "規約.txt"
    path.write_text(
        "第1章 会員\n\n　会員は、入会の申込書を事務局《じむきょく》に出し、年会費を納めることで、会の\n"
        "催しに参加することができる。\n　退会は、いつでも申し出ることができる。\n\n"
        "第2章 会費\n\n1. 個人は年3,000円\n2. 団体は年10,000円\n\n- 3 -\n",
        encoding="utf-8",
    )
    text = (
        "第1章 会員会員は、入会の申込書を事務局に出し、年会費を納めることで、会の催しに参加することができる。"
        "退会は、いつでも申し出ることができる。第2章 会費1. 個人は年3,000円2. 団体は年10,000円"
    )
    return Made(path, text, headings=("第1章 会員", "第2章 会費"))


MAKERS: dict[str, Callable[[Path], Made]] = {
    make.__name__: make
    for make in (
        *(rules, price_list, open_table, newsletter, vertical, scanned),
        *(handbook, word_ruby, slides, page, manual, plain),
    )
}
