"""A graph in 8-bit integers, by static post-training quantization with ONNX Runtime, calibrated on photos.

Convolutions and products with weights are quantized, weights for each channel, what goes in for each tensor by the
range that the photos have. The early view, in which half a grey level counts, fusion and head stay in float32, and so
do products of two activations, norms and softmax.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.clue import CLUE
from model.errors import UserError
from model.images.folders import find_pictures
from model.images.pixels import DamagedFileError, read_pixels
from model.predictor import Predictor
from model.runtimes import Arrays, GraphNetwork

FLOAT = ("/view/", "/fusion/", "/localization/")
"""Beginnings of the names of nodes that are not quantized: modules of `CLUE`."""
OPERATORS = ["Conv", "MatMul"]
MOST_PHOTOS = 64
TILES = 2
"""Tiles of each photo that count."""


def quantized(model: CLUE, graph: bytes, photos: Sequence[Path]) -> bytes:
    """The graph in 8-bit integers.

    Args:
        model: whose graph it is.
        graph: as `model.runtimes.export` makes it.
        photos: untouched ones, as cameras write them, of the kind that the network will see; `MOST_PHOTOS` of them are
            used, evenly over the list.

    Raises:
        UserError: none of the photos can be read.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    tiles = list(_tiles(model, photos[:: max(1, -(-len(photos) // MOST_PHOTOS))]))
    if not tiles:
        raise UserError("None of the photos could be read.", "Name a folder of photographs with --photos.")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(tiles)

        def get_next(self) -> Arrays | None:
            return next(self.rest, None)

    names = [node.name for node in onnx.load_model_from_string(graph).graph.node]
    with tempfile.TemporaryDirectory(prefix="clue-") as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph)
        logging.disable(logging.WARNING)  # advice on its own tools
        try:
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[name for name in names if name.startswith(FLOAT)],
                extra_options={"MatMulConstBOnly": True},
            )
        finally:
            logging.disable(logging.NOTSET)
        return target.read_bytes()


def find_photos(folder: Path) -> list[Path]:
    """The pictures below a folder.

    Raises:
        UserError: there are none.
    """
    problems: list[str] = []
    found = find_pictures(folder, problems)
    if not found:
        raise UserError(f"There is no picture in {folder}.", "Name a folder of photographs with --photos.")
    return found


def _tiles(model: CLUE, photos: Iterable[Path]) -> Iterator[Arrays]:
    """What the network is given for the middle of each photo; photos that cannot be read are passed over."""
    seen: list[Arrays] = []

    def run(inputs: Arrays) -> NDArray[np.float32]:
        seen.append({name: array.copy() for name, array in inputs.items()})
        return np.zeros((1, 1, *inputs["image"].shape[2:]), np.float32)

    predictor = Predictor(GraphNetwork(model.preset, run))
    predictor.lanes = 0
    for path in photos:
        try:
            pixels = read_pixels(path)
        except (DamagedFileError, OSError):
            continue
        list(predictor.predict([(None, _middle(pixels, model.preset.tile.size))]))
        yield from seen[:TILES]
        seen.clear()


def _middle(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A square of `size` pixels at most, on the 8×8 grid of a JPEG."""
    top, left = (max(0, (length - size) // 2) // 8 * 8 for length in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
