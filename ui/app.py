"""The page's frame: a Gradio app of empty tabs, which page.js fills and brings to life.

What is live must not wait in Gradio's queue, so nothing here has an event on the server: the tabs'
content is plain HTML from ``page/``, and its scripts speak to the server's public interface.
"""

from pathlib import Path

import gradio as gr

#: Scripts, styles and HTML that a browser may fetch, all below this folder.
FILES = Path(__file__).parent
#: The tabs, in order; ``page/<name in lower case>.html`` is the content of each.
TABS = ("Talk", "Transcribe", "Speak", "Dub", "Models")
#: In the order in which they count. One file with ``@import`` would not do: the frame resolves
#: those from its own address.
STYLES = ("page", "page/basics", "page/fields", "page/talk", "page/tabs", "page/dub", "page/narrow")
_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build() -> gr.Blocks:
    """The frame; mount it with ``theme()`` and ``head()``."""
    blocks = gr.Blocks(title="Voxsight", analytics_enabled=False, fill_width=True)
    with blocks, gr.Tabs():
        for name in TABS:
            with gr.Tab(name, elem_id=f"vs-{name.lower()}"):
                gr.Column(elem_classes="vs-panel")
    return blocks


def theme() -> gr.themes.Base:
    """Fonts of the reader's own system: none is fetched."""
    return gr.themes.Base(font=_SYSTEM, font_mono=_SYSTEM_MONO)


def head(files: str) -> str:
    """What belongs into the page's head; ``files`` is the address of ``FILES``, without a slash."""
    styles = "".join(f'<link rel="stylesheet" href="{files}/{name}.css">' for name in STYLES)
    return f'{styles}<script type="module" src="{files}/page.js"></script>'
