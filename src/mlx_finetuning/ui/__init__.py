"""The web interface: Streamlit pages over `Studio`. Pages hold layout and wording, no logic.

`entry/app.py` is what Streamlit runs; it lies in a folder of its own because Streamlit treats a
`pages/` folder beside the script as its own kind of navigation.
"""
