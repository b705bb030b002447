"""What to write from a run: the format, the types with the sizes they will have, and the start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.config import FORMATS, QUANTIZATIONS, ExportConfig, MergeConfig
from mlx_finetuning.errors import ExportError
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.verify.results import Exported
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.form import setting_input
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import percent, size

GGUF = "gguf"
FORMATS_JA = {
    "gguf": N_("GGUF（Ollama、llama.cpp、LM Studio など）"),
    "gguf-lora": N_("GGUFのアダプターだけ（llama.cpp で元のモデルに重ねる）"),
    "peft": N_("PEFTのアダプター（transformers で使う）"),
    "mlx": N_("MLXのフォルダ（mlx-lm で使う）"),
    "safetensors": N_("Hugging Face形式のフォルダ（transformers で使う）"),
}
QUANTS_JA = {
    "F32": N_("32ビット。小さくしない。確認用"),
    "F16": N_("16ビット。小さくしない"),
    "BF16": N_("16ビット。小さくしない"),
    "Q8_0": N_("質の低下はほとんどない"),
    "Q6_K": N_("質の低下はごくわずか"),
    "Q5_K_M": N_("質を優先したつり合い"),
    "Q5_K_S": N_("上より少し小さい"),
    "Q4_K_M": N_("おすすめ。小さく、質の低下はわずか"),
    "Q4_K_S": N_("上より少し小さい"),
    "IQ4_XS": N_("4ビットで最も小さい"),
    "Q3_K_L": N_("小さい。質の低下が分かる"),
    "Q3_K_M": N_("さらに小さい。質の低下が分かる"),
    "Q2_K": N_("最も小さい。質は大きく落ちる"),
}


def draw_choice(run_id: str, at_work: bool) -> None:
    """`at_work`: another job of the run goes on."""
    form = st.selectbox(
        _("形式"),
        FORMATS,
        format_func=name_in(FORMATS_JA),
        key="export-format",
        placeholder=_("選択"),
    )
    strength = float(setting_input(MergeConfig, "strength", 1.0, "export-strength"))
    if form == GGUF:
        _draw_gguf(run_id, strength, at_work)
    elif st.button(
        _("書き出す"),
        type="primary",
        icon=":material/compress:",
        disabled=at_work,
        key="export-other",
    ):
        _start(run_id, strength, ExportConfig(format=form or GGUF))


def _start(
    run_id: str,
    strength: float,
    settings: ExportConfig,
    quants: Sequence[str] = (),
    *,
    advise: bool = False,
) -> None:
    """Write the run; at another strength, the run that is made of it, to whose page a link is shown."""
    with st.spinner(_("学習の強さを変えています…")):
        chosen = studio().merging.at_strength(run_id, strength, silent)
    studio().exports.start(chosen, settings, quants, advise=advise)
    if chosen == run_id:
        st.rerun()
    st.success(
        _("学習の強さ {strength:g} の実験を作り、書き出しています。").format(strength=strength)
    )
    st.page_link(
        sitemap.page("experiments"),
        label=_("その実験を見る"),
        icon=":material/arrow_forward:",
        query_params={PARAMETER: chosen},
    )


def _draw_gguf(run_id: str, strength: float, at_work: bool) -> None:
    """The types with the sizes they will have, and whether they fit on the disk."""
    sizes: dict[str, int] = {}
    try:
        with st.spinner(_("大きさを見積もっています…")):
            sizes = _cached_sizes(str(studio().workspace.root), run_id)
    except ExportError as error:  # the model cannot become a GGUF file
        show_error(error)
    texts = {
        quant: _("約 {size_bytes}").format(size_bytes=size(size_bytes))
        for quant, size_bytes in sizes.items()
    }
    quants = st.multiselect(
        _("どこまで軽くするか（種類。いくつでも）"),
        QUANTIZATIONS,
        default=[studio().exports.usual_quant(run_id)],
        format_func=lambda quant: (
            _("{quant}（{texts}）").format(quant=quant, texts=texts[quant])
            if quant in texts
            else quant
        ),
        key="export-quants",
        placeholder=_("選んでください"),
    )
    with st.expander(_("くわしい選び方"), icon=":material/list:"):
        rows = [
            {
                _("種類"): quant,
                _("予想サイズ"): texts.get(quant, "—"),
                _("特徴"): _(QUANTS_JA[quant]),
            }
            for quant in QUANTIZATIONS
        ]
        show_table(rows)
        importance = setting_input(ExportConfig, "importance", False, "export-importance")
    needed = sum(sizes.get(quant, 0) for quant in quants)
    free = shutil.disk_usage(studio().workspace.root).free
    with st.container(horizontal=True):
        st.metric(
            _("予想サイズ"),
            _("約 {needed}").format(needed=size(needed)) if needed else "—",
            border=True,
            width=200,
        )
        st.metric(_("ディスクの空き"), size(free), border=True, width=200)
    if needed > free:
        st.error(
            _("ディスクの空きが足りません。「設定」で片付けられます。"), icon=":material/disc_full:"
        )
    with st.container(horizontal=True):
        started = st.button(
            _("軽くする"),
            type="primary",
            icon=":material/compress:",
            disabled=at_work or not quants or needed > free,
        )
        tip = _("主な種類を実際に作って、大きさと質を比べます。ファイルは残りません。")
        asked = st.button(
            _("おすすめを測る"), icon=":material/balance:", help=tip, disabled=at_work
        )
    if started or asked:
        settings = ExportConfig(importance=bool(importance))
        _start(run_id, strength, settings, () if asked else quants, advise=asked)


@st.cache_data(max_entries=32, show_spinner=False)
def _cached_sizes(root: str, run_id: str) -> dict[str, int]:
    return studio().exports.predicted_sizes(run_id)


def draw_advice(result: Exported) -> None:
    """What a measurement of the types came to."""
    st.success(
        _("おすすめは **{recommended}** です（{tokens:,}トークンで比較）。").format(
            recommended=result.recommended, tokens=result.tokens
        ),
        icon=":material/balance:",
    )
    rows = [
        {
            _("種類"): candidate.quant,
            _("大きさ"): size(candidate.size_bytes),
            _("学習したモデルとの一致"): percent(candidate.top1_agreement),
            _("予測の差（0なら同じ）"): f"{candidate.mean_kl:.3f}",
        }
        for candidate in result.candidates
    ]
    show_table(rows)
