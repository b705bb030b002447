"""What the words on the pages and in reports mean, said once, for people who don't train models.

Names stand as they are written everywhere else; `terms_in` finds those that a text uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlx_finetuning.language import N_, _

TERMS_JA = {
    N_("ファインチューニング", "term"): N_(
        "できあがったモデルに、手元のデータをさらに教えることです。"
    ),
    N_("アダプター", "term"): N_(
        "元のモデルはそのままに、学習で増えた分だけを入れた小さなファイルです。"
    ),
    N_("LoRA", "term"): N_(
        "元のモデルの重みは変えずに、横に足した小さな部品（アダプター）だけを学習する方法です。"
    ),
    N_("ランク", "term"): N_(
        "アダプターの大きさです。大きいほど多くを覚えられますが、メモリーを使い、丸暗記もしやすくなります。"
    ),
    N_("損失", "term"): N_(
        "正しい答えをどれだけ予測できていないかを表す数です。小さいほどよく、0が最小です。"
    ),
    N_("パープレキシティ", "term"): N_(
        "次の語をいくつの候補で迷っているかの目安です。1が最もよい値です。"
    ),
    N_("トークン", "term"): N_(
        "モデルが文章を読む単位です。日本語では、1文字から数文字が1つになります。"
    ),
    N_("更新", "term"): N_("何行かを見て、モデルを一度直すことです。学習は更新の繰り返しです。"),
    N_("エポック", "term"): N_("学習データを1周することです。"),
    N_("学習率", "term"): N_(
        "一度の更新でどれだけ変えるかです。大きすぎると壊れ、小さすぎるとなかなか覚えません。"
    ),
    N_("検証", "term"): N_("学習に使わない行で、ほんとうに身についているかを途中で見ることです。"),
    N_("勾配", "term"): N_("モデルをどちらへどれだけ変えると、よくなるかを表す数です。"),
    N_("バッチ", "term"): N_("一度に計算する行のまとまりです。"),
    N_("量子化", "term"): N_(
        "重みを少ないビット数で表して、ファイルを小さくすることです。小さくしすぎると、答えが変わります。"
    ),
    N_("GGUF", "term"): N_("1つのファイルにまとめたモデルの形式です。Ollamaなどで動きます。"),
    N_("混ざり", "term"): N_(
        "評価に使うはずの問題が、学習データに入っていることです。点数が本当より高く出ます。"
    ),
    N_("テンプレート", "term"): N_("質問と答えを、モデルが読む1つの文面に並べる決まりです。"),
    N_("システム文", "term"): N_("会話の前に、役割や話し方を伝えておく文です。"),
    N_("温度", "term"): N_("答えのばらつきです。0なら、同じ質問にいつも同じ答えを返します。"),
    N_("忘れにくくする", "term"): N_(
        "教えるデータのほかに、元のモデルの答え方も一緒に復習することです。"
    ),
    N_("chrF", "term"): N_("正解の文と、文字の並びがどれだけ近いかです。100%なら同じです。"),
    N_("ROUGE-L", "term"): N_(
        "正解の文と、同じ順に出てくる語がどれだけ多いかです。100%なら同じです。"
    ),
    N_("予測の差", "term"): N_("2つのモデルの予測がどれだけ違うか（KL）です。0なら同じです。"),
    N_("信頼区間", "term"): N_(
        "行を選び直しても、95%はこの範囲に入るという幅です。狭いほど確かです。"
    ),
    N_("証明", "term"): N_(
        "書き出したモデルが、学習したモデルと同じ答えを返すかを確かめた結果です。"
    ),
}
"""By term; a term that is part of a longer one stands behind it."""


def explained(terms: Iterable[str]) -> dict[str, str]:
    """These keys of `TERMS_JA` as they are called in the current language, with their meanings."""
    return {_(term, "term"): _(TERMS_JA[term]) for term in terms}


def terms_in(text: str) -> dict[str, str]:
    """The terms that `text` uses, with their meanings; both in the current language."""
    written = text.lower()
    return {
        term: meaning for term, meaning in explained(TERMS_JA).items() if term.lower() in written
    }
