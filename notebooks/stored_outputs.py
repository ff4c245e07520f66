"""What a stored notebook keeps of its outputs: no folders or times of a machine."""

import re

from nbformat import NotebookNode

# Of one machine at one time: what is kept in their place.
MACHINE = (
    (re.compile(r"\d[\d,.]* images/s, \d+% waiting for data, ETA [\d:]+"), "..."),
    (re.compile(r"\d+ usable, data"), "data"),
    (re.compile(r"(memory +|disk +)[\d.]+ GiB.*"), r"\1..."),
    (re.compile(r"(shared memory +).*"), r"\1..."),
    (re.compile(r"(compile cache +).*"), r"\1..."),
)


def clean_outputs(notebook: NotebookNode, folder: str) -> None:
    """Removes what differs between two executions of the same code.

    Args:
      notebook: changed in place.
      folder: in which it was executed; its path becomes ".".
    """
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_clean(o, folder) for o in _joined(cell.outputs)]


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
    if output.output_type == "stream":
        output.text = clean_text(output.text, folder)
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = clean_text(content, folder)
    return output


def clean_text(text: str, folder: str) -> str:
    """Returns what the screen shows at the end, without facts of the machine."""
    lines = text.replace("\r\n", "\n").split("\n")
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    text = text.replace(f"{folder}/", "").replace(folder, ".")
    for pattern, replacement in MACHINE:
        text = pattern.sub(replacement, text)
    return text
