"""The network as one ONNX graph, and the libraries that run it on a CPU in the place of torch.

The graph is traced by torch's exporter at a size at which the windows of the attention are padded, so that the padding
is part of it: then height and width are free. Whether it computes what torch does is measured, each time one is made.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.branches import noise_shape
from model.checkpoint import CONFIG_FILE, EXPORTED_FORMAT, FLOAT32, GRAPH_FILE, INT8, Checkpoint, CheckpointError
from model.clue import CLUE, build
from model.device import ran_out_of_memory
from model.errors import ClueError, UserError
from model.preset import Preset
from model.whole_file import whole_folder

Runtime = Literal["onnx", "openvino"]
Arrays = dict[str, NDArray[np.float32]]
Run = Callable[[Arrays], NDArray[np.float32]]
"""The inputs of a graph by name → logits, B×1×H×W."""

MODULES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
INPUTS = ("image", "noise", "matches")
"""As `CLUE.forward` takes them; a network without maps of self-similarity has no `matches`."""
OPSET = 18
LARGEST = 2_000_000_000
"""Bytes of weights: protobuf, and so a graph in one file, ends at 2 GiB."""
TOLERANCE = 1e-3
"""Largest difference of logits in float32; `mini` has 6e-5."""
PROBES = ((1, 2), (8, 4), (5, 9))
"""Sizes at which a graph is compared with torch, in multiples of a tile's: the smallest, whole windows, padded ones."""
SHAPES = 8
"""Most tile shapes for which OpenVINO keeps a compiled network; each has its own copy of the weights."""
KEPT = 2_000_000_000
"""Bytes of weights in all of these together, unless one alone has more."""
_FIRST = b"\x08"
"""Of a graph: its field 1, which all exporters write first. Both libraries read other formats than ONNX, too."""
_OUTSIDE = re.compile(rb"[\x08\x00]location")
"""The length of a key, however it is written, and the key without which no tensor of a graph lies in another file."""


class ExportError(UserError):
    """A network that cannot be exported, or a graph that cannot be run."""


def export(model: CLUE) -> bytes:
    """The network as an ONNX graph in float32: inputs `INPUTS` for one tile of any height and width, output `logits`.

    Args:
        model: in evaluation mode, in float32, on the CPU.

    Raises:
        ExportError: its weights do not fit into one graph.
    """
    _check_size(model)
    spec = model.preset.tile
    inputs = _example(model, spec.size - 3 * spec.multiple, spec.size - spec.multiple)
    axes = {name: {2: f"{name}_height", 3: f"{name}_width"} for name in (*inputs, "logits")}
    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of each size that it takes for a constant; see `difference`
        torch.onnx.export(
            model,
            tuple(torch.from_numpy(array) for array in inputs.values()),
            cast(Any, stream),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            # The other exporter took 91 s of processor time for `mini`, not 3, and fixes the number of windows.
            dynamo=False,
        )
    return stream.getvalue()


def _check_size(model: CLUE) -> None:
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size > LARGEST:
        raise ExportError(
            f"{model.preset.name} has {size / 1e9:.1f} GB of weights in float32, and an ONNX graph holds 2 GB.",
            "Run it with torch.",
        )


def _load(checkpoint: Checkpoint) -> CLUE:
    """The network in float32, which is not loaded if it cannot be exported."""
    from model.storage import load

    _check_size(build(checkpoint.preset, "meta", checkpoint.branches))
    return load(checkpoint, "cpu", torch.float32)


