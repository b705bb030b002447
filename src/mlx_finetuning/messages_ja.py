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
    "DATASET_IN_USE": Message(
        "データセット「{name}」は、使っている作業があるため削除できません。",
        "動いている作業: {jobs}",
        "作業が終わるのを待つか、止めてから、もう一度実行してください。",
    ),
    "DATASET_NOT_IN_TRASH": Message(
        "データセット「{name}」は、ゴミ箱にありません。",
        "ゴミ箱にあるデータセット: {available}",
        "mlx-finetuning data trash で、ゴミ箱の中を確認してください。",
    ),
    "DATASET_IN_THE_WAY": Message(
        "データセット「{name}」を元に戻せません。",
        "同じ名前のデータセットが、今あります。",
        "今あるほうをゴミ箱に移してから、もう一度実行してください。何も上書きしていません。",
    ),
    "DATASET_DAMAGED": Message(
        "データセットのファイル {path} の{line}行目が壊れています。",
        "書き込みの後で、手で書き換えられたか、一部が失われた可能性があります。",
        "元のファイルから mlx-finetuning data prepare で作り直してください（--replace を付けます）。",
    ),
    "SOURCE_NOT_FOUND": Message(
        "ファイルが見つかりません: {path}",
        "場所か名前が違うか、移動された可能性があります。",
        "パスを確認して、もう一度実行してください。",
    ),
    "SOURCE_IS_FOLDER": Message(
        "{path} はフォルダです。",
        "データセットは1つのファイルから作ります。",
        "フォルダの中のCSVなどのファイルを指定してください。",
    ),
    "SOURCE_UNREADABLE": Message(
        "ファイルを開けません: {path}",
        "{reason}",
        "読み取りの権限があるか、ほかのアプリが開いていないかを確認してください。",
    ),
    "SOURCE_EMPTY": Message(
        "ファイルが空です: {path}",
        "0バイトか、空白と改行だけのファイルです。",
        "表計算ソフトなどから書き出し直して、もう一度実行してください。",
    ),
    "SOURCE_HEADER_ONLY": Message(
        "見出し行だけで、データの行がありません: {path}",
        "見つかった列: {columns}",
        "2行目からデータを入れて、もう一度実行してください。",
    ),
    "SOURCE_TOO_LARGE": Message(
        "ファイルが大きすぎます: {path}",
        "大きさは {size_mb} MB、扱える上限は {limit_mb} MB です。",
        "ファイルを分けるか、行を選んで減らしてください。",
    ),
    "SOURCE_BINARY": Message(
        "文字のファイルではありません: {path}",
        "中身は{kind}のようです。",
        "Excelなら「名前を付けて保存」でCSV UTF-8を選び、圧縮ファイルなら展開してから指定してください。",
    ),
    "SOURCE_UNSUPPORTED": Message(
        "この種類のファイルは読めません: {path}",
        "拡張子「{ending}」には対応していません。対応: {supported}",
        "CSVかJSONLに書き出して、もう一度実行してください。",
    ),
    "SOURCE_MALFORMED": Message(
        "{path} の{line}行目を読めません。",
        "{reason}",
        "その行を直して、もう一度実行してください。元のファイルは変更していません。",
    ),
    "CELL_TOO_LONG": Message(
        "{path} の{line}行目に、長すぎる項目があります。",
        '1つの項目は {limit} 文字までです。引用符（"）の閉じ忘れでも起こります。',
        "引用符を確認するか、長い文章を複数の行に分けてください。",
    ),
    "ENCODING_UNSUPPORTED": Message(
        "文字コード「{encoding}」には対応していません。",
        "選べる文字コード: {supported}",
        "わからないときは auto にすると、自動で判定します。",
    ),
    "ENCODING_MISMATCH": Message(
        "{path} は、文字コード {encoding} では正しく読めません。",
        "{line}行目で文字が壊れます。自動判定の結果: {guess}",
        "文字コードの指定を外す（auto）か、正しいものに変えてください。",
    ),
    "ENCODING_UNKNOWN": Message(
        "文字コードを判定できません: {path}",
        "{line}行目に、日本語のどの文字コードでも読めない部分があります。複数の文字コードが混ざっている可能性があります。",
        "UTF-8で保存し直すか、文字コードを指定してください（例: --set encoding=cp932）。",
    ),
    "COLUMNS_NOT_FOUND": Message(
        "学習に使う列が見つかりません: {path}",
        "足りないもの: {missing}。ファイルにある列: {columns}",
        "列の名前を「質問」「回答」などに変えるか、--map question=列名 --map answer=列名 で指定してください。",
    ),
    "INVALID_MAPPING": Message(
        "列の割り当てに誤りがあります。",
        "{problems}",
        "ファイルにある列から選んでください: {columns}",
    ),
    "NO_USABLE_ROWS": Message(
        "学習に使える行が1つもありません: {path}",
        "{reasons}",
        "見つかった問題を直して、もう一度実行してください。詳しくは mlx-finetuning data inspect で確認できます。",
    ),
    "SOURCE_KINDS_DIFFER": Message(
        "種類の違うファイルは、1つのデータセットに合わせられません。",
        "それぞれの種類: {kinds}",
        "同じ種類（質問と回答、文章、好みの比較）のファイルを選ぶか、--map で列を指定してください。",
    ),
    "SOURCE_CHANGED": Message(
        "元のファイルが、記録されたものと違います: {path}",
        "データセットを作ったときから、内容が変わっています（SHA-256が一致しません）。",
        "元のファイルを戻すか、data prepare で新しく作り直してください。",
    ),
    "DATASET_NOT_REPRODUCED": Message(
        "データセット「{name}」を、同じ内容に作り直せませんでした。",
        "記録と違う結果になったファイル: {files}。作ったときとアプリの版が違う可能性があります。",
        "dataset.json の made_by にある版を使うか、data prepare で新しく作ってください。何も書いていません。",
    ),
    "ROW_NOT_FOUND": Message(
        "データセット「{name}」に、元のファイルの{row}行目から作られた行はありません。",
        "空の行や重なりなど、使われなかった行の可能性があります。近い行: {nearest}",
        "--row に、使われた行の番号を指定してください。",
    ),
    # models
    "MODEL_NOT_FOUND": Message(
        "モデル「{name}」が見つかりません。",
        "近い名前、または今使えるモデル: {near}",
        "mlx-finetuning models list で名前を確認してください。"
        "モデルのフォルダや、Hugging FaceのID（例: Qwen/Qwen3-0.6B）も指定できます。",
    ),
    "MODEL_NOT_DOWNLOADED": Message(
        "モデル「{repo_id}」は、まだダウンロードされていません（大きさ: {size}）。",
        "確認なしに、大きなファイルをネットワークから取りに行くことはしません。",
        "mlx-finetuning models download {repo_id} を実行してください。"
        "ネットワークを使えないときは、別のマシンで取得したモデルのフォルダを指定するか、"
        "内蔵モデル tiny-ja を使ってください。",
    ),
    "MODEL_BUILT_IN": Message(
        "内蔵モデル「{name}」は削除できません。",
        "アプリの一部として入っています。",
        "操作は必要ありません。",
    ),
    "MODEL_INCOMPLETE": Message(
        "モデルに必要なファイルがありません: {path}",
        "足りないもの: {missing}",
        "ダウンロードやコピーが最後まで終わっているか確認してください。"
        "必要なのは config.json、tokenizer.json（または tokenizer.model）、*.safetensors です。",
    ),
    "MODEL_DAMAGED": Message(
        "モデルのファイルが壊れています: {path}",
        "正しく読めないファイル: {files}（Git LFSの参照だけの場合や、コピーが途中で切れた場合もあります）",
        "このモデルを取り直してください。",
    ),
    "MODEL_RUNS_CODE": Message(
        "安全のため、このモデルは使えません: {path}",
        "{file} の {key} が、モデルに付属するプログラムを実行するよう求めています。",
        "付属プログラムのいらないモデルを選んでください（mlx-finetuning models list）。",
    ),
    "MODEL_UNSAFE_WEIGHTS": Message(
        "安全のため、このモデルは使えません: {path}",
        "読み込むだけでプログラムが動きうる形式のファイルがあります: {files}",
        "safetensors形式の重みがあれば、これらのファイルを別の場所に移してください。"
        "なければ、safetensors形式で配布されているモデルを選んでください。",
    ),
    "MODEL_LINKS_OUTSIDE": Message(
        "安全のため、このモデルは使えません: {path}",
        "フォルダの外を指すリンクがあります: {files}",
        "リンク先の実体ごとコピーしたフォルダを指定してください（cp -rL 元 先）。",
    ),
    "TEMPLATE_HOSTILE": Message(
        "このモデルのチャットテンプレートは、安全に使えません: {folder}",
        "{reason}",
        "別の配布元のモデルを選んでください。信頼できるモデルでこうなるときは、元の配布ページからダウンロードし直してください。",
    ),
    "MODEL_GATED": Message(
        "モデル「{repo_id}」の利用には、配布元の許可が必要です。",
        "利用条件への同意がまだか、トークンにこのモデルを読む権限がありません（HF_TOKEN: {token_state}）。",
        "1. {page} にログインして利用条件に同意する "
        "2. Hugging Faceの設定で読み取り用（Read）のトークンを作る "
        "3. export HF_TOKEN=… を実行してから、同じコマンドをもう一度実行する。"
        "トークンがファイルに保存されることはありません。",
    ),
    "HUB_TOKEN_REJECTED": Message(
        "トークンが受け付けられませんでした: {endpoint}",
        "環境変数 HF_TOKEN の値が誤っているか、期限が切れています。",
        "新しい読み取り用（Read）のトークンを作って HF_TOKEN に設定するか、"
        "公開モデルなら unset HF_TOKEN を実行してから、やり直してください。",
    ),
    "HUB_UNREACHABLE": Message(
        "Hugging Faceに接続できません: {endpoint}",
        "ネットワークにつながっていないか、接続先が応答していません（{reason}）。",
        "接続、プロキシ、HF_ENDPOINT の設定を確認してください。オフラインで続けるには、"
        "別のマシンで取得したモデルのフォルダをコピーして --model フォルダ と指定するか、"
        "内蔵モデルを --model tiny-ja と指定してください。",
    ),
    "DOWNLOAD_CUT": Message(
        "「{repo_id}」のダウンロードが途中で切れました。",
        "{file} の受信中に接続が切れ、再試行してもつながりませんでした。",
        "同じコマンドをもう一度実行してください。続きから再開します。",
    ),
    "DOWNLOAD_DAMAGED": Message(
        "「{repo_id}」の {file} を正しく受信できませんでした。",
        "受信した内容が、配布元の示すハッシュ値や大きさと一致しません。",
        "同じコマンドをもう一度実行してください。続くときは、プロキシやミラー（HF_ENDPOINT）を確認してください。",
    ),
    "DOWNLOAD_RUNNING": Message(
        "「{repo_id}」は、別の画面でダウンロード中です。",
        "同じモデルを二重にダウンロードすることはしません。",
        "終わるのを待ってから使ってください。",
    ),
    "MODEL_UNLOADABLE": Message(
        "モデルを読み込めません: {folder}",
        "{reason}",
        "対応している形式のモデルか確認してください。一覧は mlx-finetuning models list で見られます。",
    ),
    "TOKENIZER_UNREADABLE": Message(
        "モデルのトークナイザー（文字をトークンに分ける部品）を使えません: {folder}",
        "{reason}",
        "配布元からダウンロードし直すか、別の配布元の同じモデルを選んでください。",
    ),
    "TOKENS_DIFFER": Message(
        "モデルのファイルと違うトークンの分け方になるため、学習を始めません: {folder}",
        "{file} そのものと比べた{texts}文のうち{differing}文で、分け方が違いました"
        "（例: {example!r} は {expected} のはずが {found}）。"
        "このまま学習すると、モデルが見たことのないトークンを教えることになります。",
        "エンジンに mlx-lm を選んでいるときは、mlx にしてください。mlx でこうなるときは、"
        "tokenizer.json のある配布元の同じモデルを選んでください。",
    ),
    "CHAT_TEMPLATE_UNUSABLE": Message(
        "このモデルの会話の書式（チャットテンプレート）では、正しく学習できません。",
        "{reason}",
        "会話用に調整された別のモデル（名前に Instruct や it と付いたもの）を選んでください。",
    ),
    "CHAT_TEMPLATE_MISSING": Message(
        "このモデルには会話の書式（チャットテンプレート）がありません。",
        "会話用に調整されていないベースモデルの可能性があります。",
        "名前に Instruct や it と付いた、会話用のモデルを選んでください。",
    ),
    "TARGETS_NOT_FOUND": Message(
        "LoRAを付ける層「{targets}」が、このモデルにはありません。",
        "このモデルの層: {available}",
        "targets を all-linear か attention、または上の名前にしてください。",
    ),
    "PROMPT_TOO_LONG": Message(
        "文章が長すぎて、モデルに入りません。",
        "文章は {tokens} トークン、このモデルの上限は {limit} トークンです。",
        "文章を短くするか、新しい会話を始めてください。",
    ),
    "CONVERSATION_REFUSED": Message(
        "このモデルの会話の書式は、この発言の並びを受け付けません。",
        "{reason}",
        "システム文を外すか、利用者とアシスタントの発言が交互になるようにしてください。",
    ),
    # runs
    "RUN_NOT_FOUND": Message(
        "実験「{run_id}」が見つかりません。",
        "最近の実験: {recent}",
        "mlx-finetuning runs list で実験IDを確認してください。",
    ),
    "JOB_INTERRUPTED": Message(
        "作業プロセスが途中で終わりました。",
        "外から止められたか、メモリー不足か、マシンの再起動が考えられます。それまでの記録と途中保存は残っています。",
        "もう一度実行してください。学習は、途中保存があれば train --resume で続きから始められます。メモリーが足りないときは batch_size か max_length を小さくします。ログ: {log}",
    ),
    "RUN_NOT_READY": Message(
        "実験「{run_id}」は、まだ使えません。",
        "学習が完了していません（いまの状態: {state}）。",
        "mlx-finetuning runs show {run_id} で状態を確認し、学習が完了してから実行してください。",
    ),
    "RUN_IS_SIMULATED": Message(
        "実験「{run_id}」はシミュレーションです。",
        "標準モード（シミュレーション）は流れを確かめるだけのもので、学習した重みがありません。",
        "評価・書き出し・会話をするには、--engine mlx で学習してください。",
    ),
    "BATCH_TOO_LARGE": Message(
        "batch_size が、学習に使える行数より大きくなっています。",
        "batch_size は {batch_size}、学習用の行は {rows} 行です。mlx-lm は1回分に足りない行数では学習できません。",
        "--set batch_size={rows} 以下にするか、データを増やしてください。",
    ),
    "NO_TRAINING_ROWS": Message(
        "学習に使える行がありません。",
        "データセットの train.jsonl が空です。",
        "元のファイルの行を増やすか、検証・テストの割合を減らして、データセットを作り直してください。",
    ),
    "NOTHING_TO_LEARN": Message(
        "学習の対象になる答えが、1つも残りません。",
        "{rows} 行の答えが空か、{max_length} トークンの上限で切り捨てられています。",
        "max_length を大きくするか、質問を短くしてください。",
    ),
    "LOSS_NOT_FINITE": Message(
        "更新 {update} で損失が計算できない値になり、学習を止めました。",
        "学習率が高すぎるか、データに問題があります。このときの行: {rows}",
        "learning_rate を10分の1にして試してください。それまでの途中保存は残っています。",
    ),
    "LOSS_EXPLODED": Message(
        "更新 {update} で損失が {loss} まで上がり、学習を止めました（最初は {first_loss}）。",
        "学習率が高すぎます。このときの行: {rows}",
        "learning_rate を10分の1にして試してください。壊れる前のアダプターは残っています。",
    ),
    "DORA_OF_EXPERTS": Message(
        "混合エキスパート（MoE）の層は、DoRAでは学習できません。",
        "{layer} は全エキスパートの重みを1つにまとめた層で、DoRAが使えません。",
        "method を lora にするか、targets に attention を指定してください。",
    ),
    "FULL_NEEDS_PLAIN_WEIGHTS": Message(
        "量子化されたモデルは、重みそのものを学習できません。",
        "method が full ですが、モデルの重みが量子化されています。",
        "method を lora にするか、量子化されていないモデルを選んでください。",
    ),
    "HELPER_LOST": Message(
        "計算を分担していたプロセスが終了しました（終了コード {exit_code}）。",
        "メモリ不足で止められたか、外から終了されました。",
        "途中保存があれば train --resume で続けられます。なければ、もう一度学習を始めてください。processes=1 なら分担しません。",
    ),
    "PEER_LOST": Message(
        "学習を分担していた{host}のプロセス（番号 {rank}）とつながらなくなりました。",
        "プロセスが終了したか（終了コード {exit_code}）、機械やネットワークが止まりました。",
        "原因を除いてから、途中保存があれば train --resume で続けられます。なければ、もう一度学習を始めてください。",
    ),
    "MODELS_DIFFER": Message(
        "{host}のプロセス（番号 {rank}）のモデルの重みが、この機械のものと違います。",
        "同じモデルでなければ、学習を分担できません: {folder}",
        "同じモデルを同じ場所に置いてから、もう一度実行してください。",
    ),
    "RUN_DOES_NOT_FIT": Message(
        "メモリーが足りないため、学習を始めませんでした。",
        "{batch_size} 例を一度に計算するには約 {needed_gb} GB 必要ですが、使えるのは {available_gb} GB です"
        "（一度に計算できるのは {largest} 例まで）。",
        "ほかのアプリを閉じるか、max_length、rank、num_layers を小さくしてください。"
        "micro_batch_size を 0（自動）にすると、収まる数に分けて計算します。"
        "それでも足りなければ、小さなモデルか量子化されたモデルを選んでください。",
    ),
    "MEMORY_RUNS_OUT": Message(
        "メモリが足りなくなる前に、更新 {update} で保存して止めました。",
        "使用中は {used_gb} GB、上限は {limit_gb} GB です。",
        "ほかのアプリを閉じて train --resume で続けるか、batch_size か max_length を小さくしてください。",
    ),
    "CHECKPOINT_FOREIGN": Message(
        "途中保存から再開できません。",
        "データ、モデル、または設定が、保存したときと違います: {path}",
        "元に戻して再開するか、新しい学習を始めてください。",
    ),
    "RUN_NOT_RESUMABLE": Message(
        "実験 {run_id} は再開できません。",
        "状態は「{state}」です。再開できるのは、途中で止まった --engine mlx の学習だけです。",
        "続きではなく新しく始めるには、mlx-finetuning train を使ってください。",
    ),
    "RUN_BUSY": Message(
        "実験 {run_id} は、動いている作業があるため削除できません。",
        "動いている作業: {jobs}",
        "作業が終わるのを待つか、mlx-finetuning runs stop {run_id} などで止めてから、もう一度実行してください。",
    ),
    "RUN_NOT_IN_TRASH": Message(
        "実験 {run_id} は、ゴミ箱にありません。",
        "ゴミ箱にある実験: {available}",
        "mlx-finetuning runs trash で、ゴミ箱の中を確認してください。",
    ),
    "RUN_EXISTS": Message(
        "実験 {run_id} を移せません。移す先に、同じ名前のものがあります。",
        "{path}",
        "そのフォルダの名前を変えてから、もう一度実行してください。何も上書きしていません。",
    ),
    "RERUN_SOURCE_CHANGED": Message(
        "実験 {run_id} と同じ学習は、もうできません。",
        "学習したときから変わったもの: {changed}",
        "元に戻してからやり直すか、今のもので新しく学習するには mlx-finetuning train を使ってください。",
    ),
    "MLX_LM_FAILED": Message(
        "mlx-lm が学習の途中でエラーになりました（終了コード {exit_code}）。",
        "mlx-lm の最後の出力:\n{tail}",
        "設定とモデルを確認してください。--engine mlx なら同じデータで学習できます。ログ: {log}",
    ),
    # export
    "ARCHITECTURE_UNSUPPORTED": Message(
        "モデルの種類 {architecture} は、まだGGUFに書き出せません。",
        "書き出せる種類: {supported}",
        "mlx-lmやHugging Faceで使う形なら、--format mlx、safetensors、peft で書き出せます。"
        "chat --engine mlx ではそのまま使えます。",
    ),
    "MODEL_SETTING_UNSUPPORTED": Message(
        "モデルの設定 {setting} の値「{value}」は、GGUFに正しく書き出せません。",
        "対応しているのは: {supported}",
        "対応している設定のモデルを使ってください。このモデルは chat --engine mlx でそのまま使えます。",
    ),
    "TOKENIZER_UNSUPPORTED": Message(
        "このモデルのトークナイザーは、GGUFに正しく書き出せません。",
        "{reason}",
        "Llama、Qwen、Mistral、Gemma、Phi のトークナイザーを変えずに使っているモデルを選んでください。"
        "推測で書き出すことはしません。",
    ),
    "WEIGHTS_UNREADABLE": Message(
        "重みのファイル {path} を読めません。",
        "{reason}",
        "ファイルを元の場所から取り直してください（models download など）。",
    ),
    "WEIGHTS_INCOMPLETE": Message(
        "モデルの重みがそろっていないため、書き出しを止めました。",
        "足りない重み: {missing} / 使い道の分からない重み: {unknown}",
        "モデルのフォルダーを取り直し、config.json と重みが同じモデルのものか確認してください。",
    ),
    "NON_FINITE_WEIGHTS": Message(
        "重み {tensor} に、数値でない値（NaNや無限大）か、大きすぎる値があります。",
        "学習が発散したか、選んだ型で表せない値になっています。",
        "学習率を下げて学習し直すか、型を BF16 や Q8_0 に変えてください。",
    ),
    "ADAPTER_UNUSABLE": Message(
        "アダプター {path} を使えません。",
        "{reason}",
        "学習に使ったベースモデルと同じものを指定しているか確認し、なければ学習し直してください。",
    ),
    "ADAPTER_MUST_BE_FUSED": Message(
        "この実験は、アダプターだけの形式（{format}）では書き出せません。",
        "{kind} はベースの重みそのものを変えるため、足し算だけのファイルになりません。",
        "ベースと合わせて書き出してください（--format gguf、mlx、safetensors）。",
    ),
    "EXPERTS_NOT_IN_PEFT": Message(
        "この実験は、peft形式では書き出せません。",
        "混合エキスパート（MoE）の層 {layer} にLoRAを付けて学習したため、Hugging Faceの層と一対一に"
        "対応しません。",
        "--format gguf、gguf-lora、mlx のどれかで書き出してください。peft形式が必要なら、"
        "targets に attention を指定して学習してください。",
    ),
    "QUANTIZER_UNUSABLE": Message(
        "量子化のライブラリ（llama.cpp）を使えません。",
        "{reason}",
        "make setup を実行して、xllamacpp を入れ直してください。",
    ),
    "GGUF_NOT_MADE": Message(
        "この実験のGGUFファイルが、まだありません。",
        "llama.cpp で答えるには、先に書き出しが必要です。",
        "mlx-finetuning export {run_id} を実行してから、もう一度試してください。",
    ),
    "GGUF_UNREADABLE": Message(
        "GGUFファイル {path} を読めません。",
        "{reason}",
        "ファイルの場所を確認し、壊れているときは export で書き出し直してください。",
    ),
    "EXPORT_NOT_PROVEN": Message(
        "書き出したモデルが、学習したモデルと同じになりませんでした: {path}",
        "{problems}",
        "ファイルは渡していません。ログを添えて報告してください。学習したモデルは chat --engine mlx で使えます。",
    ),
    "RUN_NOT_DEPLOYED": Message(
        "この実験のモデルは、まだOllamaに入っていません。",
        "Ollamaで答えるには、先に登録が必要です。",
        "mlx-finetuning deploy {run_id} を実行してから、もう一度試してください。",
    ),
    "RUNTIME_NOT_STARTED": Message(
        "モデル {path} を動かすサーバー（llama.cpp）が起動しませんでした。",
        "{reason}",
        "空きメモリを確認し、もう一度実行してください。続くときは export で書き出し直してください。",
    ),
    "RUNTIME_NOT_ANSWERING": Message(
        "モデルを動かすサーバー（llama.cpp）から答えがありません。",
        "{reason}",
        "もう一度実行してください。続くときは、質問を短くするか、最大トークン数を減らしてください。",
    ),
    "PORT_TAKEN": Message(
        "{address} のポート {port} で待ち受けられません。",
        "{reason}",
        "--port で別の番号を指定してください（0なら空いている番号を選びます）。",
    ),
    # Ollama
    "OLLAMA_HOST_INVALID": Message(
        "Ollamaの場所「{host}」を読めません。",
        "使えるのは 127.0.0.1:11434、192.168.0.5、https://example.com のような形です。",
        "--host か環境変数 OLLAMA_HOST を直してください。",
    ),
    "OLLAMA_NAME_INVALID": Message(
        "Ollamaのモデルの名前「{name}」は使えません。",
        "使えるのは、英数字・ハイフン・下線・点の80文字以内の名前です（名前:タグ、名前空間/名前 も可）。",
        "--name で別の名前を指定してください。例: my-model、my-model:v2",
    ),
    "OLLAMA_NOT_INSTALLED": Message(
        "Ollamaが見つかりません。",
        "{place} では何も動いておらず、このマシンにOllamaのプログラムもありません。",
        "https://ollama.com から入れて起動してください。Ollamaなしでも、内蔵のllama.cppと対話できます。",
    ),
    "OLLAMA_NOT_RUNNING": Message(
        "Ollamaが動いていません（{place}）。",
        "そこへの接続が受け付けられませんでした。",
        "macOSではアプリ「Ollama」を開くか open -a Ollama、Linuxでは systemctl start ollama か "
        "ollama serve で起動してください。別のマシンで動いているときは --host か OLLAMA_HOST で指定します。",
    ),
    "NOT_OLLAMA": Message(
        "Ollamaではないものが応答しています。",
        "{reason}",
        "別のプログラムがこのポートを使っています。Ollamaの場所を --host か OLLAMA_HOST で指定してください。",
    ),
    "OLLAMA_TOO_OLD": Message(
        "Ollamaの版が古く、このモデルを正しく動かせません。",
        "{reason}",
        "Ollamaを新しい版に更新して、もう一度実行してください。",
    ),
    "OLLAMA_CONNECTION_LOST": Message(
        "Ollamaとの接続が途中で切れました（{stage}、{place}）。",
        "Ollamaが止まったか、通信が途切れた可能性があります。",
        "Ollamaが動いていることを確かめて、同じコマンドをもう一度実行してください。"
        "送り終えたファイルは送り直しません。",
    ),
    "OLLAMA_UPLOAD_DAMAGED": Message(
        "Ollamaに届いたファイルが、送ったものと違います: {path}",
        "送っている間にファイルが変わったか、通信で壊れた可能性があります。",
        "もう一度実行してください。続くときは export で書き出し直してください。",
    ),
    "OLLAMA_OUT_OF_SPACE": Message(
        "Ollamaがモデルを置くディスクの空きが足りません。",
        "{reason}",
        "登録の間は、モデルの2倍の空きが必要です。不要なモデルを mlx-finetuning ollama delete 名前 で消すか、"
        "小さな型（Q4_K_Mなど）を選んでください。",
    ),
    "OLLAMA_ARCHITECTURE_UNKNOWN": Message(
        "このOllamaは、このモデルの構造（アーキテクチャ）を知りません。",
        "{reason}",
        "Ollamaを新しい版に更新してください。更新できないときは、chat --engine gguf で内蔵のllama.cppを使えます。",
    ),
    "OLLAMA_MODEL_NOT_FOUND": Message(
        "そのモデルはOllamaにありません。",
        "{reason}",
        "mlx-finetuning ollama list で、登録されている名前を確かめてください。",
    ),
    "OLLAMA_NAME_TAKEN": Message(
        "Ollamaには、もう「{name}」という名前のモデルがあります。",
        "同じ名前のモデルを、確認なしに置き換えることはしません。",
        "置き換えるなら --replace を付け、残すなら --name で別の名前を指定してください。",
    ),
    "OLLAMA_REFUSED": Message(
        "Ollamaがエラーを返しました。",
        "{reason}",
        "Ollamaのログ（macOSでは ~/.ollama/logs/server.log、Linuxでは journalctl -u ollama）を確かめてください。",
    ),
    "OLLAMA_DIFFERS": Message(
        "Ollamaで動かした「{name}」は、学習したモデルと同じになりませんでした。",
        "{problems}",
        "登録は取り消しました。Ollamaを新しい版に更新するか、export で書き出し直してから、もう一度実行してください。",
    ),
    # system
    "DISK_FULL": Message(
        "ディスクに書き込めません: {path}",
        "空き容量が足りないか、ファイルの大きさの上限に達しました。",
        "不要なファイルを消して空きを作り、もう一度実行してください。書きかけのファイルは残していません。",
    ),
    "NOT_ENOUGH_SPACE": Message(
        "空き容量が足りません: {path}",
        "必要な容量は約 {needed_gb} GB、空きは {available_gb} GB です。",
        "不要なファイルを消すか、--workspace で空きのあるディスクを指定してください。",
    ),
    "NOT_ENOUGH_MEMORY": Message(
        "モデルを読み込むメモリが足りません。",
        "必要なのは約 {needed_gb} GB、空いているのは {available_gb} GB です。学習中は、その分も使われています。",
        "学習が終わるのを待つか、ほかのアプリを閉じてください。"
        "export で小さな型（Q4_K_Mなど）に書き出し、--engine gguf で使う方法もあります。",
    ),
    "SERVER_RUNNING": Message(
        "この作業フォルダの画面は、もう開いています。",
        "{url}",
        "ブラウザでその場所を開くか、mlx-finetuning serve --stop で終わらせてから開き直してください。",
    ),
    "SERVER_FAILED": Message(
        "Webの画面のサーバーがエラーで終わりました（終了コード {exit_code}）。",
        "ポート {port} をほかのプログラムが使っている可能性があります。サーバーの出力は、この上に表示されています（--background では logs/serve.log）。",
        "--port で別の番号を指定して、もう一度実行してください。例: mlx-finetuning serve --port 8601",
    ),
    "MLFLOW_NOT_INSTALLED": Message(
        "MLflow への書き出しには、MLflow が必要です。",
        "この環境に、Pythonパッケージ mlflow が入っていません。",
        "pip install mlflow で入れるか、csv か tensorboard の形式で書き出してください。",
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
