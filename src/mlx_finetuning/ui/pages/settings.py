"""設定: the language, defaults for new runs, disk use and cleaning, keys, versions, diagnostics to copy."""

from __future__ import annotations

import functools

import streamlit as st

from mlx_finetuning import language
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.language import LANGUAGES, _
from mlx_finetuning.ui import server
from mlx_finetuning.ui.components.form import are_in_bounds, settings_form
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.host_guard import is_loopback
from mlx_finetuning.utils.memory_monitor import read_memory
from mlx_finetuning.utils.units import size

DEFAULTS = (
    "memory_limit_gb",
    "processes",
    "batch_size",
    "max_length",
    "checkpoint_minutes",
    "seed",
)


def draw_language() -> None:
    """The language of all that is shown, here and in the terminal."""
    is_decided = language.decided() is not None
    chosen = st.selectbox(
        _("言語 / Language"),
        list(LANGUAGES),
        index=list(LANGUAGES).index(language.language()),
        format_func=lambda code: LANGUAGES[code],
        key="language",
        disabled=is_decided,
        width=260,
    )
    if is_decided:
        st.caption(
            _(
                "環境変数 {variable} で決まっています。ここで選ぶには、それを外して起動し直してください。"
            ).format(variable=language.VARIABLE)
        )
    elif chosen != language.language():
        studio().preferences.save_language(chosen)
        st.cache_data.clear()  # findings and verdicts are kept in words
        # The page says its language to the browser only where it is loaded.
        st.html("<script>location.reload()</script>", unsafe_allow_javascript=True)
        st.stop()


def draw_defaults() -> None:
    """The user's own defaults for new runs."""
    memory = read_memory()
    st.caption(
        _(
            "新しい学習の初期値です。このマシンのメモリーは {total}、空きは {available} です。"
        ).format(total=size(memory.total), available=size(memory.available))
    )
    values = as_dict(studio().preferences.read())
    with st.form("defaults", border=True):
        chosen = settings_form(TrainConfig, DEFAULTS, values, "default", columns=3)
        asked = st.form_submit_button(_("初期値を保存"), icon=":material/save:")
        if asked and are_in_bounds(TrainConfig, chosen):
            studio().preferences.save(chosen)
            st.toast(_("初期値を保存しました。"), icon=":material/check:")


ASK = """<button id="ask-notices" style="font: inherit; padding: .4rem .8rem; cursor: pointer">
ALLOW</button> <span id="notices-state" role="status"></span>
<script>
(() => {
  const state = document.getElementById("notices-state");
  const words = {granted: "GRANTED", denied: "DENIED", default: ""};
  const show = () => { state.textContent = window.Notification
    ? words[Notification.permission] : "UNABLE"; };
  document.getElementById("ask-notices").onclick = () =>
    window.Notification && Notification.requestPermission().then(show);
  show();
})();
</script>"""


def draw_notices() -> None:
    """Whether ends are told outside of these pages, and the browser's leave to do so."""
    wanted = studio().preferences.notifies()
    chosen = st.toggle(_("学習などが終わったら、通知で知らせる"), wanted, key="notices")
    if chosen != wanted:
        studio().preferences.save_notifies(chosen)
    if studio().machine.can_notify():
        st.caption(_("このマシンの通知で知らせます。この画面を閉じていても届きます。"))
    else:
        st.caption(
            _("このマシンには通知の仕組みがないので、開いている画面のブラウザーだけが知らせます。")
        )
    if chosen:
        words = {
            "ALLOW": _("ブラウザーの通知を許可する"),
            "GRANTED": _("許可されています。"),
            "DENIED": _("ブラウザーの設定で禁止されています。"),
            "UNABLE": _("このブラウザーでは使えません。"),
        }
        script = functools.reduce(lambda text, word: text.replace(*word), words.items(), ASK)
        st.html(script, unsafe_allow_javascript=True)


def draw_disk() -> None:
    """What takes how much, and what of it can go."""
    usage = studio().machine.disk_usage()
    total = sum(part.size for part in usage)
    st.metric(_("使っている容量"), size(total), border=True, width=260)
    with st.expander(_("場所ごとの容量"), icon=":material/folder:"):
        show_table(
            [
                {_("場所"): part.name, _("容量"): size(part.size), _("フォルダ"): str(part.path)}
                for part in usage
            ]
        )
    waste = studio().machine.waste()
    if not waste:
        st.success(_("片付けるものはありません。"), icon=":material/check_circle:")
    for kind in waste:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container():
                st.markdown(
                    _("**{name}**　{paths_count:,} 個、{size}").format(
                        name=kind.name, paths_count=len(kind.paths), size=size(kind.size)
                    )
                )
                st.caption(kind.explanation)
            with st.popover(_("片付ける"), icon=":material/delete_sweep:"):
                st.markdown(_("{size} を削除します。元に戻せません。").format(size=size(kind.size)))
                if st.button(_("削除する"), key=f"clean-{kind.key}", type="primary"):
                    freed = studio().machine.clean(kind.key)
                    st.toast(
                        _("{freed} を片付けました。").format(freed=size(freed)),
                        icon=":material/check:",
                    )
                    st.rerun()


def draw_token() -> None:
    """Whether models that need leave can be fetched, and the way to hand a token in for this session."""
    app, is_asked = studio(), False
    st.caption(
        _("配布元の承認が必要なモデルのダウンロードと、Hugging Face へ送るときだけ使います。")
    )
    # Whoever can open the page would read what is typed on its way here.
    if is_loopback(server.bound_address()):
        with st.form("hub-token", border=True, clear_on_submit=True):
            typed = st.text_input(
                _("トークン（アクセスキー）"),
                type="password",
                placeholder="hf_…",
                help=_("ファイルには保存しません。起動し直すと、もう一度入力が必要です。"),
                autocomplete="off",
            )
            is_asked = st.form_submit_button(_("このトークンを使う"), icon=":material/key:")
        if is_asked and typed.strip():
            app.models.use_token(typed)
    if app.models.has_token():
        st.success(_("設定されています。値は表示も保存もしません。"), icon=":material/key:")
    else:
        st.caption(_("設定されていません。公開モデルと内蔵モデルには不要です。"))


def draw_folder() -> None:
    """Where everything is kept, and how to have it elsewhere."""
    st.markdown(plain(str(studio().workspace.root)))
    with st.expander(_("場所を変えるには"), icon=":material/drive_file_move:"):
        st.markdown(
            _(
                "この画面を終わらせ、置きたい場所を環境変数 `{variable}` で指定して、起動し直してください。今のフォルダは、そのまま残ります。"
            ).format(variable="MLX_FINETUNING_HOME")
        )


st.title(_("設定", "page"))
with errors_shown():
    draw_language()
st.header(_("終わりの通知"))
with errors_shown():
    draw_notices()
st.header(_("作業フォルダ"))
with errors_shown():
    draw_folder()
st.header(_("使用量と片付け"))
with errors_shown():
    draw_disk()
st.header(_("学習の初期値"))
with errors_shown():
    draw_defaults()
st.header(_("Hugging Face のトークン"))
with errors_shown():
    draw_token()
st.header(_("診断情報"))
with errors_shown():
    st.caption(
        _(
            "困ったときに、そのまま貼り付けて相談できます。トークンなどの秘密は含まず、ホームフォルダの名前も伏せます。"
        )
    )
    if st.button(_("診断情報を作る"), icon=":material/troubleshoot:"):
        with st.spinner(_("調べています（2秒ほど）…")):
            st.code(studio().machine.diagnostics(), language=None, wrap_lines=True, height=360)
