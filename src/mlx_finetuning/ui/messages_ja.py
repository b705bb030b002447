"""Words of the pages: for what several of them name, and for what to do next after an error."""

from __future__ import annotations

from mlx_finetuning.jobs.kinds import JOBS_JA as JOBS_JA

KINDS_JA = {"chat": "質問と回答（会話）", "text": "文章", "preference": "好みの比較"}
"""Of dataset rows."""
NEXT_STEPS_JA = {
    "INVALID_SETTINGS": "その設定を直して、もう一度押してください。",
    "FULL_NEEDS_PLAIN_WEIGHTS": "詳細設定の「学習の方法」をLoRAにするか、軽くしていないモデルを選んでください。",
    "NOTHING_TO_REWORD": "質問と回答の表から作ったデータセットを選んでください。",
    "DATASET_NOT_FOUND": "「データセット」のページで名前を確かめるか、新しく作ってください。",
    "SOURCE_CHANGED": "元のファイルを戻すか、「データセット」の「新しく作る」で、今のファイルから作り直してください。",
    "DATASET_EXISTS": "別の名前にするか、「同じ名前のデータセットを置き換える」を選んでください。",
    "DATASET_IN_TRASH": "「データセット」の「ゴミ箱」で元に戻してから、もう一度試してください。",
    "DATASET_NOT_IN_TRASH": "「データセット」の「ゴミ箱」で確かめてください。",
    "DATASET_DAMAGED": "「データセット」のページで、元のファイルから作り直してください。",
    "ENCODING_UNKNOWN": "UTF-8で保存し直すか、「文字コード」を選んでください。",
    "COLUMNS_NOT_FOUND": "列の名前を「質問」「回答」などに変えて保存し直し、もう一度選んでください。",
    "INVALID_MAPPING": "「列の対応」で、ファイルにある列から選び直してください。",
    "HEADER_ROW_NOT_FOUND": "「表の場所」の「見出しの行」に、見出しのある行の番号を入れてください（見出しがなければ 0、空なら自動）。",
    "SHEET_NOT_FOUND": "「表の場所」の「シート」で選び直してください。",
    "NO_USABLE_ROWS": "見つかった問題をファイルで直して、もう一度選んでください。",
    "SOURCE_KINDS_DIFFER": "同じ種類（質問と回答、文章、好みの比較）のファイルを選んでください。",
    "ROW_NOT_FOUND": "「元のファイルの行」に、使われた行の番号を入れてください。",
    "EDIT_MISMATCH": "「表の場所」を直したときの選び方に戻すか、「全て元に戻す」で直しを取り消してから、もう一度直してください。",
    "MODEL_NOT_FOUND": "「学習」の「モデル」で名前を確かめるか、Hugging FaceのIDを書いて追加してください。",
    "MODEL_NOT_DOWNLOADED": "「学習」の「モデル」でダウンロードするか、内蔵モデル tiny-ja を選んでください。",
    "BASE_FILE_UNUSABLE": "学習できるモデルを、「学習」の「モデル」で選んでください。",
    "MODEL_RUNS_CODE": "付属プログラムのいらないモデルを、「学習」の「モデル」で選んでください。",
    "HUB_UNREACHABLE": "接続、プロキシ、環境変数 HF_ENDPOINT を確かめてください。内蔵モデル tiny-ja は、つながなくても使えます。",
    "MODEL_UNLOADABLE": "対応している形式のモデルを、「学習」の「モデル」で選んでください。",
    "RUN_NOT_FOUND": "「実験」の一覧で確かめてください。削除したものは「ゴミ箱」にあります。",
    "RUN_NOT_READY": "「学習」の「様子を見る」で状態を確かめ、学習が完了してから試してください。",
    "RUN_NOT_EVALUATED": "「実験」の詳細で「成果を確かめる」を押してください。",
    "RUN_IS_SIMULATED": "成果を確かめたり、書き出したり、対話したりするには、詳細設定の「学習エンジン」をMLXにして学習してください。",
    "BATCH_TOO_LARGE": "「1回の更新に使う例の数」を小さくするか、データを増やしてください。",
    "INTERRUPTED": "学習は「再開」、おまかせは「おまかせを続ける」で、続きから始められます。ほかの作業は、もう一度実行してください。",
    "JOB_INTERRUPTED": "もう一度実行してください。学習は、途中保存があれば「再開」で続きから始められます。"
    "メモリーが足りないときは、「1回の更新に使う例の数」か「1例の最大トークン数」を小さくします。",
    "HELPER_LOST": "途中保存があれば「再開」で続けられます。なければ、もう一度学習を始めてください。プロセスの数を1にすると、分担しません。",
    "GRADIENT_WORKER_FAILED": "途中保存があれば「再開」で、なければ学習を始め直して、もう一度試してください。プロセスの数を1にすると、分担しません。続くときは、「設定」の診断情報を添えて報告してください。",
    "PEER_LOST": "原因を除いてから、途中保存があれば「再開」で続けられます。なければ、もう一度学習を始めてください。",
    "MEMORY_RUNS_OUT": "ほかのアプリを閉じて「再開」を押すか、「1回の更新に使う例の数」か「1例の最大トークン数」を小さくして学習し直してください。",
    "RUN_NOT_RESUMABLE": "続きではなく新しく始めるには、「実験」の「同じ設定で再実行」を使ってください。",
    "RUN_BUSY": "作業が終わるのを待つか、止めてから、もう一度試してください。",
    "RUN_NOT_IN_TRASH": "「実験」の「ゴミ箱」で確かめてください。",
    "RERUN_SOURCE_CHANGED": "元に戻してからやり直すか、今のもので「学習」から新しく始めてください。",
    "MLX_LM_FAILED": "設定とモデルを確かめてください。詳細設定の「学習エンジン」をMLXにすると、同じデータで学習できます。",
    "ARCHITECTURE_UNSUPPORTED": "GGUFのほかの形式では書き出せます。対話は「MLX（学習したまま）」でできます。",
    "MODEL_SETTING_UNSUPPORTED": "対話は「MLX（学習したまま）」でできます。GGUFにするには、対応している設定のモデルで学習してください。",
    "ADAPTER_MUST_BE_FUSED": "アダプターだけではない形式（GGUF、MLX、Hugging Face形式）を選んでください。",
    "EXPERTS_NOT_IN_PEFT": "GGUF、アダプターだけのGGUF、MLXのどれかの形式を選んでください。PEFTが必要なら、詳細設定の「LoRAを付ける層」を attention にして学習してください。",
    "GGUF_NOT_MADE": "「軽くする」のページで作ってから、もう一度試してください。",
    "EXPORT_NOT_PROVEN": "ファイルは渡していません。「設定」の診断情報を添えて報告してください。対話は「MLX（学習したまま）」でできます。",
    "JOURNEY_NOT_FOUND": "止まった学習は「学習」の「再開」で続け、その先は各ページで進めてください。",
    "NOTHING_CORRECTED": "「対話」で答えの下の「直す」を押し、正しい答えを入れてください。",
    "NO_QUESTIONS": "「対話」で、1つずつ聞いてください。",
    "RUN_NOT_DEPLOYED": "「対話」の「Ollama」で登録してから、もう一度試してください。",
    "OLLAMA_HOST_INVALID": "環境変数 OLLAMA_HOST を直して、この画面を起動し直してください。",
    "OLLAMA_NAME_INVALID": "別の名前にしてください。例: my-model、my-model:v2",
    "OLLAMA_NOT_RUNNING": "macOSではアプリ「Ollama」を開き、Linuxでは systemctl start ollama か ollama serve で起動してください。別のマシンのOllamaを使うには、環境変数 OLLAMA_HOST を設定して、この画面を起動し直します。",
    "NOT_OLLAMA": "別のプログラムがこのポートを使っています。環境変数 OLLAMA_HOST でOllamaの場所を指定して、この画面を起動し直してください。",
    "OLLAMA_OUT_OF_SPACE": "登録の間は、モデルの2倍の空きが必要です。「対話」の「Ollama」で不要なものを消すか、小さな種類（Q4_K_Mなど）を選んでください。",
    "OLLAMA_ARCHITECTURE_UNKNOWN": "Ollamaを新しい版に更新してください。対話は「内蔵ランタイム」でもできます。",
    "OLLAMA_MODEL_NOT_FOUND": "「対話」の「Ollama」で、登録されている名前を確かめてください。",
    "OLLAMA_NAME_TAKEN": "「同じ名前のモデルを置き換える」を選ぶか、別の名前にしてください。",
    "NOT_ENOUGH_SPACE": "不要なファイルを「設定」の「使用量と片付け」で消してください。",
    "NOT_ENOUGH_MEMORY": "学習が終わるのを待つか、ほかのアプリを閉じてください。「軽くする」で小さな種類（Q4_K_Mなど）にし、「内蔵ランタイム」で使う方法もあります。",
}
"""By error code, where the catalogue speaks of commands of the terminal."""
_HIDDEN = "「表の場所」の「隠れた行と列」で、読むか読み飛ばすかを選べます。"
_HEADER = "違うときは「表の場所」の「見出しの行」に行の番号を入れてください（見出しがなければ 0）。"
_ROLE = "違うときは「列の対応」で選び直してください。"
_SEVERAL = (
    "「列の対応」の「1つの質問に回答がいくつもある行」で、全てを別々の行にすることもできます。"
)
FIXES_JA = {
    "SHEET": "別のシートを読むときは「表の場所」の「シート」で選んでください。",
    "SHEETS_ALIKE": "「表の場所」の「シート」で選び、シートごとにデータセットを作るか、1つのシートにまとめてください。",
    "HIDDEN_ROWS": _HIDDEN,
    "HIDDEN_COLUMNS": _HIDDEN,
    "DELIMITER": "違うときは「表の場所」の「区切り」で選んでください。",
    "ONE_COLUMN": "ほかの記号で区切られているときは、コンマかタブで区切って保存し直してください。",
    "TABS_IN_TEXT": "表なら「表の場所」の「区切り」でタブを選び、「見出しの行」に行の番号を入れてください（見出しがなければ 0）。",
    "HEADER_ROW": _HEADER,
    "HEADER_OF_TWO_ROWS": _HEADER,
    "MARKED_ROWS": _HEADER,
    "TRANSPOSED": _HEADER,
    "ROWS_LOST": _HEADER,
    "NO_HEADER": "「列の対応」で列を選んでください。最初の行が見出しなら、「表の場所」の「見出しの行」に 1 を入れてください。",
    "HEADER_DOUBTFUL": _HEADER,
    "COLUMNS_NOT_FOUND": "「列の対応」で、質問と回答の列を選んでください。",
    "UNMAPPED_COLUMN": "使うときは「列の対応」で役割に選んでください。",
    "COLUMN_DOUBTFUL": _ROLE,
    "ANSWER_COLUMNS": f"1つだけ使うときは「列の対応」で選んでください。{_SEVERAL}",
    "SEVERAL_QUESTIONS": "1つだけ使うときは「列の対応」で選んでください。",
    "LABELED_TEXT": "分類を学ぶなら、「列の対応」で文章を質問、分類を回答に選んでください。",
    "ARTICLES": "題を質問、本文を回答として学ぶなら、「列の対応」でそう選んでください。",
    "CHAT_LOG": "「列の対応」の「AIの役にする話し手」を選ぶと、会話に組み立てます。",
    "SEVERAL_ANSWERS": _SEVERAL,
    "UNDESIRABLE": "良し悪しの印ではないときは、「列の対応」でその列を「（使わない）」にしてください。",
    "FACTS_NOT_TAUGHT": "全ての内容を教えるには、「分けて保存」で「目的に合わせる」を選び、「割合をそろえる列」を空にしてください。",
    "NO_PARAPHRASES": "聞き方を足すか、「検証とテストに使う行の選び方」を「内容ごとに分ける」にしてください。",
    "SMALL_SPLIT": "行を足すか、「割合とそのほかの設定」で割合を増やしてください。",
    "CATEGORY_IMBALANCE": "少ないカテゴリの行を足してください。",
}
"""What to do about a finding, where `data_processor`'s own words name the command line."""
