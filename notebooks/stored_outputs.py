"""What a stored notebook keeps of its outputs: no folders or times of a machine."""

import re
import sys
from pathlib import Path

from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
# What one machine measured once, and what is kept in its place.
MEASURED = (
    (r"[\d,.]+ images/s, \d+% waiting for data(, ETA [\d:]+)?", "..."),
    (r"goodput \d+% of .*", "goodput ..."),
    (r" \[\d[\d:]+<[^\]]*\]", ""),  # of a progress bar
    (r"([:;] |in +)\d+ s\b", r"\1... s"),
    (r"about [\d.,]+ (s|min|h)\b", r"about ... \1"),
    (r"[\d,]+ records/s, [\d,]+ MB/s", "..."),
    (r"\d+ usable, data", "data"),
    (r"(ok +(?:shared memory|memory|disk|compile cache) +).*", r"\1..."),
)


def clean_outputs(notebook: NotebookNode, folder: str) -> None:
    """Removes what differs between two executions of the same code.

    Args:
      notebook: changed in place.
      folder: in which it was executed; paths in it become relative.
    """
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_clean(each, folder) for each in _joined(cell.outputs)]


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Joins the pieces of a stream, as a screen does."""
    joined: list[NotebookNode] = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _clean(output: NotebookNode, folder: str) -> NotebookNode:
    output.get("metadata", {}).clear()
    output.pop("transient", None)
    if output.output_type == "stream":
        output.text = clean_text(output.text, folder)
    data = output.get("data", {})
    images = sorted((k for k in data if k[:6] == "image/"), key=lambda k: len(data[k]))
    for kind in images[1:]:  # the same picture in a larger file
        del data[kind]
    for kind, content in data.items():
        if kind.startswith("text/"):
            data[kind] = clean_text(content, folder)
    return output


def clean_text(text: str, folder: str) -> str:
    """Returns what the screen shows at the end, without facts of the machine.

    Args:
      text: of an output; a carriage return begins its line anew.
      folder: in which the notebook was executed.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    programs = Path(sys.executable).parent
    for place in map(str, (folder, programs, programs.resolve(), ROOT)):
        text = text.replace(f"{place}/", "").replace(place, ".")
    for pattern, kept in MEASURED:
        text = re.sub(pattern, kept, text)
    return text
