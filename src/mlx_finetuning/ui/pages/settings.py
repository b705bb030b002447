"""設定: defaults for new runs, disk use and cleaning, keys, versions, diagnostics to copy."""

from __future__ import annotations

import os

import streamlit as st

from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.ui.components.form import are_in_bounds, settings_form
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.memory_monitor import read_memory
from mlx_finetuning.utils.units_ja import size

DEFAULTS = (
    "memory_limit_gb",
    "processes",
    "batch_size",
    "max_length",
    "checkpoint_minutes",
    "seed",
)


def draw_defaults() -> None:
    """The user's own defaults for new runs."""
    memory = read_memory()
    st.caption(
        f"新しい学習の初期値です。このマシンのメモリーは {size(memory.total)}、空きは {size(memory.available)} です。"
    )
    values = as_dict(studio().preferences.read())
    with st.form("defaults", border=True):
        chosen = settings_form(TrainConfig, DEFAULTS, values, "default", columns=3)
        asked = st.form_submit_button("初期値を保存", icon=":material/save:")
        if asked and are_in_bounds(TrainConfig, chosen):
            studio().preferences.save(chosen)
            st.toast("初期値を保存しました。", icon=":material/check:")


ASK = """<button id="ask-notices" style="font: inherit; padding: .4rem .8rem; cursor: pointer">
ブラウザーの通知を許可する</button> <span id="notices-state" role="status"></span>
<script>
(() => {
  const state = document.getElementById("notices-state");
  const words = {granted: "許可されています。", denied: "ブラウザーの設定で禁止されています。", default: ""};
  const show = () => { state.textContent = window.Notification
    ? words[Notification.permission] : "このブラウザーでは使えません。"; };
  document.getElementById("ask-notices").onclick = () =>
    window.Notification && Notification.requestPermission().then(show);
  show();
})();
</script>"""


def draw_notices() -> None:
    """Whether ends are told outside of these pages, and the browser's leave to do so."""
    wanted = studio().preferences.notifies()
    chosen = st.toggle("学習などが終わったら、通知で知らせる", wanted, key="notices")
    if chosen != wanted:
        studio().preferences.save_notifies(chosen)
    if studio().machine.can_notify():
        st.caption("このマシンの通知で知らせます。この画面を閉じていても届きます。")
    else:
        st.caption(
            "このマシンには通知の仕組みがないので、開いている画面のブラウザーだけが知らせます。"
        )
    if chosen:
        st.html(ASK, unsafe_allow_javascript=True)


def draw_disk() -> None:
    """What takes how much, and what of it can go."""
    usage = studio().machine.disk_usage()
    total = sum(part.size for part in usage)
    st.metric("使っている容量", size(total), border=True, width=260)
    with st.expander("場所ごとの容量", icon=":material/folder:"):
        show_table(
            [
                {"場所": part.name, "容量": size(part.size), "フォルダ": str(part.path)}
                for part in usage
            ]
        )
    waste = studio().machine.waste()
    if not waste:
        st.success("片付けるものはありません。", icon=":material/check_circle:")
    for kind in waste:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container():
                st.markdown(f"**{kind.name}**　{len(kind.paths):,} 個、{size(kind.size)}")
                st.caption(kind.explanation)
            with st.popover("片付ける", icon=":material/delete_sweep:"):
                st.markdown(f"{size(kind.size)} を削除します。元に戻せません。")
                if st.button("削除する", key=f"clean-{kind.key}", type="primary"):
                    freed = studio().machine.clean(kind.key)
                    st.toast(f"{size(freed)} を片付けました。", icon=":material/check:")
                    st.rerun()


st.title("設定")
st.header("終わりの通知")
with errors_shown():
    draw_notices()
st.header("保存先")
st.markdown(f"作業フォルダ　{plain(str(studio().workspace.root))}")
st.caption("変えるには、環境変数 MLX_FINETUNING_HOME で場所を指定して起動し直してください。")
st.header("使用量と片付け")
with errors_shown():
    draw_disk()
st.header("学習の初期値")
with errors_shown():
    draw_defaults()
st.header("Hugging Face のトークン")
if os.environ.get("HF_TOKEN", "").strip():
    st.markdown("`HF_TOKEN`　設定されています（`••••••••`）。値は表示も保存もしません。")
else:
    st.markdown("`HF_TOKEN`　設定されていません。公開モデルと内蔵モデルには不要です。")
st.caption(
    "承認の必要なモデルを使うときは、起動する前にターミナルで環境変数 HF_TOKEN を設定してください。"
)
st.header("診断情報")
with errors_shown():
    st.caption(
        "困ったときに、そのまま貼り付けて相談できます。トークンなどの秘密は含まず、ホームフォルダの名前も伏せます。"
    )
    if st.button("診断情報を作る", icon=":material/troubleshoot:"):
        with st.spinner("調べています（2秒ほど）…"):
            st.code(studio().machine.diagnostics(), language=None, wrap_lines=True, height=360)
