"""An exported network computes what torch does, at sizes it was not traced at; in int8 about that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import runtimes
from model.checkpoint import CheckpointError, inspect
from model.clue import CLUE
from model.errors import ClueError
from model.predictor import Prediction, Predictor
from model.runtimes import ExportError, Runtime, checked, export, load_graph, open_graph, write_exported
from model.storage import load
from tests.tiny_model import write_tiny_model

pytest.importorskip("onnxruntime")


def heatmap(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    (found,) = predictor.predict([("a", pixels)])
    assert isinstance(found, Prediction)
    return found.heatmap


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pixels() -> np.ndarray:
    """Several tiles, padded."""
    return np.random.default_rng(0).integers(0, 256, (150, 215, 3)).astype(np.uint8)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_another_library_marks_the_same(tiny_folder: Path, pixels: np.ndarray, runtime: Runtime) -> None:
    pytest.importorskip(runtimes.MODULES[runtime]) if runtime == "onnx" else runtimes_openvino()
    checkpoint = inspect(str(tiny_folder))
    expected = heatmap(Predictor(load(checkpoint, "cpu", torch.float32)), pixels)
    found = heatmap(Predictor(load_graph(checkpoint, runtime, torch.get_num_threads())), pixels)
    assert expected.std() > 0.001
    np.testing.assert_allclose(found, expected, atol=3e-5)  # OpenVINO rounds otherwise: 1.1e-5 on one processor


def runtimes_openvino() -> None:
    try:
        runtimes._openvino()
    except ImportError:
        pytest.skip("openvino is not installed")


def test_openvino_reports_to_nobody() -> None:
    runtimes_openvino()
    code = (
        "import sys; from model.runtimes import _openvino; _openvino().Core(); "
        "sys.exit(any('telemetry' in name and sys.modules[name] for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


def test_a_graph_that_computes_something_else_is_refused(network: CLUE) -> None:
    run = open_graph(export(network), "onnx", 1)
    assert checked(network, run) < 1e-4
    with pytest.raises(ClueError, match="computes something else than torch"):
        checked(network, lambda inputs: run(inputs) + np.float32(0.01))


def test_what_does_not_fit_into_a_graph_is_refused(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "LARGEST", 1000)
    with pytest.raises(ExportError, match="an ONNX graph holds 2 GB"):
        export(network)


def test_what_does_not_fit_is_not_even_loaded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "LARGEST", 1000)
    monkeypatch.setattr("model.storage.load", lambda *given: pytest.fail("loaded"))
    with pytest.raises(ExportError, match="an ONNX graph holds 2 GB"):
        load_graph(inspect(str(tiny_folder)), "onnx", 1)


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ExportError, match="onnxruntime cannot read the graph"):
        open_graph(b"\x08no graph", "onnx", 1)


def foreign(*operators: str, outside: str = "") -> bytes:
    """A graph of another maker: operators one after the other on the image, at last added to a weight."""
    onnx = pytest.importorskip("onnx")
    numbers = onnx.TensorProto.FLOAT
    weight = onnx.helper.make_tensor("w", numbers, [1], [0.0])
    if outside:
        weight.ClearField("float_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=outside)
    names = ["image", *operators]
    nodes = [onnx.helper.make_node(kind, [before], [kind]) for before, kind in zip(names, operators, strict=False)]
    nodes.append(onnx.helper.make_node("Add", [names[-1], "w"], ["logits"]))
    free = [None] * 4
    image, logits = (onnx.helper.make_tensor_value_info(name, numbers, free) for name in ("image", "logits"))
    graph = onnx.helper.make_graph(nodes, "foreign", [image], [logits], [weight])
    opsets = [onnx.helper.make_opsetid("", 18)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_weights_outside_of_the_graph_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    if runtime == "openvino":
        runtimes_openvino()
    (tmp_path / "evidence.jpg").write_bytes(np.float32(1).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="weights outside of its own file"):
        open_graph(foreign(outside="evidence.jpg"), runtime, 1)


@pytest.mark.parametrize(
    ("graph", "message"), [(b"<net></net>", "not in the ONNX format"), (b"\x08no graph", "cannot")]
)
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_another_format_is_no_graph(runtime: Runtime, graph: bytes, message: str) -> None:
    if runtime == "openvino":
        runtimes_openvino()
    with pytest.raises(ExportError, match=message):
        open_graph(graph, runtime, 1)


def test_an_operator_that_nobody_knows(pixels: np.ndarray) -> None:
    with pytest.raises(ExportError, match="Mine"):
        open_graph(foreign("Mine"), "onnx", 1)


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ((), r"gives float32 of shape \(1, 3, "),
        (("GlobalAveragePool",), r"gives float32 of shape \(1, 3, 1, 1\)"),
    ],
)
def test_a_graph_that_gives_no_logits(
    tiny_folder: Path, pixels: np.ndarray, operators: tuple[str, ...], message: str
) -> None:
    run = open_graph(foreign(*operators), "onnx", 1)
    with pytest.raises(ExportError, match=message):
        heatmap(Predictor(runtimes.GraphNetwork(inspect(str(tiny_folder)).preset, run)), pixels[:, :149])


def test_logits_that_are_no_numbers(tiny_folder: Path, pixels: np.ndarray) -> None:
    def run(inputs: runtimes.Arrays) -> np.ndarray:
        return np.full((1, 1, *inputs["image"].shape[2:]), np.nan, np.float32)

    with pytest.raises(ExportError, match="NaN"):
        heatmap(Predictor(runtimes.GraphNetwork(inspect(str(tiny_folder)).preset, run)), pixels)


@pytest.mark.parametrize(
    ("message", "kind"),
    [("Failed to allocate memory for requested buffer of size 8", MemoryError), ("Non-zero status", ExportError)],
)
def test_what_another_library_raises(monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]) -> None:
    def fail(self: object, inputs: object) -> None:
        raise Exception(message)

    monkeypatch.setattr(runtimes._OnnxRuntime, "__call__", fail)
    with pytest.raises(kind, match=message):
        open_graph(foreign(), "onnx", 1)({})


@pytest.mark.parametrize("exported", [{}, [], {"digest": "ab"}, {"digest": "ab", "numbers": "int4"}])
def test_what_an_exported_model_must_say(tiny_folder: Path, tmp_path: Path, exported: object) -> None:
    """Without it, weights beside the graph would be loaded, which its digest does not cover."""
    folder = shutil.copytree(tiny_folder, tmp_path / "lies")
    (folder / "network.onnx").write_bytes(b"")
    config = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(config | {"format": 3, "exported": exported}))
    with pytest.raises(CheckpointError, match=r"exported is|numbers is"):
        inspect(str(folder))


def test_int8_is_in_the_name(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    write_exported(tmp_path / "small", inspect(str(tiny_folder)), version="1", quantize=lambda model, graph: graph)
    assert inspect(str(tmp_path / "small")).name == "small (int8)"


def test_an_exported_model_has_a_digest_of_its_own(tiny_folder: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    onnx = pytest.importorskip("onnx")
    source = inspect(str(tiny_folder))
    facts = write_exported(tmp_path / "out", source, version="1.2.3")
    made = inspect(str(tmp_path / "out"))
    assert made.exported == facts
    assert (facts["digest"], facts["version"], facts["numbers"]) == (source.digest, "1.2.3", "float32")
    assert made.digest != source.digest
    assert (made.preset, made.calibration) == (source.preset, source.calibration)
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "network.onnx").metadata_props}
    assert (properties["clue.digest"], properties["clue.preset"]) == (source.digest, "tiny")
    with pytest.raises(CheckpointError, match="which torch does not run"):
        load(made, "cpu", torch.float32)
    with pytest.raises(FileExistsError):
        write_exported(tmp_path / "out", source, version="1.2.3")
    expected = heatmap(Predictor(load(source, "cpu", torch.float32)), pixels)
    np.testing.assert_allclose(heatmap(Predictor(load_graph(made, "onnx", 1)), pixels), expected, atol=1e-5)


def test_int8_leaves_the_early_view_and_the_head_in_float(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx = pytest.importorskip("onnx")
    from model.quantization import find_photos, quantized

    smooth = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(smooth).resize((200, 150)).save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"damaged")
    model = load(inspect(str(tiny_folder)), "cpu", torch.float32)
    graph = quantized(model, export(model), find_photos(tmp_path / "photos"))
    assert not caplog.records
    nodes = onnx.load_model_from_string(graph).graph.node
    made = {output: node.op_type for node in nodes for output in node.output}
    kinds = {node.name: made.get(node.input[0]) == "DequantizeLinear" for node in nodes if node.op_type == "Conv"}
    assert any(kinds.values())
    assert not any(quantized for name, quantized in kinds.items() if name.startswith(("/view", "/fusion", "/localiz")))
    assert runtimes.difference(model, open_graph(graph, "onnx", 1)) > 1e-4
