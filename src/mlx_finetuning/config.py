"""Every setting once: typed, documented, strict. CLI options, forms and
`config/default_config.yaml` derive from these dataclasses.

Loading reports all problems at once, in words, with a suggestion for a misspelt key. It does
not check that files, models or datasets exist; the stage that needs them does.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlx_finetuning.errors import ConfigFileUnreadable, InvalidSettings
from mlx_finetuning.language import N_, _


def setting(
    default: Any,
    help_ja: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its explanation (`_` it where it is shown) and its bounds (inclusive)."""
    metadata = {"help": help_ja, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


C = TypeVar("C")

ENGINES = ("mlx", "mlx-lm", "simulation")
TRACKERS = ("tensorboard", "mlflow", "trackio", "wandb")
HIDDEN = ("read", "skip")
HOLD_OUT = ("auto", "paraphrase", "group")
GOALS = ("faq", "style", "labels", "rewrite", "text", "preference")
"""What a model is trained for; `utils.goals` has their names, and guesses one from the data."""
SUPERVISE = ("answers", "all")
DEPLOY_FORMS = ("file", "adapter")
OBJECTIVES = ("auto", "sft", "dpo", "orpo", "simpo", "kto")


@dataclass(frozen=True)
class PrepareConfig:
    """How a source file becomes a dataset."""

    encoding: str = setting("auto", N_("文字コード。autoなら自動判定（utf-8, cp932, euc-jp など）"))
    sheet: str = setting(
        "", N_("表計算のブックの、読むシートの名前。空なら、最も多くの行が入ったシート")
    )
    header_row: str = setting(
        "auto",
        N_(
            "見出しの行の番号。autoなら自動判定、0なら見出しなし、2-3 なら2行を合わせて見出しにする"
        ),
    )
    hidden: str = setting(
        "read",
        N_("表計算のブックの、非表示やフィルターで隠れた行と列。readなら読み、skipなら読み飛ばす"),
        choices=HIDDEN,
    )
    delimiter: str = setting(
        "auto", N_("CSVなどの区切り文字。autoなら自動判定。comma, tab, semicolon, pipe か、1文字")
    )
    goal: str = setting(
        "auto",
        N_(
            "何のために学習するか。faqは社内FAQ（事実）、styleは口調・文体、labelsは分類・抽出、"
            "rewriteは要約・変換、textは文章、preferenceは好み。autoは、データから推定する"
        ),
        choices=("auto", *GOALS),
    )
    hold_out: str = setting(
        "auto",
        N_(
            "検証・テスト行の選び方。autoは目的に合わせる（faqは全ての内容を教え、別の聞き方だけを使う）。"
            "groupは同じ内容の行をまとめて片方へ、paraphraseは3通り以上ある内容の聞き方を1つか2つ使う"
        ),
        choices=HOLD_OUT,
    )
    valid_share: float = setting(0.1, N_("検証に使う割合"), minimum=0.0, maximum=0.5)
    test_share: float = setting(0.1, N_("テストに使う割合"), minimum=0.0, maximum=0.5)
    stratify: str = setting(
        "",
        N_("分割で割合をそろえる列の名前（カテゴリなど）。空ならそろえない。hold_out=group のとき"),
    )
    clean: tuple[str, ...] = setting(
        ("line_ends", "zero_width", "nfc"),
        N_(
            "文章の整え方（コンマ区切り、順に行う）。ほかに trim, html, excel, control_tokens, radicals, marks, "
            "control, halfwidth_kana, fullwidth_alnum, nfkc, mask_personal"
        ),
    )
    drop: tuple[str, ...] = setting(
        (),
        N_(
            "気になる行のうち、除くもの（コンマ区切り）。"
            "near_duplicate, conflict, evaluation_set, not_japanese, personal_data など"
        ),
    )
    weights: tuple[float, ...] = setting(
        (),
        N_(
            "複数のファイルを合わせるときの、学習行の重み（コンマ区切り。2なら2回ずつ、0.5なら半分）"
        ),
    )
    evaluation_sets: tuple[str, ...] = setting(
        (), N_("学習に混ざっていないか確かめる、評価用のファイル（コンマ区切り）")
    )
    system: str = setting("", N_("全ての行の先頭に付けるシステム文。空なら付けない"))
    assistant_speaker: str = setting(
        "",
        N_(
            "会話の記録（LINE、Slack、Teams など）で、AIの役にする話し手の名前。"
            "空なら会話に組み立てず、発言を文章として読む"
        ),
    )
    several: str = setting(
        "first",
        N_(
            "1つの質問に回答がいくつもあるとき。firstは最初の空でないものを使い、allは1つずつ別の行にする"
        ),
        choices=("first", "all"),
    )
    seed: int = setting(42, N_("分割の乱数の種"), minimum=0)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. `model` and `dataset` name what is trained on what.

    A checkpoint goes on only with the values that it was written under: `identity` in
    `mlx_trainer/training/checkpoints.py` compares all of them, but for those that it names because
    nothing is learned by them, or because former versions did not have them.
    """

    model: str = setting("tiny-ja", N_("ベースモデルの名前、フォルダ、またはHugging FaceのID"))
    dataset: str = setting("", N_("データセットの名前"))
    engine: str = setting("mlx", N_("学習エンジン"), choices=ENGINES)

    iterations: int = setting(300, N_("更新の回数（エポック数ではない）"), minimum=0)
    """Optimizer updates, not epochs."""
    epochs: float = setting(
        0.0, N_("学習データを何周するか。0でなければ iterations の代わりに使う"), minimum=0.0
    )
    """Passes over the training rows; takes the place of `iterations` unless 0."""
    batch_size: int = setting(8, N_("1回の更新に使う例の数"), minimum=1)
    """Examples per optimizer update."""
    max_length: int = setting(
        1024, N_("1例の最大トークン数。会話の超えた分は切り捨て、文章はこの長さに分ける"), minimum=8
    )
    """Tokens per example; the rest of a chat is cut and counted."""
    supervise: str = setting(
        "answers",
        N_("学習するトークン。answersは答えだけ、allは質問も含む全て"),
        choices=SUPERVISE,
    )
    objective: str = setting(
        "auto",
        N_(
            "学習の目的。sftは文章や答えをまねる。dpo、orpo、simpoは、好みの比較（chosenとrejected）から学ぶ。"
            "ktoは、1つずつ○×を付けた答えから学ぶ。autoは、好みの比較ならdpo、○×の付いた答えならkto、ほかはsft"
        ),
        choices=OBJECTIVES,
    )
    beta: float = setting(
        0.0,
        N_(
            "好みの学習の強さ。DPOとKTOでは元のモデルから離れにくくする強さ、ORPOでは比較の重み、"
            "SimPOでは答えの差の倍率。0なら、DPO・ORPO・KTOは0.1、SimPOは2。学習率は、ふつうの学習の10分の1ほどから試す"
        ),
        minimum=0.0,
        maximum=10.0,
    )
    gamma: float = setting(
        1.0,
        N_("SimPOで、よい答えとよくない答えに付ける差。betaの半分ほど"),
        minimum=0.0,
        maximum=10.0,
    )
    desirable_weight: float = setting(
        1.0, N_("KTOで、○の答えの損失に掛ける数"), minimum=0.0, maximum=100.0
    )
    undesirable_weight: float = setting(
        1.0, N_("KTOで、×の答えの損失に掛ける数"), minimum=0.0, maximum=100.0
    )

    continues: str = setting(
        "",
        N_(
            "続きから学習する、終わった学習のID。その重みとオプティマイザーの状態から始める。"
            "モデルとアダプターの形（rank など）は変えられない"
        ),
    )
    """A finished run whose adapter and optimizer state this one starts from."""

    replay: int = setting(
        -1,
        N_(
            "忘れにくくするために、更新のたびに一緒に学習する例の数。ベースモデルが自分で作った質問への、"
            "学習前の答え方を保つ。-1なら自動、0ならしない"
        ),
        minimum=-1,
        maximum=64,
    )
    """Replayed examples beside the `batch_size` of an update."""
    replay_weight: float = setting(
        2.0,
        N_("忘れにくくする強さ。大きいほど、学習前の答え方から離れにくい"),
        minimum=0.0,
        maximum=100.0,
    )
    """Of a replayed token's loss, in multiples of a row's token's."""

    wordings: float = setting(
        0.0,
        N_(
            "言い換えて学習する質問の割合。質問の言い回しを機械的に変えた行を足し、1つの聞き方だけを"
            "覚えないようにする。0ならしない"
        ),
        minimum=0.0,
        maximum=0.9,
    )
    """Of all trained rows; the others stand in the dataset."""

    method: str = setting(
        "lora", N_("学習の方法。fullは層の重みを全て学習する"), choices=("lora", "dora", "full")
    )
    optimizer: str = setting(
        "adamw",
        N_("最適化の方法。adamw8bitは状態を8ビットで持ち、メモリーを節約する"),
        choices=("adamw", "adamw8bit", "adam", "adafactor", "muon", "sgd"),
    )
    learning_rate: float = setting(1e-3, N_("学習率の最大値"), minimum=0.0, maximum=10.0)
    """Peak learning rate."""
    schedule: str = setting(
        "cosine", N_("学習率の変え方"), choices=("cosine", "linear", "constant")
    )
    warmup: int = setting(10, N_("学習率を0から上げていく更新の回数"), minimum=0)
    """Updates of linear warm-up."""
    weight_decay: float = setting(
        0.0, N_("重み減衰。正規化層とバイアスには掛けない"), minimum=0.0, maximum=1.0
    )
    """Decoupled; arrays of one dimension (norms, biases) are left out."""
    gradient_clip: float = setting(1.0, N_("勾配のノルムの上限。0なら制限しない"), minimum=0.0)
    """Global norm."""

    rank: int = setting(16, N_("LoRAのランク"), minimum=1, maximum=1024)
    alpha: float = setting(32.0, N_("LoRAのアルファ。倍率は alpha / rank"), minimum=0.0)
    rslora: bool = setting(False, N_("rsLoRA。倍率を alpha / √rank にする"))
    dropout: float = setting(0.0, N_("LoRAのドロップアウト率"), minimum=0.0, maximum=0.9)
    targets: tuple[str, ...] = setting(
        ("all-linear",),
        N_("LoRAを付ける層。all-linear、attention、または層の名前（コンマ区切り）"),
    )
    num_layers: int = setting(-1, N_("LoRAを付ける層の数（上から）。-1なら全て"), minimum=-1)
    """Transformer blocks counted from the top; -1 is all."""
    keep_lower: bool = setting(
        True, N_("学習しない下の層の出力を取っておき、2周目から計算を省く（結果は変わらない）")
    )

    neftune_alpha: float = setting(
        0.0, N_("NEFTune。埋め込みに加える雑音の強さ（5前後）。0なら加えない"), minimum=0.0
    )

    micro_batch_size: int = setting(
        0,
        N_(
            "一度に計算する例の数。batch_size より小さければ、分けて計算して足し合わせる。0なら自動"
        ),
        minimum=0,
    )
    """Examples computed at once; the update's result does not depend on it."""
    recompute: str = setting(
        "auto",
        N_("層の途中の値を覚えずに計算し直し、メモリーを節約する。autoは、足りないときだけ"),
        choices=("auto", "on", "off"),
    )
    """Gradient checkpointing."""
    validate_every: int = setting(50, N_("検証の間隔（更新の回数）"), minimum=1)
    """Updates between validations."""
    checkpoint_every: int = setting(100, N_("途中保存の間隔（更新の回数）"), minimum=1)
    """Updates between checkpoints."""
    checkpoint_minutes: float = setting(
        10.0, N_("途中保存の間隔（分）。0なら時間では保存しない"), minimum=0.0
    )
    """Minutes between checkpoints, whatever comes first."""
    patience: int = setting(
        0, N_("検証の損失がこの回数続けて下がらなければ止める。0なら止めない"), minimum=0
    )
    """Validations without a new best before the run ends early; 0 is never."""
    sample_every: int = setting(
        100, N_("見本の質問に答えさせる間隔（更新の回数）。0なら答えさせない"), minimum=0
    )
    """Updates between sample answers."""
    processes: int = setting(
        0, N_("計算を分けるプロセスの数（CPU）。0なら自動"), minimum=0, maximum=64
    )
    ranks: int = setting(
        1,
        N_("1台の中で学習を分けるプロセスの数（mx.distributed）。CPUではprocessesのほうが速い"),
        minimum=1,
        maximum=64,
    )
    """Of which each computes its share of every update's examples."""
    hosts: tuple[str, ...] = setting(
        (),
        N_(
            "学習を分ける機械（コンマ区切り）。この機械を最初に書く。sshで始める。"
            "同じ場所に同じ環境とモデルが要る（docs/multi-machine.ja.md）"
        ),
    )
    memory_limit_gb: float = setting(
        0.0, N_("使うメモリーの上限（GB）。超えたら保存して止まる。0なら自動"), minimum=0.0
    )
    """10**9 bytes; 0 leaves a twentieth of the machine's memory to others."""
    trackers: tuple[str, ...] = setting(
        (),
        N_(
            "学習中の記録を、ほかの道具にも残す（コンマ区切り）。このマシンの中（作業フォルダのtracking）に書き、"
            "外には送らない。その道具のパッケージが要る"
        ),
        choices=TRACKERS,
    )
    seed: int = setting(42, N_("乱数の種"), minimum=0)


MERGE_METHODS = ("linear", "ties", "dare")
STRENGTH_JA = N_("学習の強さ。0なら元のモデル、1なら学習したまま、1より大きいと強める")
MLX_STRENGTH_JA = N_(
    "学習の強さ。0なら元のモデル、1なら学習したまま、1より大きいと強める（mlxだけ）"
)
HIGHEST_STRENGTH = 1.5


@dataclass(frozen=True)
class MergeConfig:
    """How adapters of one base become one."""

    method: str = setting(
        "linear",
        N_(
            "合わせ方。linearは変化の重み付きの和（正確）。tiesは大きな変化を残し、向きの多数決をとる。"
            "dareは変化を無作為に間引いて残りを強める"
        ),
        choices=MERGE_METHODS,
    )
    weights: tuple[float, ...] = setting(
        (), N_("それぞれの重み（コンマ区切り、学習の順）。空なら、どれも同じで合わせて1")
    )
    density: float = setting(0.5, N_("tiesとdareで残す割合"), minimum=0.01, maximum=1.0)
    rank: int = setting(
        0, N_("合わせたアダプターのランク。0なら、元のランクの合計"), minimum=0, maximum=4096
    )
    strength: float = setting(1.0, STRENGTH_JA, minimum=0.0, maximum=HIGHEST_STRENGTH)
    seed: int = setting(42, N_("dareの乱数の種"), minimum=0)


@dataclass(frozen=True)
class GenerateConfig:
    """How answers are generated."""

    max_tokens: int = setting(128, N_("1つの答えの最大トークン数"), minimum=1)
    temperature: float = setting(0.0, N_("温度。0なら毎回同じ答え"), minimum=0.0, maximum=5.0)
    system: str = setting("", N_("システム文"))
    strength: float = setting(1.0, MLX_STRENGTH_JA, minimum=0.0, maximum=HIGHEST_STRENGTH)
    """By which the adapter's change is multiplied."""


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn, in both engines: penalties, then cuts, then the temperature.

    Penalties look at the last 64 tokens, of the prompt too, as llama.cpp's do.
    """

    top_p: float = setting(1.0, N_("この確率までの上位から選ぶ"), minimum=0.0, maximum=1.0)
    top_k: int = setting(0, N_("この数までの上位から選ぶ。0なら全て"), minimum=0)
    min_p: float = setting(0.0, N_("1位のこの割合に満たないものを除く"), minimum=0.0, maximum=1.0)
    seed: int = setting(-1, N_("乱数の種。-1なら毎回違う"), minimum=-1, maximum=2**63 - 1)
    presence_penalty: float = setting(0.0, N_("既出のトークンを減点"), minimum=-2.0, maximum=2.0)
    frequency_penalty: float = setting(0.0, N_("既出の回数だけ減点"), minimum=-2.0, maximum=2.0)
    repetition_penalty: float = setting(
        1.0, N_("既出のトークンの点を割る数"), minimum=0.01, maximum=10.0
    )


@dataclass(frozen=True)
class EvaluateConfig:
    """How base and tuned model are compared."""

    goal: str = setting(
        "auto",
        N_("何のために学習したか。何を数えて、どう判定するかが決まる。autoは、データセットの目的"),
        choices=("auto", *GOALS),
    )
    max_rows: int = setting(
        500, N_("1つの分割で調べる行数の上限。多いときは等間隔に選ぶ"), minimum=1
    )
    max_tokens: int = setting(96, N_("1つの答えの最大トークン数"), minimum=1)
    in_prompt: bool = setting(
        False,
        N_(
            "学習しない場合とも比べる。元のモデルに、データの行（入るだけ）や、質問に近い行だけを"
            "質問に添えて答えさせる"
        ),
    )
    batch_size: int = setting(32, N_("一度に答えさせる質問の数の上限"), minimum=1, maximum=256)
    """Questions answered together; the answers do not depend on it."""
    seed: int = setting(42, N_("信頼区間の乱数の種"), minimum=0)


@dataclass(frozen=True)
class CertifyConfig:
    """How far the written models are compared with the trained one."""

    prompts: int = setting(64, N_("比べる質問の数の上限"), minimum=1)
    max_tokens: int = setting(96, N_("1つの答えの最大トークン数"), minimum=1)


FORMATS = ("gguf", "gguf-lora", "peft", "mlx", "safetensors")
QUANTIZATIONS = (
    *("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S"),
    *("Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q2_K"),
)


AUTO = "auto"
QUANT_JA = N_("量子化の種類。autoなら Q4_K_M、GGUFファイルから学習したときは Q8_0")


@dataclass(frozen=True)
class ExportConfig:
    """What is written from a trained run."""

    format: str = setting("gguf", N_("書き出す形式"), choices=FORMATS)
    quant: str = setting(AUTO, QUANT_JA, choices=(AUTO, *QUANTIZATIONS))
    verify_tokens: int = setting(512, N_("検証で比べるトークン数の下限"), minimum=16)
    """Tokens whose logits are compared with the MLX model's."""
    importance: bool = setting(
        False, N_("学習データで重みの重要度（imatrix）を測って使う。小さな型の質が上がる")
    )
    """Squares of activations on training rows weigh the errors of quantization."""


@dataclass(frozen=True)
class DeployConfig:
    """How a tuned model goes into Ollama."""

    quant: str = setting(AUTO, QUANT_JA, choices=(AUTO, *QUANTIZATIONS))
    form: str = setting(
        "file",
        N_(
            "登録の形。fileは学習したモデルの全体、adapterは元のモデルの上に置くアダプターだけ（数MB）。"
            "adapterは、ベースが ollama:名前 で、アダプターを受け付けるOllamaのとき"
        ),
        choices=DEPLOY_FORMS,
    )
    context: int = setting(4096, N_("質問と答えを合わせた最大トークン数"), minimum=128)
    """Tokens; no more than the model was made for."""
    temperature: float = setting(0.0, N_("温度。0なら毎回同じ答え"), minimum=0.0, maximum=5.0)
    system: str = setting("", N_("システム文。空なら、学習データで共通に使ったもの"))
    prompts: int = setting(8, N_("学習したモデルと答えを比べる質問の数の上限"), minimum=1)
    max_tokens: int = setting(96, N_("比べる答えの最大トークン数"), minimum=1)


_LONGEST_QUOTE = 100


def load(kind: type[C], values: Mapping[str, Any]) -> C:
    """A `kind` from loose values (YAML, form, `--set`). Raises InvalidSettings with all problems.

    Strings are read as the field's type, so that YAML's `1e-5` (a string to PyYAML) is a float. A
    setting of several values is a list, or one text with commas.
    """
    problems: list[str] = []
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    accepted: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = (
                _("もしかして {near}?").format(near=near[0])
                if near
                else _("使えるのは {fields}").format(fields=", ".join(fields))
            )
            problems.append(
                _("設定に未知のキーがあります: {key}（{hint}）").format(key=key, hint=hint)
            )
            continue
        try:
            accepted[key] = _converted(value, hints[key])
        except (TypeError, ValueError, LookupError, OverflowError):
            problems.append(
                _("{key}: {quoted} は{kind}として読めません。").format(
                    key=key, quoted=_quoted(value), kind=_(_KIND_JA[hints[key]], "value")
                )
            )
            continue
        if problem := fault(accepted[key], fields[key].metadata):
            problems.append(f"{key}: {problem}")
    if problems:
        raise InvalidSettings(problems=problems)
    return kind(**accepted)


def load_of_run(values: Mapping[str, Any]) -> TrainConfig:
    """The settings that a run was started with, if by a version that had fewer of them: what those did
    not know, they did not do. Raises InvalidSettings."""
    return load(TrainConfig, {"replay": 0, **values})


def _quoted(value: Any) -> str:
    """A value as a message shows it, whatever a file held."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return _("大きすぎる数")
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """`["rank=8"]` → `{"rank": "8"}`. Raises InvalidSettings."""
    wrong = [item for item in assignments if "=" not in item]
    if wrong:
        raise InvalidSettings(
            problems=[
                _("「{item}」は キー=値 の形ではありません。").format(item=item) for item in wrong
            ]
        )
    return dict(item.split("=", 1) for item in assignments)


def read_yaml(path: Path) -> dict[str, object]:
    """A YAML file's mapping. Raises ConfigFileUnreadable."""
    import yaml

    class Plain(yaml.SafeLoader):
        """Without aliases, of which a few lines stand for gigabytes, and settings need none."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(_("エイリアス（*名前）は使えません。"))
            return super().compose_node(parent, index)

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Plain)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # 2026-99-99 is no date
        raise ConfigFileUnreadable(path=str(path), reason=str(error)) from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigFileUnreadable(path=str(path), reason=_("「キー: 値」の形になっていません。"))
    return value


def as_dict(config: Any, separator: str = ",") -> dict[str, Any]:
    """The values as files keep them: of a setting with several ones a single text, with commas."""
    values = dataclasses.asdict(config)
    for item in dataclasses.fields(config):
        if isinstance(values[item.name], tuple) and item.metadata.get("help"):
            texts = [
                value if isinstance(value, str) else repr(value).removesuffix(".0")
                for value in values[item.name]
            ]
            # A file's name may have a comma.
            is_text = not any("," in text for text in texts)
            values[item.name] = separator.join(texts) if is_text else texts
    return values


def default_yaml() -> str:
    """The text of `config/default_config.yaml`: every setting, its default, explanation and bounds."""
    parts = [
        _(
            "# mlx-finetuning の設定の一覧と初期値。src/mlx_finetuning/config.py から作られます。\n"
            "# 学習では train: の中の値だけを書いたYAMLを --config で渡します（train: の行は不要）。"
        )
    ]
    for name, kind in SECTIONS.items():
        parts.append(f"\n{name}:")
        defaults = as_dict(kind())
        for item in dataclasses.fields(kind):
            bounds = bounds_in_words(item.metadata)
            parts.append(
                f"  # {_(item.metadata['help'])}"
                + (_("（{bounds}）").format(bounds=bounds) if bounds else "")
            )
            default = defaults[item.name]
            parts.append(f"  {item.name}: " + ('""' if default == "" else str(default)))
    return "\n".join(parts) + "\n"


SECTIONS: dict[str, type] = {
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "merge": MergeConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "certify": CertifyConfig,
    "export": ExportConfig,
    "deploy": DeployConfig,
}

_KIND_JA: dict[Any, str] = {
    int: N_("整数", "value"),
    float: N_("数", "value"),
    str: N_("文字列", "value"),
    bool: "true/false",
    tuple[str, ...]: N_("文字列の並び（例: a,b）", "value"),
    tuple[float, ...]: N_("数の並び（例: 1,0.5）", "value"),
}
_BOOLEANS = {"true": True, "false": False}


def _converted(value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        raise TypeError("union settings are not used")
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, list | tuple) else str(_converted(value, str)).split(",")
        given = [item.strip() if isinstance(item, str) else item for item in items]
        return tuple(_converted(item, typing.get_args(hint)[0]) for item in given if item != "")
    if hint is bool:
        return value if isinstance(value, bool) else _BOOLEANS[str(value).strip().lower()]
    if isinstance(value, bool) or value is None:
        raise TypeError
    if hint is int:
        number = float(value)
        if not number.is_integer():
            raise ValueError
        return int(number)
    if hint is float:
        number = float(value)
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError
        return number
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def fault(value: Any, metadata: Mapping[Any, Any]) -> str:
    """What is wrong with a setting's value, by its bounds and choices; empty for nothing."""
    chosen = value if isinstance(value, (list, tuple)) else (value,)
    wrong = [one for one in chosen if metadata["choices"] and one not in metadata["choices"]]
    if wrong:
        return _("「{wrong}」は選べません。選べるのは {choices} です。").format(
            wrong=wrong[0], choices=", ".join(metadata["choices"])
        )
    if metadata["minimum"] is not None and value < metadata["minimum"]:
        return _("{value:g} は小さすぎます。{minimum:g} 以上にしてください。").format(
            value=value, minimum=metadata["minimum"]
        )
    if metadata["maximum"] is not None and value > metadata["maximum"]:
        return _("{value:g} は大きすぎます。{maximum:g} 以下にしてください。").format(
            value=value, maximum=metadata["maximum"]
        )
    return ""


def bounds_in_words(metadata: Mapping[Any, Any]) -> str:
    """The choices or the bounds of a setting, in words; empty where any value will do."""
    if metadata["choices"]:
        return " / ".join(metadata["choices"])
    match metadata["minimum"], metadata["maximum"]:
        case None, None:
            return ""
        case minimum, None:
            return _("{minimum:g}以上").format(minimum=minimum)
        case None, maximum:
            return _("{maximum:g}以下").format(maximum=maximum)
        case minimum, maximum:
            return _("{minimum:g}以上、{maximum:g}以下").format(minimum=minimum, maximum=maximum)
    raise AssertionError
