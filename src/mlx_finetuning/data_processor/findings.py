"""What the dataset stage finds: a code, a severity, the rows, and a Japanese text for each code.

`error` rows are left out of the dataset, `warning` rows stay and deserve a look, `info` explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_finetuning.language import N_, _

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Kind:
    """One kind of finding; `message` may hold placeholders for a finding's details."""

    severity: Severity
    message: str
    fix: str


KINDS: dict[str, Kind] = {
    # reading
    "LOW_CONFIDENCE": Kind(
        "warning",
        N_("文字コードの判定（{encoding}）に自信がありません。"),
        N_("下の内容が正しく読めているか確かめ、違うときは文字コードを指定してください。"),
    ),
    "SYMLINK": Kind("info", N_("リンク先のファイルを読みました: {target}"), ""),
    "RAGGED_ROW": Kind(
        "warning",
        N_("列の数が見出しと違う行があります。足りない項目は空、余った項目は使いません。"),
        N_("区切り文字や引用符の抜けがないか確認してください。"),
    ),
    "SINGLE_QUOTES": Kind("info", N_("項目が {sign} で囲まれた表として読みました。"), ""),
    "LOOSE_QUOTES": Kind(
        "warning",
        N_("引用符の使い方が規則と違うところがあります。読める範囲で読みました。"),
        N_("項目の中の引用符は2つ重ねて書いてください。"),
    ),
    # finding the table
    "SHEET": Kind(
        "info",
        N_("シート「{sheet}」を読みました。ほかのシート: {others}"),
        N_("別のシートを読むときは --sheet シート名 で指定してください。"),
    ),
    "SHEETS_ALIKE": Kind(
        "warning",
        N_("同じように質問や回答の列があるシートが、ほかにもあります: {sheets}。読んでいません。"),
        N_(
            "使うときは --sheet シート名 で、シートごとにデータセットを作るか、1つのシートにまとめてください。"
        ),
    ),
    "MERGED_CELLS": Kind("info", N_("結合されたセルの内容を、範囲の全てのセルに入れました。"), ""),
    "HIDDEN_ROWS": Kind(
        "warning",
        N_("隠れている行（非表示かフィルター）があります。{done}。"),
        N_("--set hidden=read で読み、--set hidden=skip で読み飛ばします。"),
    ),
    "HIDDEN_COLUMNS": Kind(
        "warning",
        N_("隠れている列（{columns}）があります。{done}。"),
        N_("--set hidden=read で読み、--set hidden=skip で読み飛ばします。"),
    ),
    "STRUCK_OUT": Kind(
        "warning",
        N_("取り消し線の引かれた文字のある行があります。消したはずの内容も、そのまま学習します。"),
        N_(
            "元の表で、取り消し線の引かれた文字を消してください。行ごと除くなら --set drop=struck_out です。"
        ),
    ),
    "FORMULA_WITHOUT_RESULT": Kind(
        "warning",
        N_("計算結果の保存されていない数式があります。空のセルとして読みました。"),
        N_("Excelなどで開いて保存し直すと、結果が入ります。"),
    ),
    "DELIMITER": Kind(
        "info",
        N_("{sign}で区切られた表として読みました。"),
        N_("違うときは --delimiter で指定してください。"),
    ),
    "ONE_COLUMN": Kind(
        "info",
        N_(
            "列が1つしか見つかりません。自動で見分ける区切りは、コンマ、タブ、セミコロン、縦棒（|）、全角コンマ（，）、読点（、）です。"
        ),
        N_("ほかの記号で区切られているときは --delimiter 記号 で指定してください。"),
    ),
    "FIXED_WIDTH": Kind(
        "warning",
        N_(
            "空白で桁をそろえた表（固定長）のようですが、固定長は読めません。桁の境は見ずに読みました。"
        ),
        N_("コンマかタブで区切ったファイルに書き出し直してください。"),
    ),
    "FIXED_COLUMNS": Kind(
        "info",
        N_("空白で桁をそろえた表（固定長）として、見出しの始まる位置で列に分けて読みました。"),
        "",
    ),
    "FORMED_TEXT": Kind(
        "warning",
        N_(
            "文章ではなく、決まった形の記録のようです（{how}）。このままでは、形ごと文章の続きとして学びます。"
        ),
        N_(
            "質問と回答なら、2つの列がある表（CSVなど）に直してください。文章として学ばせるなら、このままで構いません。"
        ),
    ),
    "TABLE_IN_TEXT": Kind(
        "info", N_("どの行も同じように区切られているため、文章ではなく表として読みました。"), ""
    ),
    "TABLE_IN_PAGE": Kind(
        "warning",
        N_("文章の中の表だけを読みました。表の外の文章は使いません。"),
        N_("文章のほうを学習させたいときは、表を除いて、名前の終わりを .txt にしてください。"),
    ),
    "SPLITS_JOINED": Kind(
        "warning",
        N_(
            "分けられていた部分（{names}）を1つにまとめて読みました。学習用と評価用は、改めて分けます。"
        ),
        N_("元の分け方を使うときは、部分ごとのファイルにして、学習用だけを読んでください。"),
    ),
    "QUESTION_HEADINGS": Kind(
        "warning",
        N_("見出しを質問、その下の文章を回答として読みました。見出しより上の文章は使いません。"),
        N_("文章の続きを学習させたいときは、名前の終わりを .txt にしてください。"),
    ),
    "TABS_IN_TEXT": Kind(
        "warning",
        N_("タブで区切られた行が続いていますが、見出しが見つからないため、文章として読みました。"),
        N_(
            "表なら、--delimiter tab --header-row 0（見出しなし）か、見出しの行番号を付けてください。"
        ),
    ),
    "HEADER_ROW": Kind(
        "info",
        N_("{row}行目を見出しとして読みました（{names}）。"),
        N_("違うときは --header-row 行番号 で指定してください。"),
    ),
    "HEADER_OF_TWO_ROWS": Kind(
        "info",
        N_("{row}行目の2行を、見出しとして合わせて読みました（{names}）。"),
        N_("違うときは --header-row 行番号 で指定してください。"),
    ),
    "BELOW_HEADER": Kind(
        "info",
        N_("見出しのすぐ下にある、記入のしかたや型の名前（必須、string など）の行は使いません。"),
        "",
    ),
    "ABOVE_HEADER": Kind("info", N_("見出しより上にある題や注記は使いません。"), ""),
    "MARKED_ROWS": Kind(
        "info",
        N_("「Q」「A」「質問」「回答」などの印の付いた行を、{count}組の質問と回答にまとめました。"),
        N_("違うときは --header-row 行番号 で見出しの行を指定してください（見出しがなければ 0）。"),
    ),
    "PAIRS_IN_CELLS": Kind(
        "info",
        N_("1つのセルにある質問と回答（「{column}」の「Q：… A：…」）を、2つの列に分けました。"),
        "",
    ),
    "TRANSPOSED": Kind(
        "info",
        N_(
            "見出しが左の列に並ぶ表なので、行と列を入れ替えて読みました。行の番号は、元の列の番号（A列が1）です。"
        ),
        N_("違うときは --header-row 行番号 で見出しの行を指定してください（見出しがなければ 0）。"),
    ),
    "ROWS_LOST": Kind(
        "warning",
        N_("見出しより上に、データのようにも見える行があります。使いません。"),
        N_(
            "その行も使うときは --header-row 行番号 で見出しの行を指定してください（0なら見出しなし）。"
        ),
    ),
    "NO_HEADER": Kind(
        "warning",
        N_(
            "見出しの行がないとみて、最初の行もデータとして読みました。列の名前は、列1、列2、… です。"
        ),
        N_(
            "--map question=列1 --map answer=列2 のように列を指定してください。"
            "最初の行が見出しのときは --header-row 行番号 を付けてください。"
        ),
    ),
    "HEADER_DOUBTFUL": Kind(
        "warning",
        N_("見出しとして読んだ行が、データのようにも見えます。"),
        N_(
            "見出しの行がないファイルなら --header-row 0 を、別の行なら --header-row 行番号 を付けてください。"
        ),
    ),
    "REPEATED_HEADER": Kind(
        "info", N_("見出しと同じ行が途中にもあります。データとしては使いません。"), ""
    ),
    "TOTAL_ROW": Kind(
        "warning", N_("合計などの集計の行があります。データとしては使いません。"), ""
    ),
    "TABLE_ENDS": Kind(
        "warning",
        N_("途中から、見出しの違う別の表が始まっています。その見出しから下は読んでいません。"),
        N_("表ごとに別のファイルか別のシートに分けてください。"),
    ),
    "SECOND_TABLE": Kind(
        "warning",
        N_("途中に、別の表の見出しらしい行があります。同じ表の続きとして読みました。"),
        N_("表ごとに別のファイルか別のシートに分けてください。"),
    ),
    "COLUMNS_NOT_FOUND": Kind(
        "error",
        N_("学習に使う列が見つかりません。足りないもの: {missing}"),
        N_("列の名前を変えるか、--map question=列名 --map answer=列名 で指定してください。"),
    ),
    "HEADER_MOJIBAKE": Kind(
        "error",
        N_("列の名前が文字化けしています。"),
        N_("元のデータから書き出し直すか、文字コードの指定を見直してください。"),
    ),
    "UNMAPPED_COLUMN": Kind(
        "info",
        N_("使わない列があります: {columns}"),
        N_("使うときは --map 役割=列名 で指定してください。"),
    ),
    "MEDIA_UNUSED": Kind(
        "warning",
        N_(
            "画像や音声の列（{columns}）は使いません。それを見ないと答えられない質問は、当てずっぽうを学ぶことになります。"
        ),
        N_("文章だけで答えられる質問に絞ってください。"),
    ),
    "COLUMN_DOUBTFUL": Kind(
        "warning",
        N_("列の役割に自信がありません: {columns}。{reasons}。"),
        N_("違うときは --map question=列名 --map answer=列名 で指定してください。"),
    ),
    "ANSWER_COLUMNS": Kind(
        "info",
        N_("回答の列が複数あります: {columns}。"),
        N_(
            "1つだけ使うときは --map answer=列名、全てを別々の行にするときは --set several=all を付けてください。"
        ),
    ),
    "COMPARED": Kind(
        "info",
        N_("「{first}」と「{second}」を、「{verdict}」による良い回答と悪い回答として比べます。"),
        "",
    ),
    "TIE": Kind(
        "warning",
        N_("2つの回答のどちらが良いか、書かれていないか引き分けの行があります。使いません。"),
        N_("比べるなら、良い方を書いてください。"),
    ),
    "CHOICES": Kind(
        "info",
        N_("選択肢（{columns}）を質問に加え、「{answer}」が指す選択肢の文を回答にしました。"),
        "",
    ),
    "CHOICES_COUNTED": Kind(
        "warning",
        N_(
            "正解の番号が選択肢の何番目を指すか、はっきりしません。最初の選択肢を{first}番として読みました。"
        ),
        N_("下の回答が正しいか確かめ、違うときは正解を記号（A、B）か選択肢の文で書いてください。"),
    ),
    "CHOICES_UNREAD": Kind(
        "warning",
        N_("「{answer}」が選択肢のどれも指していない行があります。回答が空とみなしました。"),
        N_("正解を、選択肢の記号か番号か文で書いてください。"),
    ),
    "SEVERAL_QUESTIONS": Kind(
        "info",
        N_(
            "同じことを聞く質問の列が複数あります: {columns}。1つずつ別の行にし、同じまとまりとして分けます。"
        ),
        N_("1つだけ使うときは --map question=列名 で指定してください。"),
    ),
    "LABELED_TEXT": Kind(
        "warning",
        N_(
            "文章の分類（「{text}」に「{label}」）のようです。このままでは「{text}」の文章だけを学び、分類することは学びません。"
        ),
        N_("分類を学ぶなら --map question={text} --map answer={label} を付けてください。"),
    ),
    "ARTICLES": Kind(
        "warning",
        N_(
            "記事（「{title}」と「{text}」）のようです。このままでは「{text}」の文章だけを学び、質問に答えることは学びません。"
        ),
        N_(
            "「{title}」を質問、「{text}」を回答にするなら --map question={title} --map answer={text} を付けてください。"
        ),
    ),
    "PAIRS_IN_TEXT": Kind(
        "warning",
        N_(
            "質問と回答の組を、文章の形に書いたもののようです。このままでは続きの文章として学び、質問に答えることは学びません。"
        ),
        N_("質問と回答の2つの列がある表（CSVなど）か、messagesのJSONLに直してください。"),
    ),
    "GREETING": Kind(
        "info",
        N_("質問より前に答え手の発言（挨拶など）がある会話があります。その発言は使いません。"),
        "",
    ),
    "CHAT_LOG": Kind(
        "warning",
        N_(
            "人の会話の記録（{kind}）のようです。話し手: {speakers}。このままでは発言を1つずつ文章として学び、"
            "だれの発言か、何に答えたかは学びません。"
        ),
        N_(
            "AIの役にする話し手を選ぶと、会話に組み立てます（例: --set assistant_speaker={example}）。"
        ),
    ),
    "CHAT_LOG_TURNS": Kind(
        "info",
        N_(
            "会話の記録（{kind}）を、{count}件の会話に組み立てました。「{speaker}」の発言を答えとして学習します。"
        ),
        "",
    ),
    "DRAFT": Kind(
        "warning",
        N_(
            "下書き・非公開・廃止・削除・未承認などの印の付いた行があります。このままでは学習に使います。"
        ),
        N_("使わないなら --set drop=draft で除けます。"),
    ),
    "EXPIRED": Kind(
        "warning",
        N_("「{column}」の日付が過ぎている行があります。このままでは、古い内容も学習に使います。"),
        N_("もう使わない内容なら、その行を消してください。"),
    ),
    "LOW_RATED": Kind(
        "warning",
        N_(
            "点数（{column}）の低い行があります。このままでは、ほかの行と同じように学習に使います。"
        ),
        N_("回答の良し悪しの点数なら、--set drop=low_rated で除けます。"),
    ),
    "SEVERAL_ANSWERS": Kind(
        "warning",
        N_(
            "1つの質問に、回答がいくつも付いている行があります。最初の空でない回答を使います（点数があれば、最も高いもの。several=all では全て）。"
        ),
        N_("全ての回答を別々の行にするときは --set several=all を付けてください。"),
    ),
    "JSON_TEXT": Kind(
        "warning",
        N_(
            "JSONの書き方（{{…}} や […]）のままの行があります。記号もそのまま文章として学習します。"
        ),
        N_("意図したものでなければ、学習させたい文章だけの列にしてください。"),
    ),
    "PYTHON_TEXT": Kind(
        "warning",
        N_(
            "JSONではなく、Pythonの表記（'…' で囲んだ一覧など）の行があります。読めるものは読みました。"
        ),
        N_(
            "pandas の to_csv ではなく、to_json(orient='records', lines=True) で書き出すと確実です。"
        ),
    ),
    "UNDESIRABLE": Kind(
        "warning",
        N_("悪い回答の印（label が false など）の付いた行があります。使いません。"),
        N_(
            "悪い回答も学習に使う（KTO）には、--goal preference を付けてください。"
            "良し悪しの印ではないときは、--map desirable= で使わないことにしてください。"
        ),
    ),
    "UNJUDGED": Kind(
        "warning",
        N_("良し悪しの印（○×など）のない行があります。○と×から学習するので、使いません。"),
        N_("印を付けるか、行を消してください。"),
    ),
    "UNTRAINED_TURN": Kind(
        "info",
        N_(
            "学習しない印（weight: 0 や train: false）の付いた回答があります。文脈として残し、学習の対象にはしません。"
        ),
        "",
    ),
    "UNTRAINED_ROW": Kind(
        "error",
        N_("全ての回答に、学習しない印（weight: 0 や train: false）の付いた行があります。"),
        N_("学習させる回答の印を外すか、行を消してください。"),
    ),
    "OWN_SPLITS": Kind(
        "info",
        N_("書き出したデータセットとみて、「分割」と「回数」の列のとおりに使います。"),
        N_("分け直すときは、「分割」の列を消してください。"),
    ),
    "MARKS_UNREAD": Kind(
        "warning",
        N_(
            "「分割」（学習・検証・テスト）か「回数」（1〜999）に、読めない値のある行があります。設定のとおりに分け、1回ずつ使います。"
        ),
        N_("値を直すか、空にしてください。"),
    ),
    "EDITED": Kind(
        "info",
        N_("直したところがあります（{count}か所）。元のファイルはそのままです。"),
        "",
    ),
    "CORRECTED": Kind(
        "info",
        N_("対話で直した答えを使う行があります（{count}行）。学習用に入れ、2回ずつ学びます。"),
        "",
    ),
    # rows that cannot be used
    "BLANK_ROW": Kind("info", N_("空の行を読み飛ばしました。"), ""),
    "EMPTY_QUESTION": Kind(
        "error",
        N_("質問が空の行があります。"),
        N_(
            "質問を入れるか、行を消してください。上の行の回答の続きなら、上の回答のセルにまとめてください（今は途中までしか学習しません）。"
        ),
    ),
    "EMPTY_ANSWER": Kind(
        "error", N_("回答が空の行があります。"), N_("回答を入れるか、行を消してください。")
    ),
    "TREES": Kind(
        "info",
        N_(
            "返信の木（{messages}件の発言）を、{conversations}件の会話に組み立てました。"
            "回答の候補が複数あるときは、順位の最も高いものを使います。"
        ),
        "",
    ),
    "FLAT_MESSAGES": Kind(
        "info",
        N_("1行に1つの発言（{messages}件）を、{conversations}件の会話に組み立てました。"),
        N_("会話がいくつもあるときは、会話IDの列（conversation_id など）を入れてください。"),
    ),
    "BAD_TREE": Kind(
        "warning",
        N_("返信先の見つからない発言があります。使いません。"),
        N_("書き出しが途中で切れていないか確認してください。"),
    ),
    "BAD_CHAT": Kind(
        "error",
        N_("会話として読めない行があります（{reason}）。"),
        N_('messagesは [{{"role": "user", "content": "…"}}, …] の形にしてください。'),
    ),
    "ROLE_ORDER": Kind(
        "error",
        N_(
            "会話の順番が正しくない行があります（system、user、assistant、user…の順で、最後はassistant）。"
        ),
        N_("発言の順番を直してください。"),
    ),
    "MOJIBAKE": Kind(
        "error",
        N_("文字化けしている行があります。"),
        N_("元のデータから書き出し直すか、文字コードの指定を見直してください。"),
    ),
    "SPREADSHEET_ERROR": Kind(
        "error",
        N_("表計算の数式のエラー（#N/A、#REF!、##### など）だけの行があります。"),
        N_("元の表でエラーを直すか、値を入れてください。"),
    ),
    "SAME_ANSWERS": Kind(
        "error",
        N_("良い回答と悪い回答が同じ行があります。比べるものがないので、何も学べません。"),
        N_("どちらかを直すか、行を消してください。"),
    ),
    "DUPLICATE": Kind(
        "error",
        N_("同じ質問と回答が重なっています。最初の1行だけを使います。"),
        N_("重なりを消してください。"),
    ),
    "REASONING_UNCLOSED": Kind(
        "error",
        N_(
            "回答が <think> で始まり、</think> で閉じられていない行があります。答えがどこから始まるか分かりません。"
        ),
        N_(
            "</think> を書き足すか、行を消してください（長さの上限で切れた回答のことがよくあります）。"
        ),
    ),
    # rows that deserve a look
    "REASONING": Kind(
        "info",
        N_("考えた過程の付いた回答があります（{count}行）。考えてから答えるように学習します。"),
        "",
    ),
    "REASONING_MIXED": Kind(
        "warning",
        N_(
            "考えた過程のある回答（{count}行）と、ない回答（{without}行）が混ざっています。"
            "考えてから答えることも、考えずに答えることもあるモデルになります。"
        ),
        N_("意図したものでなければ、どちらかにそろえてください。"),
    ),
    "REASONING_UNOPENED": Kind(
        "warning",
        N_(
            "回答に </think> だけがあり、<think> がありません。</think> までも答えの文章として学習します。"
        ),
        N_("考えた過程なら、回答の先頭に <think> を書き足してください。"),
    ),
    "CONFLICT": Kind(
        "warning",
        N_("同じ質問に、違う回答が付いています。"),
        N_("正しい回答を1つに決めてください。このままだとモデルの答えが定まりません。"),
    ),
    "PLACEHOLDER": Kind(
        "warning",
        N_(
            "値がないことを表す語（nan、NULL、N/A、-、未定 など）だけの行があります。そのまま覚えてしまいます。"
        ),
        N_("中身を書くか、--set drop=placeholder で除いてください。"),
    ),
    "SEE_OTHER": Kind(
        "warning",
        N_(
            "「同上」「別紙参照」「こちらをご覧ください」など、ほかの行や資料、リンク先を指すだけの行があります。"
            "モデルはそれを見ることができません。"
        ),
        N_("指している内容を書き写すか、--set drop=see_other で除いてください。"),
    ),
    "FORMULA": Kind(
        "warning",
        N_("表計算の数式（=VLOOKUP(…) など）のままの行があります。数式の文字を学習します。"),
        N_(
            "元の表で、計算結果を「値として貼り付け」してから書き出してください。--set drop=formula で除けます。"
        ),
    ),
    "ROUNDED_NUMBER": Kind(
        "warning",
        N_(
            "3.1E+09 のように、桁の失われた数だけの行があります。電話番号や会員番号が、表計算ソフトで数に変わったようです。"
        ),
        N_("元の値を、列の書式を「文字列」にして入れ直してください。"),
    ),
    "ANSWERS_ASK": Kind(
        "warning",
        N_(
            "回答の多く（{count}行）が質問の形で、質問の多くはそうではありません。質問と回答が逆かもしれません。"
        ),
        N_(
            "逆なら、列は --map question=列名 --map answer=列名 で選び直し、会話は user と assistant を入れ替えてください。"
        ),
    ),
    "REFUSAL": Kind(
        "warning",
        N_(
            "「お答えできません」のように、答えるのを断っている回答があります。断り方を学習します。"
        ),
        N_(
            "答えを書くか、--set drop=refusal で除いてください。断ることを教えたいときは、そのままで構いません。"
        ),
    ),
    "NOTHING_BESIDE": Kind(
        "info",
        N_(
            "補足やシステム文に、値がないことを表す語（nan、<noinput>、- など）だけの行があります。空とみなしました。"
        ),
        "",
    ),
    "SEE_OTHER_BESIDE": Kind(
        "warning",
        N_(
            "補足やシステム文が「同上」など、ほかの行を指すだけの行があります。モデルはその行を見ることができません。"
        ),
        N_("指している内容を書き写してください。"),
    ),
    "NO_QUESTION": Kind(
        "warning",
        N_(
            "質問ではなさそうな行（日付や番号だけ、出典や注記、ページ番号、記入例など）があります。このままでは学習に使います。"
        ),
        N_("表の終わりの注記などなら、行を消すか、--set drop=no_question で除いてください。"),
    ),
    "CELL_MARKS": Kind(
        "warning",
        N_(
            "質問か回答の多く（{share}%）が、「Q1.」「A：」「→」などの印で始まっています。モデルも同じ印を書くようになります。"
        ),
        N_("clean に marks を加えると取り除けます。"),
    ),
    "PAGE_NUMBER": Kind(
        "warning",
        N_(
            "ページ番号（- 12 - など）だけの行が、回答の中に混ざっています。そのまま覚えてしまいます。"
        ),
        N_("ページ番号の行を消してください。"),
    ),
    "MADE_DATE": Kind(
        "warning",
        N_(
            "表計算ソフトが日付に変えたか、日付を数にしたらしい値（2-Mar、45383 など）だけの回答があります。"
        ),
        N_("元の値を入れ直してください。列の書式を「文字列」にしておくと変わりません。"),
    ),
    "FILL_IN": Kind(
        "warning",
        N_(
            "差し込みや記入のための欄（{{{{顧客名}}}}、○○様、【担当者名】 など）が残っている行があります。モデルも同じ欄を書くようになります。"
        ),
        N_("実際の言葉に直すか、--set drop=fill_in で除いてください。"),
    ),
    "REVIEW_MARK": Kind(
        "warning",
        N_("書きかけや確認待ちの印（【要確認】、（旧）と（新）など）の残っている行があります。"),
        N_("内容を決めて印を消すか、--set drop=review_mark で除いてください。"),
    ),
    "LOST_LETTER": Kind(
        "warning",
        N_(
            "外字か、読めなかった文字の代わりの記号（〓）のある行があります。その文字は学べません。"
        ),
        N_("ふつうの文字に直してください（人名や地名によくあります）。"),
    ),
    "RADICAL": Kind(
        "warning",
        N_(
            "漢字に形の似た別の文字（⽇、⾼ など。PDFから写すと混ざります）のある行があります。モデルには別の字です。"
        ),
        N_("clean に radicals を加えると、ふつうの漢字に直せます。"),
    ),
    "SPACED_LETTERS": Kind(
        "warning",
        N_(
            "1文字ごとに空白の入った行があります（画像やPDFの文字の読み取りで入ります）。モデルも空白を入れて書くようになります。"
        ),
        N_("空白を消すか、--set drop=spaced_letters で除いてください。"),
    ),
    "CUT_OFF": Kind(
        "warning",
        N_(
            "「続きを読む」などで終わるか、セルの上限（32,767文字）ちょうどの、途中で切れた回答があります。"
        ),
        N_("元のデータから全文を取り直すか、--set drop=cut_off で除いてください。"),
    ),
    "EMBEDDED_DATA": Kind(
        "warning",
        N_("画像などのデータを文字にしたもの（base64）が混ざっています。文章としては学べません。"),
        N_("取り除くか、--set drop=embedded_data で除いてください。"),
    ),
    "SPEAKER_IN_TEXT": Kind(
        "warning",
        N_(
            "1つの発言の中に、話し手の印（Human:、Assistant: など）の付いた会話が書かれています。印も文章として学習します。"
        ),
        N_("質問と回答の列に分けるか、messagesの形に直してください。"),
    ),
    "ESCAPED_TEXT": Kind(
        "warning",
        N_(
            "改行や文字が、プログラム用の書き方（\\n、\\u5348、%E5%8D%88 など）のまま残っている行があります。"
            "モデルも同じ記号を書くようになります。"
        ),
        N_("元のデータから、文字に戻して書き出し直してください。"),
    ),
    "HTML": Kind(
        "warning",
        N_(
            "HTMLのタグや記号（<p>、&nbsp; など）が混ざっています。モデルも同じ記号を書くようになります。"
        ),
        N_("clean に html を加えると、改行・箇条書き・リンクを残して文章にできます。"),
    ),
    "EXCEL_ESCAPE": Kind(
        "warning",
        N_('Excelの書き出しに残る記号（_x000D_ や ="…"）が混ざっています。'),
        N_("clean に excel を加えると直せます。"),
    ),
    "CHAT_MARKUP": Kind(
        "warning",
        N_(
            "チャットの書き出しに残る記号（<@U0123ABC> や <https://…|名前> など）が混ざっています。モデルも同じ記号を書くようになります。"
        ),
        N_("表示されていた文章に直すか、--set drop=chat_markup で除いてください。"),
    ),
    "CONTROL_TOKEN": Kind(
        "warning",
        N_(
            "モデルの制御用の記号（<|im_end|>、[INST] など）が文章に混ざっています。"
            "モデルによっては、文字ではなく発言の区切りとして学習されます。"
        ),
        N_("clean に control_tokens を加えると取り除けます。"),
    ),
    "HIDDEN_TEXT": Kind(
        "warning",
        N_("人には見えず、モデルには読める文字（タグ文字など）が隠れています。"),
        N_("初期設定の整え方 zero_width で取り除かれます。だれが入れたものか確かめてください。"),
    ),
    "ANSWER_REPEATS_QUESTION": Kind(
        "warning", N_("回答が質問の繰り返しになっています。"), N_("回答の内容を確認してください。")
    ),
    "NEAR_DUPLICATE": Kind(
        "warning",
        N_("前の行とほとんど同じ内容の行があります（分割では同じ側に入ります）。"),
        N_("不要なら --set drop=near_duplicate で除けます。"),
    ),
    "NEAR_APPROXIMATE": Kind(
        "info",
        N_("よく似た定型の質問が非常に多いため、ほぼ同じ行の一部は近似の方法で探しました。"),
        "",
    ),
    "EVALUATION_SET": Kind(
        "warning",
        N_("評価用の問題（{name}）と同じ質問があります。学習に使うと、その成績は意味を失います。"),
        N_("--set drop=evaluation_set で除いてください。"),
    ),
    "ZERO_WIDTH": Kind(
        "info",
        N_("幅のない文字（ゼロ幅スペースなど）が混ざっています。"),
        N_("初期設定の整え方 zero_width で取り除かれます。"),
    ),
    "CONTROL_CHARACTER": Kind(
        "warning",
        N_("目に見えない制御文字が混ざっています。"),
        N_("clean に control を加えると取り除けます。"),
    ),
    "HALF_WIDTH_KANA": Kind(
        "info",
        N_("半角カナが使われています。"),
        N_("clean に halfwidth_kana を加えると全角にそろえられます。"),
    ),
    "MIXED_WIDTH": Kind(
        "info",
        N_("全角と半角の英数字が混ざっています。"),
        N_("clean に fullwidth_alnum を加えると半角にそろえられます。"),
    ),
    "EDGE_SPACE": Kind(
        "info",
        N_("末尾に空白や改行のある行があります。"),
        N_("clean に trim を加えると取り除けます。"),
    ),
    "NOT_JAPANESE": Kind(
        "warning",
        N_("日本語ではない文章があります（{languages}）。"),
        N_("意図したものでなければ --set drop=not_japanese で除けます。"),
    ),
    "PERSONAL_DATA": Kind(
        "warning",
        N_(
            "個人情報らしい部分があります（{kinds}）。学習させると、モデルが答えてしまうおそれがあります。"
            "会社の代表番号のように、答えてよいものは、そのままで構いません。"
        ),
        N_("clean に mask_personal を加えると伏せられます。"),
    ),
    "CATEGORY_IMBALANCE": Kind(
        "warning",
        N_("カテゴリの偏りがあります。最も多い「{largest}」は{count}行、少ないもの: {small}"),
        N_("少ないカテゴリの行を足すか、--stratify で分割の割合をそろえてください。"),
    ),
    # the split
    "LABEL_ANSWER": Kind(
        "info",
        N_(
            "多くの質問に共通の回答があります。分類の札とみなし、同じ内容のまとまりには数えません。"
        ),
        "",
    ),
    "TOO_FEW_GROUPS": Kind(
        "warning",
        N_(
            "内容のまとまりが{groups}つしかないため、検証とテストの行を分けられません。全ての行を学習に使います。"
        ),
        N_("別の内容の行を足すと、検証とテストができるようになります（3つ以上）。"),
    ),
    "NO_PARAPHRASES": Kind(
        "warning",
        N_(
            "同じ内容の聞き方が3通り以上あるものがないため、言い換えのテストを作れません。全ての行を学習に使います。"
        ),
        N_("聞き方を足すか、hold_out=group で内容ごとに分けてください。"),
    ),
    "NO_OTHER_WORDINGS": Kind(
        "info",
        N_(
            "同じ答えの、別の聞き方がありません。全ての行を教えるので、聞き方を変えても答えられるかは、"
            "機械的に作った言い換えでしか測れません。"
        ),
        N_("同じ答えの行を、聞き方を変えて足すと測れます（1つの答えに2通り以上）。"),
    ),
    "FACTS_NOT_TAUGHT": Kind(
        "warning",
        N_("目的は社内FAQですが、{count}行の内容は教えません（検証かテストだけに使います）。"),
        N_("全ての内容を教えるには、hold_out を auto にし、stratify を空にしてください。"),
    ),
    "SMALL_SPLIT": Kind(
        "info",
        N_("検証が{valid}行、テストが{test}行です。数が少ないので、成績は目安とみてください。"),
        N_("行を足すか、割合（valid_share、test_share）を増やしてください。"),
    ),
    "LEAKAGE": Kind(
        "warning",
        N_("学習とほぼ同じ質問が、検証かテストに{count}行あります。"),
        N_("割合や分け方を変えてください。"),
    ),
}


@dataclass(frozen=True)
class Finding:
    """One kind of problem and the source rows (1-based, header counted) where it was found."""

    code: str
    severity: Severity
    message: str
    fix: str
    rows: tuple[int, ...] = ()
    source: str = ""
    """The file's name, where a dataset has several."""


def finding(code: str, rows: Sequence[int] = (), **details: Any) -> Finding:
    """A finding with the words of its kind; `details` fill the placeholders."""
    kind = KINDS[code]
    return Finding(
        code,
        kind.severity,
        _(kind.message).format(**details),
        _(kind.fix).format(**details),
        tuple(rows),
    )
