"""What is in a PDF, as another library reads it."""

from __future__ import annotations

from typing import Any


def text_of(pdf: Any) -> str:
    """The text of a PDF in one line."""
    return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


def closed(pdf: Any) -> str:
    """The text without blanks: a long word is broken over lines."""
    return text_of(pdf).replace(" ", "")


def structure(pdf: Any) -> dict[str, int]:
    """How often each kind of tag occurs."""
    found: dict[str, int] = {}
    waiting = [pdf.trailer["/Root"]["/StructTreeRoot"]]
    while waiting:
        node = waiting.pop()
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if "/S" in node:
                found[str(node["/S"])] = found.get(str(node["/S"]), 0) + 1
            if "/K" in node:
                waiting.append(node["/K"])
    return found


def fonts(pdf: Any) -> dict[str, bool]:
    """The fonts of a PDF by name, and whether each is embedded."""
    found = {}
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            (own,) = font.get_object()["/DescendantFonts"]
            descriptor = own.get_object()["/FontDescriptor"]
            found[str(descriptor["/FontName"])] = any(f"/FontFile{kind}" in descriptor for kind in ("", "2", "3"))
    return found
