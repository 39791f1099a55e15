"""Whether a position in words fits the box of a region."""

from __future__ import annotations

import re

from clue_cli.explaining.given import Box


def fits(words: str, box: Box, width: int, height: int) -> bool:
    """Whether a position in words fits a box, by its middle.

    Left, right, top and bottom are halves of the picture; the centre is its middle third or what the box covers; a
    corner is an outer third both ways, an edge an outer third or a border that the box reaches.

    Args:
        words: such as `top left`, `upper-right corner`, `centre`.
        width, height: of the picture, pixels.
    """
    across, down = (box.x + box.width / 2) / width, (box.y + box.height / 2) / height
    in_middle = [1 / 3 <= across <= 2 / 3, 1 / 3 <= down <= 2 / 3]
    said = set(re.findall("[a-z]+", words))
    sides = {
        "left": across < 0.5,
        "right": across > 0.5,
        "top": down < 0.5,
        "upper": down < 0.5,
        "bottom": down > 0.5,
        "lower": down > 0.5,
    }
    if not all(fit for word, fit in sides.items() if word in said):
        return False
    if said & {"centre", "center", "central", "middle"}:
        named_across, named_down = bool(said & {"left", "right"}), bool(said & {"top", "upper", "bottom", "lower"})
        covers = box.x <= width / 2 <= box.x + box.width and box.y <= height / 2 <= box.y + box.height
        if not (covers or ((named_across or in_middle[0]) and (named_down or in_middle[1]))):
            return False
    if "corner" in said and any(in_middle):
        return False
    if said & {"edge", "border", "periphery"}:
        reaches = box.x == 0 or box.y == 0 or box.x + box.width >= width or box.y + box.height >= height
        return reaches or not all(in_middle)
    return True
