"""The page of `symdistill demo`, made with Gradio: it asks nobody for anything, and keeps nothing."""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.demo.cards import CSS, show_cards, summarize, write_table
from distill.demo.examples import write_examples
from distill.demo.reading import MAX_PICTURES, Entry, Readers
from students.errors import UserError
from students.extras import import_extra

MAX_BYTES = 64 * 2**20
"""Largest file that is taken."""
WAITING = 20
"""Visitors' requests that wait while one is worked on; further ones are turned away."""
ALONE = "none"
"""Choice of the second reader."""
FONTS, MONOSPACE = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
"""Fonts that every machine has."""
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""What keeps Gradio, and the library beneath it, from telling anybody about their use; they look when imported."""
INTRODUCTION = f"""# Try a reader
Pictures of one word each, up to {MAX_PICTURES} at once: drop them, choose them, paste them with Ctrl+V or photograph \
them. They stay on the machine that runs this page, until it ends."""
PASTE = """
<script>
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  const input = document.querySelector("#pictures input[type=file]");
  if (files.length === 0 || input === null) return;
  const taken = new DataTransfer();
  files.forEach((file) => taken.items.add(file));
  input.files = taken.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
</script>"""
"""Gives pictures that are pasted anywhere on the page to the field of pictures, which itself knows a button alone."""


def import_gradio() -> Any:
    """Import Gradio, told to keep to itself; raises `UserError` where it isn't installed."""
    os.environ.update(OFFLINE)
    return import_extra("gradio", "the demo page")


def build_page(readers: Readers, examples: Sequence[Path]) -> Any:
    """Build the page.

    Args:
        readers: what it reads with.
        examples: files of pictures to try.

    Returns:
        Gradio's Blocks.
    """
    gradio = import_gradio()
    names = list(readers.opened)

    def read(
        pictures: list[tuple[str, str | None]] | None, first: str, second: str, allow: str
    ) -> tuple[Any, Any, Any]:
        """Read what is in the field of pictures: a line, cards, and the table as a file."""
        files = [Path(path) for path, _ in pictures or ()]
        hidden = gradio.DownloadButton(visible=False)
        if not files:
            return "", "", hidden
        chosen = list(dict.fromkeys(name for name in (first, second) if name != ALONE))
        try:
            entries = readers.read(files, chosen, allow)
        except UserError as error:
            return html.escape(str(error)), "", hidden
        saved = gradio.DownloadButton(value=str(save_table(entries, files[0].parent)), visible=True)
        return summarize(entries, len(files)), show_cards(entries), saved

    with gradio.Blocks(title="symdistill: try a reader", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column(scale=2, min_width=320):
                pictures = gradio.Gallery(
                    label="Pictures", elem_id="pictures", type="filepath", interactive=True, columns=4, height=260,
                    sources=["upload", "webcam", "clipboard"], object_fit="contain", buttons=[],
                )  # fmt: skip
                first = gradio.Dropdown(names, value=names[0], label="Reader")
                second = gradio.Dropdown([ALONE, *names], value=ALONE, label="Beside it")
                allow = gradio.Textbox(
                    label="Allowed characters", placeholder="all; or ranges such as 0-9A-Z", max_lines=1
                )
                drawn = gradio.Examples(
                    [[[str(file)]] for file in examples], [pictures], label="Examples", elem_id="examples",
                    cache_examples=False,
                )  # fmt: skip
            with gradio.Column(scale=3, min_width=440):
                told = gradio.HTML(elem_id="told", padding=False)
                cards = gradio.HTML(elem_id="readings", padding=False)
                table = gradio.DownloadButton("Save as table (CSV)", visible=False, elem_id="table")
        inputs, outputs = [pictures, first, second, allow], [told, cards, table]
        # A gallery that was empty doesn't tell when an example changes it.
        for event in (drawn.load_input_event.then, pictures.change, first.change, second.change, allow.submit):
            event(read, inputs, outputs, show_progress="minimal", api_visibility="private")
    return page


def save_table(entries: Sequence[Entry], folder: Path) -> Path:
    """Write what was read beside the first picture, in the folder of uploads that is emptied."""
    file = folder / "readings.csv"
    file.write_text(write_table(entries), encoding="utf-8", newline="")
    return file


@contextmanager
def serve_page(readers: Readers, host: str, port: int) -> Iterator[str]:
    """Serve the page in threads of its own, and yield its address; what was uploaded is deleted at the end.

    Raises:
        UserError: when the address can't be listened on.
    """
    gradio = import_gradio()
    with tempfile.TemporaryDirectory(prefix="symdistill-demo-") as scratch:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(scratch, "uploads"))
        examples = Path(scratch, "examples")
        examples.mkdir()
        page = build_page(readers, write_examples(examples))
        page.queue(max_size=WAITING, default_concurrency_limit=1)
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, css=CSS,
                head=PASTE, theme=gradio.themes.Default(font=FONTS, font_mono=MONOSPACE), footer_links=[],
                max_file_size=MAX_BYTES, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False,
            )  # fmt: skip
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"can't listen on {host}:{port} ({reason}); give another --port or --host") from None
        try:
            yield address
        finally:
            page.close(verbose=False)
