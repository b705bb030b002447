"""Bringing a run's model into Ollama, and what was proven when it was done."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning import config
from mlx_finetuning.config import DeployConfig, as_dict
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.form import settings_form
from mlx_finetuning.ui.components.jobs import draw_latest
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio

SETTINGS = ("quant", "context", "temperature")


def draw_registration(run_id: str) -> None:
    """The form that registers a run's model, and below it what was registered."""
    at_work = draw_latest(run_id, ("deploy",))
    with st.form("register"):
        name = st.text_input(
            _("Ollamaでの名前"),
            key="register-name",
            placeholder=_("空なら、モデルと実験の名前から付けます"),
            help=_("英数字、-、_、. が使えます。例: my-faq"),
        )
        system = st.text_area(
            _("システム文"),
            key="register-system",
            height=80,
            placeholder=_("空なら、学習データで共通に使ったもの"),
        )
        defaults = as_dict(DeployConfig())
        # An adapter alone goes over a model that Ollama has.
        is_of_ollama = studio().runs.show(run_id).model.startswith("ollama:")
        names = (*SETTINGS, "form") if is_of_ollama else SETTINGS
        chosen = settings_form(DeployConfig, names, defaults, "register", columns=3)
        replace = st.toggle(_("同じ名前のモデルを置き換える"), key="register-replace")
        st.caption(
            _(
                "会話の形（テンプレート）と停止文字列は学習したモデルから取り、登録するときに、"
                "学習のときと同じ文面になるか、答えが自分で終わるかを確かめます。違えば登録しません。"
            )
        )
        if st.form_submit_button(
            _("登録する"),
            type="primary",
            icon=":material/add_link:",
            disabled=at_work,
        ):
            settings = config.load(DeployConfig, {**defaults, **chosen, "system": system.strip()})
            studio().ollama.deploy(run_id, name.strip(), settings, replace=replace)
            st.rerun()
    for deployed in studio().ollama.deployments(run_id):
        with st.container(border=True):
            st.markdown(f"**{plain(deployed.name)}**　{plain(deployed.host)}")
            st.success(plain(deployed.verdict), icon=":material/verified:")
            stops = "　".join(f"`{stop}`" for stop in deployed.stops)
            st.markdown(_("停止文字列: {stops}").format(stops=stops))
            if deployed.system:
                st.markdown(_("システム文: {system}").format(system=plain(deployed.system)))
            st.code(f"ollama run {deployed.name}", language=None)