def difference(model: CLUE, run: Run, probes: Sequence[tuple[int, int]] = PROBES) -> float:
    """Largest difference between the logits of a graph and of the network in torch, over some sizes of tile."""
    unit = model.preset.tile.multiple
    worst = 0.0
    for rows, columns in probes:
        inputs = _example(model, rows * unit, columns * unit)
        with torch.inference_mode():
            expected = model(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        worst = max(worst, float(np.abs(run(inputs) - expected).max()))
    return worst


def checked(model: CLUE, run: Run, probes: Sequence[tuple[int, int]] = PROBES) -> float:
    """`difference`, where it is small enough.

    Raises:
        ClueError: it is not.
    """
    worst = difference(model, run, probes)
    if not worst <= TOLERANCE:  # NaN is neither
        raise ClueError(
            f"The exported graph of {model.preset.name} computes something else than torch: logits differ by up to "
            f"{worst:.2g}.",
            "Run it with torch, and report this with the versions of torch and of the other library.",
        )
    return worst


def _example(model: CLUE, height: int, width: int) -> Arrays:
    """Pixels and maps at random, the same every time."""
    rng = np.random.default_rng(height * 10_000 + width)
    inputs = {
        "image": rng.integers(0, 256, (1, 3, height, width)).astype(np.float32) / np.float32(255),
        "noise": rng.standard_normal((1, *model.latent_shape(height, width)), np.float32),
    }
    if model.view is not None and model.view.matches:
        inputs["matches"] = rng.random((1, model.view.matches, height // 8, width // 8), np.float32)
    return inputs


class GraphNetwork(nn.Module):
    """In the place of a `CLUE` in a `Predictor`, on the CPU: the same inputs, the same logits to about 1e-4.

    Args:
        preset: of the network.
        run: computes its graph.
    """

    def __init__(self, preset: Preset, run: Run) -> None:
        super().__init__()
        self.preset, self._run = preset, run

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """As of `CLUE`."""
        return noise_shape(self.preset, height, width)

    def forward(self, x: Tensor, noise: Tensor, matches: Tensor | None = None) -> Tensor:
        """As of `CLUE`, without prompts.

        Raises:
            ExportError: the graph cannot be computed, or gives something else than logits.
            MemoryError: it does not fit.
        """
        given = (x, noise) if matches is None else (x, noise, matches)
        arrays = {name: np.ascontiguousarray(one.numpy()) for name, one in zip(INPUTS, given, strict=False)}
        logits = self._run(arrays)
        shape = (len(x), 1, *x.shape[2:])
        if logits.shape != shape or logits.dtype != np.float32:
            found = f"{logits.dtype} of shape {logits.shape}"
            raise ExportError(f"The graph of {self.preset.name} gives {found}; float32 of shape {shape} is expected.")
        if np.isnan(logits).any():
            raise ExportError(f"The graph of {self.preset.name} gives logits that are no numbers (NaN).")
        return torch.from_numpy(logits)


def open_graph(graph: bytes, runtime: Runtime, threads: int) -> Run:
    """What computes a graph; several threads may call it at a time.

    Args:
        graph: as `export` makes it, or quantized.
        runtime: the library.
        threads: cores for all calls together.

    Raises:
        ExportError: the library is missing, or cannot read the graph; what is returned: or cannot compute it.
        MemoryError: by what is returned.
    """
    if not graph.startswith(_FIRST):
        raise ExportError(f"{MODULES[runtime]} cannot read the graph of the network: it is not in the ONNX format.")
    if _OUTSIDE.search(graph):  # OpenVINO would read files of the current folder, which no digest covers
        raise ExportError("The graph of the network has weights outside of its own file, which are not read.")
    try:
        run: Run = _OnnxRuntime(graph) if runtime == "onnx" else _OpenVino(graph, threads)
    except (MemoryError, ExportError):
        raise
    except ImportError as error:
        raise ExportError(
            f"{MODULES[runtime]} is missing, which the extra `{runtime}` brings.",
            f"pip install 'clue-forensics[{runtime}]'",
        ) from error
    except Exception as error:  # both raise classes of their own below it
        raise ExportError(f"{MODULES[runtime]} cannot read the graph of the network: {_reason(error)}") from error

    def guarded(inputs: Arrays) -> NDArray[np.float32]:
        try:
            return run(inputs)
        except ExportError:
            raise
        except Exception as error:
            if ran_out_of_memory(error) or "bad_alloc" in str(error):
                raise MemoryError(_reason(error)) from error
            raise ExportError(f"{MODULES[runtime]} cannot compute the network: {_reason(error)}") from error

    return guarded


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]


class _OnnxRuntime:
    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a predictor's threads have a core each
        options.log_severity_level = 4  # what fails is raised as well
        options.add_session_config_entry("session.load_model_format", "ONNX")
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.wanted = _wanted(one.name for one in self.session.get_inputs())

    def __call__(self, inputs: Arrays) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.session.run(None, _given(self.wanted, inputs))[0]
        return logits


class _OpenVino:
    """Compiled for each shape of tile: that takes 1.4 s, and with free sizes a tile takes a quarter longer."""

    def __init__(self, graph: bytes, threads: int) -> None:
        openvino = _openvino()
        self.core = openvino.Core()
        self.model = self.core.read_model(graph)
        self.wanted = _wanted(one.get_any_name() for one in self.model.inputs)
        self.settings = {
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 would round the early view: heatmaps differ by up to 1
        }
        self.shapes = max(1, min(SHAPES, KEPT // len(graph)))
        self.compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.lock = threading.Lock()

    def __call__(self, inputs: Arrays) -> NDArray[np.float32]:
        given = _given(self.wanted, inputs)
        shape = given["image"].shape
        with self.lock:
            if (compiled := self.compiled.pop(shape, None)) is None:
                model = self.model.clone()
                model.reshape({name: list(array.shape) for name, array in given.items()})
                compiled = self.core.compile_model(model, "CPU", self.settings)
                if len(self.compiled) >= self.shapes:
                    self.compiled.popitem(last=False)
            self.compiled[shape] = compiled
        logits: NDArray[np.float32] = compiled.create_infer_request().infer(given)[0].copy()
        return logits


def _wanted(names: Iterable[str]) -> list[str]:
    wanted = list(names)
    if unknown := [name for name in wanted if name not in INPUTS]:
        raise ExportError(f"The graph has an input {unknown[0][:80]!r}; those of clue are {', '.join(INPUTS)}.")
    return wanted


def _given(wanted: Iterable[str], inputs: Arrays) -> Arrays:
    given = {name: inputs[name] for name in wanted if name in inputs}
    if missing := [name for name in wanted if name not in given]:
        raise ExportError(f"The graph has an input {missing[0]}, which its preset does not have.")
    return given


def _openvino() -> Any:
    """The library without its telemetry: importing it as it comes reports to Google Analytics, unless opted out."""
    if "openvino" not in sys.modules:
        for name in ("openvino_telemetry", "openvino.tools.ovc"):  # the second reports, and converts models
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def load_graph(checkpoint: Checkpoint, runtime: Runtime, threads: int) -> GraphNetwork:
    """A model, ready to run: exported now and compared with torch, or the graph in its folder.

    Args:
        checkpoint: of the model.
        runtime, threads: as of `open_graph`.

    Raises:
        CheckpointError: its files are damaged.
        ExportError: it cannot be exported, or its graph cannot be read.
    """
    preset = checkpoint.preset
    if checkpoint.exported:
        path = checkpoint.folder / GRAPH_FILE
        try:
            if (size := path.stat().st_size) >= 2**31:
                raise CheckpointError(f"{path} has {size / 1e9:.1f} GB, and an ONNX graph ends at 2 GiB")
            graph = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        return GraphNetwork(preset, open_graph(graph, runtime, threads))
    model = _load(checkpoint)
    graph = export(model)
    run = open_graph(graph, runtime, threads)
    # OpenVINO compiles for each shape: there one is enough, the one with the padding
    checked(model, run, PROBES if runtime == "onnx" else PROBES[-1:])
    return GraphNetwork(preset, run)


def write_exported(
    folder: Path, checkpoint: Checkpoint, *, version: str, quantize: Callable[[CLUE, bytes], bytes] | None = None
) -> dict[str, Any]:
    """Export a model into a new folder: `network.onnx`, and the `model.json` with which it is a model of its own.

    Args:
        folder: to write; it must not exist.
        checkpoint: of the model.
        version: of clue.
        quantize: makes a graph in int8 of the one in float32; None: it stays as it is.

    Returns:
        What `model.json` says of it under `exported`; the largest difference of logits from torch is that of float32.

    Raises:
        FileExistsError: the folder exists.
        CheckpointError, ExportError: as `load_graph`.
        OSError: it cannot be written.
    """
    import onnx

    if os.path.lexists(folder):
        raise FileExistsError(folder)
    if checkpoint.exported:
        raise ExportError(f"{checkpoint.folder} is exported already.", "Name the model it was exported from.")
    model = _load(checkpoint)
    graph = export(model)
    facts: dict[str, Any] = {
        "model": checkpoint.name,
        "digest": checkpoint.digest,
        "preset": checkpoint.preset.name,
        "version": version,
        "torch": torch.__version__,
        "numbers": FLOAT32 if quantize is None else INT8,
        "max_difference": checked(model, open_graph(graph, "onnx", torch.get_num_threads())),
    }
    if quantize is not None:
        graph = quantize(model, graph)
    described = onnx.load_model_from_string(graph)
    onnx.helper.set_model_props(described, {f"clue.{name}": str(value) for name, value in facts.items()})
    config = json.loads((checkpoint.folder / CONFIG_FILE).read_text("utf-8"))
    config = {key: value for key, value in config.items() if key not in ("base", "bases")}
    with whole_folder(folder) as place:
        (place / GRAPH_FILE).write_bytes(described.SerializeToString())
        text = json.dumps(config | {"format": EXPORTED_FORMAT, "exported": facts}, indent=1, ensure_ascii=False)
        (place / CONFIG_FILE).write_text(text + "\n", "utf-8")
    return facts
