"""Settings in the words of people: what one is called, what it does, and what a choice is called.

`config` has the label (the first sentence of its help) and the bounds; its other words are for
who writes YAML or types commands. A test holds that nothing is missing here.
"""

from __future__ import annotations

import dataclasses

from mlx_finetuning.language import N_, _

EXPLANATIONS_JA = {
    # What is learned
    "engine": N_(
        "学習を計算するプログラムです。ふつうは MLX のままにします。シミュレーションは、流れを見るだけで何も学びません。"
    ),
    "iterations": N_("多いほどよく覚えますが、時間がかかり、多すぎると言い回しごと丸暗記します。"),
    "epochs": N_("0より大きくすると、更新の回数の代わりに使います。3なら、データを3周します。"),
    "batch_size": N_(
        "大きいほど安定して学びますが、1回に時間がかかります。メモリーが足りないときは小さくします。"
    ),
    "max_length": N_(
        "これより長い会話は、終わりが切り捨てられます。長くするほどメモリーを使います。"
    ),
    "supervise": N_("ふつうは答えだけです。質問の書き方も覚えさせたいときは、全てにします。"),
    "objective": N_(
        "ふつうは自動のままにします。好みの比較のデータだけに、比べ方の違いがあります。"
    ),
    "beta": N_(
        "好みから学ぶときだけに使います。DPOとKTOでは大きいほど学習前の答え方から離れません。ORPOでは比較の重み、SimPOでは答えの差の倍率です。0なら自動です。"
    ),
    "gamma": N_(
        "SimPOだけに使います。よい答えが、よくない答えより、これだけ先に出ることを目指します。大きいほど、よい答えをはっきり選ぶようになります。"
    ),
    "desirable_weight": N_(
        "○と×の答えから学ぶときだけに使います。×より○が少ないときは、大きくします。"
    ),
    "undesirable_weight": N_(
        "○と×の答えから学ぶときだけに使います。○より×が少ないときは、大きくします。"
    ),
    "continues": N_("終わった学習の続きから始めます。空なら、元のモデルから始めます。"),
    "wordings": N_(
        "別の聞き方にも答えられるようにします。0.3なら、3割の質問を言い換えた形でも学びます。"
    ),
    "replay": N_(
        "元のモデルが作った質問を、いっしょに復習します。多いほど忘れにくく、時間がかかります。"
    ),
    "replay_weight": N_(
        "大きいほど、前から知っていたことを忘れません。大きすぎると、新しいことを覚えにくくなります。"
    ),
    # How
    "method": N_(
        "ふつうはLoRAです。DoRAは少し遅く、少し細かく学びます。全ての重みは、メモリーが何倍も要ります。"
    ),
    "optimizer": N_(
        "ふつうはAdamWです。メモリーが足りないときは、8ビットのAdamWが少なくて済みます。"
    ),
    "learning_rate": N_(
        "大きすぎると壊れて意味のない答えになり、小さすぎると覚えません。うまくいかないときは10分の1にします。"
    ),
    "schedule": N_("ふつうは、だんだん小さくする（コサイン）です。"),
    "warmup": N_("はじめから大きく変えると壊れやすいので、この回数をかけて少しずつ上げます。"),
    "weight_decay": N_("重みが大きくなりすぎるのを抑えます。ふつうは0です。"),
    "gradient_clip": N_("一度に変わりすぎるのを抑えます。小さくすると、安定しますが遅くなります。"),
    "rank": N_(
        "アダプターの大きさです。覚えることが多いときは大きくします。大きいほどメモリーを使います。"
    ),
    "alpha": N_("アダプターを効かせる強さです。ふつうはランクの2倍にします。"),
    "rslora": N_("ランクを大きくしたときに、学習が進みにくくなるのを防ぎます。"),
    "dropout": N_(
        "学習のたびに一部を休ませて、丸暗記を防ぎます。ふつうは0、使うなら0.05ほどです。"
    ),
    "targets": N_(
        "ふつうは全て（all-linear）です。attention にすると一部だけになり、メモリーを節約します。"
    ),
    "num_layers": N_(
        "-1なら全てです。少なくすると速く、メモリーも減りますが、覚えにくくなります。"
    ),
    "keep_lower": N_("学習しない層があるときに、計算を省いて速くします。結果は変わりません。"),
    "neftune_alpha": N_(
        "答えが長く自然になることがあります。使うなら5ほどにします。0なら使いません。"
    ),
    # Memory and machines
    "micro_batch_size": N_(
        "小さくするとメモリーを節約し、少し遅くなります。結果は変わりません。0なら自動です。"
    ),
    "recompute": N_("メモリーを節約し、少し遅くなります。結果は変わりません。"),
    "processes": N_("計算を分けて速くします。0なら自動です。うまく動かないときは1にします。"),
    "ranks": N_(
        "ふつうは1です。NVIDIAのGPUが何枚もあるときは、その数にすると1枚ずつで分けます。CPUでは「計算を分けるプロセスの数」のほうが速くなります。"
    ),
    "hosts": N_(
        "何台かで分けるときに、機械の名前をコンマで区切って書きます。空なら、この機械だけで学習します。"
    ),
    "memory_limit_gb": N_("ほかのアプリのために残したいときに決めます。0なら自動です。"),
    # While it goes on
    "validate_every": N_(
        "学習に使わない行で、この回数ごとに確かめます。短いほど細かく分かり、時間がかかります。"
    ),
    "patience": N_("学びすぎる前に、自動で止めます。使うなら3ほどにします。0なら止めません。"),
    "sample_every": N_("途中の答えを見るための間隔です。短いほど細かく見られ、時間がかかります。"),
    "checkpoint_every": N_(
        "止まったときに、ここから続けられます。短いほど戻りが少なく、容量を使います。"
    ),
    "checkpoint_minutes": N_(
        "止まったときに、ここから続けられます。短いほど戻りが少なく、容量を使います。0なら時間では保存しません。"
    ),
    "trackers": N_(
        "学習の曲線を、TensorBoardなどでも見られるようにします。このマシンの中にだけ書き、インターネットには送りません。選んだ道具を、先に入れておきます。"
    ),
    "seed": N_("同じ数なら、同じ並びで始まり、同じ結果になります。"),
    # Data
    "valid_share": N_(
        "学習の途中で、よくなっているかを見るための行です。全体を1としたときの割合です。"
    ),
    "test_share": N_(
        "学習が終わったあとで、成果を確かめるための行です。全体を1としたときの割合です。"
    ),
    "system": N_("会話の前に伝えておく役割や話し方です。例: あなたは総務の窓口です。"),
    # Answers and files
    "max_tokens": N_(
        "答えが途中で切れるときは増やします。日本語では、1トークンが1文字から数文字です。"
    ),
    "temperature": N_("0なら、同じ質問にいつも同じ答えを返します。大きいほど、答えが変わります。"),
    "strength": N_(
        "学習の効き方です。小さくすると元のモデルに近づき、0では元のモデルの答えになります。"
    ),
    "context": N_("長い会話をするときは増やします。増やすほどメモリーを使います。"),
    "quant": N_("小さい型ほどファイルが小さく速くなり、答えは学習したモデルから離れます。"),
    "form": N_(
        "ふつうは全体です。アダプターだけなら数MBで済みますが、新しいOllamaは受け付けません。受け付けるかは、登録のはじめにOllamaに尋ねます。"
    ),
    "importance": N_(
        "大事な重みを調べてから小さくするので、小さな型でも質が落ちにくくなります。時間がかかります。"
    ),
}
"""By setting; those of one name mean the same wherever they stand."""
CHOICES_JA = {
    "engine": {
        "mlx": "MLX",
        "mlx-lm": N_("mlx-lm（比べるため）"),
        "simulation": N_("シミュレーション"),
    },
    "supervise": {"answers": N_("答えだけ"), "all": N_("質問も含む全て")},
    "objective": {
        "auto": N_("自動"),
        "sft": N_("文章や答えをまねる（SFT）"),
        "dpo": N_("2つの答えを比べる（DPO）"),
        "orpo": N_("比べながらまねる（ORPO）"),
        "simpo": N_("2つの答えを、長さをそろえて比べる（SimPO）"),
        "kto": N_("○と×の付いた答えから学ぶ（KTO）"),
    },
    "method": {"lora": "LoRA", "dora": "DoRA", "full": N_("全ての重み")},
    "optimizer": {
        "adamw": "AdamW",
        "adamw8bit": N_("AdamW（8ビット）"),
        "adam": "Adam",
        "adafactor": "Adafactor",
        "muon": "Muon",
        "sgd": "SGD",
    },
    "schedule": {
        "cosine": N_("だんだん小さく（コサイン）"),
        "linear": N_("だんだん小さく（直線）"),
        "constant": N_("変えない"),
    },
    "trackers": {
        "tensorboard": "TensorBoard",
        "mlflow": "MLflow",
        "trackio": "Trackio",
        "wandb": N_("Weights & Biases（オフライン）"),
    },
    "form": {"file": N_("モデルの全体"), "adapter": N_("アダプターだけ")},
    "recompute": {"auto": N_("足りないときだけ"), "on": N_("いつも"), "off": N_("しない")},
}
"""By setting and value; a value without a name of its own is one already."""


def label_of(kind: type, name: str) -> str:
    """What a setting is called; a name that is none, as old records have, stays."""
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(kind)}
    # The first sentence, wherever that ends: "。" in Japanese, ". " in English.
    return _(str(helps.get(name, name))).split("。", 1)[0].split(". ", 1)[0]


def shown_value(name: str, value: object) -> str:
    """A setting's value as its input shows it; no value is a dash."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return _("オン") if value else _("オフ")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return _(CHOICES_JA.get(name, {}).get(str(value), str(value)))
