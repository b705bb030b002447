"""Words of the pages: for what several of them name, and for what to do next after an error."""

from __future__ import annotations

from mlx_finetuning.language import N_

KINDS_JA = {
    "chat": N_("質問と回答（会話）"),
    "text": N_("文章"),
    "preference": N_("好みの比較"),
    "judged": N_("○×の付いた答え"),
}
"""Of dataset rows."""
NEXT_STEPS_JA = {
    "UNEXPECTED": N_(
        "同じ操作でもう一度試してください。続くときは、下の「技術的な詳細」を写して報告してください。"
    ),
    "MODEL_GATED": N_(
        "モデルの配布元のページにログインして利用条件に同意し、そこで作った読み取り用（Read）のトークンを「設定」に入れてから、もう一度ダウンロードしてください。"
    ),
    "HUB_TOKEN_REJECTED": N_(
        "新しい読み取り用（Read）のトークンを作り、「設定」に入れてから、やり直してください。"
    ),
    "HUB_TOKEN_MISSING": N_(
        "Hugging Face の設定のページで、書き込み用（Write）のトークンを作り、「設定」に入れてから、やり直してください。"
    ),
    "RANK_FAILED": N_(
        "原因を除いてから、途中保存があれば「再開」で続けられます。なければ、もう一度学習を始めてください。"
    ),
    "REPOSITORY_IS_PUBLIC": N_(
        "別の名前にするか、公開してよいか確かめてから、やり直してください。"
    ),
    "INVALID_SETTINGS": N_("その設定を直して、もう一度押してください。"),
    "FULL_NEEDS_PLAIN_WEIGHTS": N_(
        "詳細設定の「学習の方法」をLoRAにするか、軽くしていないモデルを選んでください。"
    ),
    "NOTHING_TO_REWORD": N_("質問と回答の表から作ったデータセットを選んでください。"),
    "TUNING_NOT_FOUND": N_(
        "「データセット」のページの「先に、よい設定を探す」から、新しく始めてください。"
    ),
    "DATASET_NOT_FOUND": N_("「データセット」のページで名前を確かめるか、新しく作ってください。"),
    "SOURCE_CHANGED": N_(
        "元のファイルを戻すか、「データセット」の「新しく作る」で、今のファイルから作り直してください。"
    ),
    "DATASET_EXISTS": N_(
        "別の名前にするか、「同じ名前のデータセットを置き換える」を選んでください。"
    ),
    "GENERATION_DIFFERS": N_(
        "前と同じ文書と設定で続けるか、「同じ名前のものを、始めから作り直す」を選ぶか、別の名前にしてください。"
    ),
    "NO_PAIRS_GENERATED": N_(
        "指示に従える、もっと大きなモデルを「質問を作るモデル」で選んで、もう一度試してください。"
    ),
    "DATASET_IN_TRASH": N_(
        "「データセット」の「ゴミ箱」で元に戻してから、もう一度試してください。"
    ),
    "DATASET_NOT_IN_TRASH": N_("「データセット」の「ゴミ箱」で確かめてください。"),
    "DATASET_DAMAGED": N_("「データセット」のページで、元のファイルから作り直してください。"),
    "ENCODING_UNKNOWN": N_("UTF-8で保存し直すか、「文字コード」を選んでください。"),
    "COLUMNS_NOT_FOUND": N_(
        "列の名前を「質問」「回答」などに変えて保存し直し、もう一度選んでください。"
    ),
    "HEADER_MOJIBAKE": N_("元のデータから書き出し直すか、「文字コード」を選び直してください。"),
    "INVALID_MAPPING": N_("「列の対応」で、ファイルにある列から選び直してください。"),
    "HEADER_ROW_NOT_FOUND": N_(
        "「表の場所」の「見出しの行」に、見出しのある行の番号を入れてください（見出しがなければ 0、空なら自動）。"
    ),
    "SHEET_NOT_FOUND": N_("「表の場所」の「シート」で選び直してください。"),
    "NO_USABLE_ROWS": N_("見つかった問題をファイルで直して、もう一度選んでください。"),
    "SOURCE_KINDS_DIFFER": N_(
        "同じ種類（質問と回答、文章、好みの比較）のファイルを選んでください。"
    ),
    "ROW_NOT_FOUND": N_("「元のファイルの行」に、使われた行の番号を入れてください。"),
    "EDIT_MISMATCH": N_(
        "「表の場所」を直したときの選び方に戻すか、「全て元に戻す」で直しを取り消してから、もう一度直してください。"
    ),
    "MODEL_NOT_FOUND": N_(
        "「学習」の「モデル」で名前を確かめるか、Hugging FaceのIDを書いて追加してください。"
    ),
    "MODEL_NOT_DOWNLOADED": N_(
        "「学習」の「モデル」でダウンロードするか、内蔵モデル tiny-ja を選んでください。"
    ),
    "BASE_FILE_UNUSABLE": N_("学習できるモデルを、「学習」の「モデル」で選んでください。"),
    "MODEL_RUNS_CODE": N_(
        "付属プログラムのいらないモデルを、「学習」の「モデル」で選んでください。"
    ),
    "HUB_UNREACHABLE": N_(
        "接続、プロキシ、環境変数 HF_ENDPOINT を確かめてください。内蔵モデル tiny-ja は、つながなくても使えます。"
    ),
    "MODEL_UNLOADABLE": N_("対応している形式のモデルを、「学習」の「モデル」で選んでください。"),
    "SHORTCUT_UNWRITABLE": N_("フォルダの権限を確かめて、もう一度実行してください。"),
    "ADAPTER_NOT_IMPORTABLE": N_(
        "peft か mlx-lm で学習したLoRA（またはDoRA）のフォルダーと、その学習に使ったモデルを選んでください。取り込めない種類なら、作った道具でモデルと合わせて保存すると、そのフォルダーをモデルとして使えます。"
    ),
    "RUN_HAS_NO_DATASET": N_(
        "「実験」の「アダプターを取り込む」で、データセットを選んで、もう一度取り込んでください。"
    ),
    "RUN_NOT_FOUND": N_("「実験」の一覧で確かめてください。削除したものは「ゴミ箱」にあります。"),
    "RUN_NOT_READY": N_(
        "「学習」の「様子を見る」で状態を確かめ、学習が完了してから試してください。"
    ),
    "RUN_NOT_EVALUATED": N_("「実験」の詳細で「成果を確かめる」を押してください。"),
    "RUN_IS_SIMULATED": N_(
        "成果を確かめたり、書き出したり、対話したりするには、詳細設定の「学習エンジン」をMLXにして学習してください。"
    ),
    "BATCH_TOO_LARGE": N_("「1回の更新に使う例の数」を小さくするか、データを増やしてください。"),
    "INTERRUPTED": N_(
        "学習は「再開」、おまかせは「おまかせを続ける」で、続きから始められます。ほかの作業は、もう一度実行してください。"
    ),
    "JOB_INTERRUPTED": N_(
        "もう一度実行してください。学習は、途中保存があれば「再開」で続きから始められます。"
        "メモリーが足りないときは、「1回の更新に使う例の数」か「1例の最大トークン数」を小さくします。"
    ),
    "HELPER_LOST": N_(
        "途中保存があれば「再開」で続けられます。なければ、もう一度学習を始めてください。プロセスの数を1にすると、分担しません。"
    ),
    "GRADIENT_WORKER_FAILED": N_(
        "途中保存があれば「再開」で、なければ学習を始め直して、もう一度試してください。プロセスの数を1にすると、分担しません。続くときは、「設定」の診断情報を添えて報告してください。"
    ),
    "PEER_LOST": N_(
        "原因を除いてから、途中保存があれば「再開」で続けられます。なければ、もう一度学習を始めてください。"
    ),
    "MEMORY_RUNS_OUT": N_(
        "ほかのアプリを閉じて「再開」を押すか、「1回の更新に使う例の数」か「1例の最大トークン数」を小さくして学習し直してください。"
    ),
    "RUN_NOT_RESUMABLE": N_(
        "続きではなく新しく始めるには、「実験」の「同じ設定で再実行」を使ってください。"
    ),
    "DATASET_OF_SEVERAL_SOURCES": N_("直すファイルを選んでから、もう一度直してください。"),
    "RUN_BUSY": N_("作業が終わるのを待つか、止めてから、もう一度試してください。"),
    "RUN_NOT_IN_TRASH": N_("「実験」の「ゴミ箱」で確かめてください。"),
    "RERUN_SOURCE_CHANGED": N_(
        "元に戻してからやり直すか、今のもので「学習」から新しく始めてください。"
    ),
    "MLX_LM_FAILED": N_(
        "設定とモデルを確かめてください。詳細設定の「学習エンジン」をMLXにすると、同じデータで学習できます。"
    ),
    "ARCHITECTURE_UNSUPPORTED": N_(
        "GGUFのほかの形式では書き出せます。対話は「MLX（学習したまま）」でできます。"
    ),
    "MODEL_SETTING_UNSUPPORTED": N_(
        "対話は「MLX（学習したまま）」でできます。GGUFにするには、対応している設定のモデルで学習してください。"
    ),
    "ADAPTER_MUST_BE_FUSED": N_(
        "アダプターだけではない形式（GGUF、MLX、Hugging Face形式）を選んでください。"
    ),
    "EXPERTS_NOT_IN_PEFT": N_(
        "GGUF、アダプターだけのGGUF、MLXのどれかの形式を選んでください。PEFTが必要なら、詳細設定の「LoRAを付ける層」を attention にして学習してください。"
    ),
    "GGUF_NOT_MADE": N_("「軽くする」のページで作ってから、もう一度試してください。"),
    "EXPORT_NOT_PROVEN": N_(
        "ファイルは渡していません。「設定」の診断情報を添えて報告してください。対話は「MLX（学習したまま）」でできます。"
    ),
    "JOURNEY_NOT_FOUND": N_(
        "止まった学習は「学習」の「再開」で続け、その先は各ページで進めてください。"
    ),
    "NOTHING_CORRECTED": N_("「対話」で答えの下の「直す」を押し、正しい答えを入れてください。"),
    "NO_QUESTIONS": N_("「対話」で、1つずつ聞いてください。"),
    "RUN_NOT_DEPLOYED": N_("「対話」の「Ollama」で登録してから、もう一度試してください。"),
    "OLLAMA_HOST_INVALID": N_("環境変数 OLLAMA_HOST を直して、この画面を起動し直してください。"),
    "OLLAMA_NAME_INVALID": N_("別の名前にしてください。例: my-model、my-model:v2"),
    "OLLAMA_NOT_RUNNING": N_(
        "macOSではアプリ「Ollama」を開き、Linuxでは systemctl start ollama か ollama serve で起動してください。別のマシンのOllamaを使うには、環境変数 OLLAMA_HOST を設定して、この画面を起動し直します。"
    ),
    "NOT_OLLAMA": N_(
        "別のプログラムがこのポートを使っています。環境変数 OLLAMA_HOST でOllamaの場所を指定して、この画面を起動し直してください。"
    ),
    "OLLAMA_OUT_OF_SPACE": N_(
        "登録の間は、モデルの2倍の空きが必要です。「対話」の「Ollama」で不要なものを消すか、小さな種類（Q4_K_Mなど）を選んでください。"
    ),
    "OLLAMA_ARCHITECTURE_UNKNOWN": N_(
        "Ollamaを新しい版に更新してください。対話は「内蔵ランタイム」でもできます。"
    ),
    "OLLAMA_MODEL_NOT_FOUND": N_("「対話」の「Ollama」で、登録されている名前を確かめてください。"),
    "OLLAMA_ADAPTERS_REFUSED": N_("「登録の形」を「モデルの全体」にしてください。"),
    "OLLAMA_NAME_TAKEN": N_("「同じ名前のモデルを置き換える」を選ぶか、別の名前にしてください。"),
    "NOT_ENOUGH_SPACE": N_("不要なファイルを「設定」の「使用量と片付け」で消してください。"),
    "NOT_ENOUGH_MEMORY": N_(
        "学習が終わるのを待つか、ほかのアプリを閉じてください。「軽くする」で小さな種類（Q4_K_Mなど）にし、「内蔵ランタイム」で使う方法もあります。"
    ),
}
"""By error code, where the catalogue speaks of commands of the terminal."""
_HIDDEN = N_("「表の場所」の「隠れた行と列」で、読むか読み飛ばすかを選べます。")
_HEADER = N_(
    "違うときは「表の場所」の「見出しの行」に行の番号を入れてください（見出しがなければ 0）。"
)
_ROLE = N_("違うときは「列の対応」で選び直してください。")
_SEVERAL = N_(
    "「列の対応」の「1つの質問に回答がいくつもある行」で、全てを別々の行にすることもできます。"
)
FIXES_JA = {
    "SHEET": N_("別のシートを読むときは「表の場所」の「シート」で選んでください。"),
    "SHEETS_ALIKE": N_(
        "「表の場所」の「シート」で選び、シートごとにデータセットを作るか、1つのシートにまとめてください。"
    ),
    "HIDDEN_ROWS": _HIDDEN,
    "HIDDEN_COLUMNS": _HIDDEN,
    "DELIMITER": N_("違うときは「表の場所」の「区切り」で選んでください。"),
    "ONE_COLUMN": N_(
        "ほかの記号で区切られているときは、コンマかタブで区切って保存し直してください。"
    ),
    "TABS_IN_TEXT": N_(
        "表なら「表の場所」の「区切り」でタブを選び、「見出しの行」に行の番号を入れてください（見出しがなければ 0）。"
    ),
    "HEADER_ROW": _HEADER,
    "HEADER_OF_TWO_ROWS": _HEADER,
    "MARKED_ROWS": _HEADER,
    "TRANSPOSED": _HEADER,
    "ROWS_LOST": _HEADER,
    "NO_HEADER": N_(
        "「列の対応」で列を選んでください。最初の行が見出しなら、「表の場所」の「見出しの行」に 1 を入れてください。"
    ),
    "HEADER_DOUBTFUL": _HEADER,
    "COLUMNS_NOT_FOUND": N_("「列の対応」で、質問と回答の列を選んでください。"),
    "UNMAPPED_COLUMN": N_("使うときは「列の対応」で役割に選んでください。"),
    "COLUMN_DOUBTFUL": _ROLE,
    "ANSWERS_ASK": N_(
        "逆なら、「列の対応」で質問と回答を選び直してください。会話のファイルなら、話し手（user と assistant）を入れ替えてください。"
    ),
    "HEADER_MOJIBAKE": N_("元のデータから書き出し直すか、「文字コード」を選び直してください。"),
    "ANSWER_COLUMNS": N_(
        "1つだけ使うときは「列の対応」で選んでください。「列の対応」の「1つの質問に回答がいくつもある行」で、全てを別々の行にすることもできます。"
    ),
    "SEVERAL_QUESTIONS": N_("1つだけ使うときは「列の対応」で選んでください。"),
    "LABELED_TEXT": N_("分類を学ぶなら、「列の対応」で文章を質問、分類を回答に選んでください。"),
    "ARTICLES": N_("題を質問、本文を回答として学ぶなら、「列の対応」でそう選んでください。"),
    "CHAT_LOG": N_("「列の対応」の「AIの役にする話し手」を選ぶと、会話に組み立てます。"),
    "SEVERAL_ANSWERS": _SEVERAL,
    "UNDESIRABLE": N_(
        "悪い回答も学習に使う（KTO）には、目的を「好み」にしてください。良し悪しの印ではないときは、「列の対応」でその列を「（使わない）」にしてください。"
    ),
    "FACTS_NOT_TAUGHT": N_(
        "全ての内容を教えるには、「分け方とそのほかの設定」で「目的に合わせる」を選び、「割合をそろえる列」を空にしてください。"
    ),
    "FORMULA": N_(
        "元の表で、計算結果を「値として貼り付け」してから保存し直すか、この行を消してください。"
    ),
    "REFUSAL": N_(
        "答えを書くか、この行を消してください。断ることを教えたいときは、そのままで構いません。"
    ),
    "NO_PARAPHRASES": N_(
        "聞き方を足すか、「分け方とそのほかの設定」で「内容ごとに分ける」にしてください。"
    ),
    "SMALL_SPLIT": N_("行を足すか、「分け方とそのほかの設定」で割合を増やしてください。"),
    "CATEGORY_IMBALANCE": N_("少ないカテゴリの行を足してください。"),
}
"""What to do about a finding, where `data_processor`'s own words name the command line."""
