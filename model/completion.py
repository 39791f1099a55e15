"""What is done to a heatmap as a whole, once its tiles are blended."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.edges import follow_edges
from model.presets.spec import EdgeSpec, RegionSpec
from model.weak_regions import demote_weak_regions, strengths


def complete(heatmap: NDArray[np.float32], pixels: NDArray[np.uint8], edges: EdgeSpec, regions: RegionSpec) -> None:
    """Draw a heatmap along the edges of its picture, and demote the regions that the network found weak; in place.

    Args:
        heatmap: H×W, probability that a pixel is forged.
        pixels: H×W×3.
        edges, regions: of the preset.

    Raises:
        ValueError: heatmap and picture do not fit.
    """
    found = strengths(heatmap)
    follow_edges(heatmap, pixels, edges)
    demote_weak_regions(heatmap, regions, found)
