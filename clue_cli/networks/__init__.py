"""The network of a run: which model, on which devices, and where images go to be predicted.

They are predicted in this process (`local`), in one process for each device (`processes`), or by the workers of a
cluster (`clue_cli.cluster.network`). Another place is one more module with a class that is a `Network`, and a line in
`networks_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from clue_cli.errors import UsageError, WeightsError
from clue_cli.machine import cores
from clue_cli.terminal import complain, sentence

if TYPE_CHECKING:  # torch takes seconds to import, and the options are needed for --help
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from model.checkpoint import Checkpoint
    from model.predictor import OutOfMemory, Prediction
    from model.synthetic import Method


DEFAULT_METHOD = "traces"
"""The method of the second question where none is named."""


class DType(StrEnum):
    """Number format of the network."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8_e4m3fn"
    INT8 = "int8"


class Engine(StrEnum):
    """Where a run does its work."""

    LOCAL = "local"
    RAY = "ray"


class Compile(StrEnum):
    """How the network is compiled (`model.device.compile_network`)."""

    BLOCKS = "blocks"
    GRAPHS = "graphs"


class Runtime(StrEnum):
    """The library that computes the network; each but torch is an extra of the same name (`model.runtimes`)."""

    TORCH = "torch"
    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def version(self) -> str:
        """Name and version of the library, such as `onnxruntime 1.32.0`: they decide the last bits of a heatmap.

        Raises:
            UsageError: it is not installed.
        """
        module = "onnxruntime" if self is Runtime.ONNX else self.value
        try:
            return f"{module} {metadata.version(module)}"
        except metadata.PackageNotFoundError as error:
            raise UsageError(
                f"--runtime {self.value} needs {module}, which the extra `{self.value}` brings.",
                f"pip install 'clue-forensics[{self.value}]'",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Which model runs where, and how.

    Attributes:
        model: name of a preset with weights in the package, or a path.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        devices: several of them, a process each; empty for the one above.
        dtype: number format; `auto` leaves it to the device.
        compile: how the network is compiled; None: not at all.
        runtime: the library that computes the network.
        batch: tiles in one batch, None for automatic.
        synthetic: the method that judges whether the whole picture was generated, a name or a folder; None: not asked.
        engine: this machine, or workers on a Ray cluster (`clue_cli.cluster`). No result depends on it.
        ray_address: of the cluster, `HOST:PORT` or `auto`; None: a cluster on this machine, for this run alone.
        ray_workers: most workers; None: as many as the cluster has GPUs, or groups of cores.
        ray_cores: cores of each worker.
    """

    model: str = "mini"
    device: str = "auto"
    devices: tuple[str, ...] = ()
    dtype: DType = DType.AUTO
    compile: Compile | None = None
    runtime: Runtime = Runtime.TORCH
    batch: int | None = None
    synthetic: str | None = None
    engine: Engine = Engine.LOCAL
    ray_address: str | None = None
    ray_workers: int | None = None
    ray_cores: int = 1


def find_model(name_or_path: str) -> Checkpoint:
    """What is known of a model before its network is built.

    Raises:
        WeightsError: the model is missing or damaged.
    """
    from model.checkpoint import BaseWeightsError, CheckpointError, inspect

    try:
        return inspect(name_or_path)
    except BaseWeightsError as error:
        command = f"clue models add {error.base} --sd3 DIR --sam FILE"
        advice = f"Put the files back, or register where they are now: {command}"
        raise WeightsError(sentence(error), advice) from error
    except CheckpointError as error:
        raise WeightsError(sentence(error), "Name a model folder with --model, or leave --model out.") from error


def find_method(options: NetworkOptions) -> Method | None:
    """What is known of the method for the second question before its network is built; None: it is not asked.

    Raises:
        WeightsError: the method is missing or damaged.
    """
    from model.synthetic import MethodError, describe

    if options.synthetic is None:
        return None
    try:
        return describe(options.synthetic)
    except MethodError as error:
        raise WeightsError(sentence(error), error.advice) from error


def find_device(device: str, dtype: DType) -> tuple[str, torch.dtype]:
    """Where the network runs, and in which number format.

    Raises:
        UsageError: this machine does not have it.
    """
    from model.device import DeviceError, resolve

    try:
        return resolve(device, dtype.value)
    except DeviceError as error:
        raise UsageError(f"{error}.", "Choose another --device or --dtype, or leave them out.") from error


def find_devices(
    options: NetworkOptions, dtype: DType, warn: Callable[[str], None] = complain
) -> tuple[tuple[str, ...], torch.dtype]:
    """Where the network runs, once or several times, and in which number format; of a cluster its kind of device, once.

    Args:
        warn: called with a sentence about the cluster.

    Raises:
        UsageError: this machine does not have it, or the devices are of different kinds; or --compile needs a compiler;
            or --runtime cannot be combined with the other options.
    """
    if options.compile is not None and dtype is DType.INT8:
        raise UsageError("--compile and --dtype int8 exclude each other.", "Leave one of them out.")
    if options.runtime is not Runtime.TORCH:
        return ("cpu",), _format_for_runtime(options, dtype)
    if options.engine is Engine.RAY:
        from clue_cli.cluster import connect

        chosen = network_alone(options, dtype)
        device, number_format = connect(chosen, warn).find_device(chosen)
        return (device,), _compilable(number_format, options)
    found = [find_device(name, dtype) for name in options.devices or (options.device,)]
    names = tuple(name for name, _ in found)
    if len({name.split(":")[0] for name in names}) > 1:
        raise UsageError(f"--devices names both the CPU and a GPU: {', '.join(names)}.", "Name devices of one kind.")
    twice = [name for name in names if name != "cpu" and names.count(name) > 1]
    if twice:
        raise UsageError(f"--devices names {twice[0]} twice.", "Each GPU has one process; --batch gives it more to do.")
    if options.compile is not None:  # torch would miss a compiler only in the middle of a run
        from model.device import CompilerMissing, require_compiler

        try:
            require_compiler()
        except CompilerMissing as error:
            raise UsageError(sentence(error), "Leave --compile out, or set CXX.") from error
    return names, _compilable(found[0][1], options)


def _compilable(chosen: torch.dtype, options: NetworkOptions) -> torch.dtype:
    """The number format that `auto` has chosen, or the one beside it that can be compiled."""
    from model.float8 import weights_format

    return chosen if options.compile is None or not str(chosen).endswith("int8") else weights_format(chosen)


def _format_for_runtime(options: NetworkOptions, dtype: DType) -> torch.dtype:
    """The number format in which another library than torch computes, on the CPU, in this process."""
    name = f"--runtime {options.runtime.value}"
    _ = options.runtime.version  # that it is installed
    excluded = {
        "--devices": bool(options.devices),
        "--compile": options.compile is not None,
        "--engine ray": options.engine is Engine.RAY,
    }
    if options.device not in ("auto", "cpu"):
        raise UsageError(f"{name} runs on the CPU only, not on {options.device}.", "Leave out --device or --runtime.")
    if first := next((other for other, given in excluded.items() if given), None):
        raise UsageError(f"{name} and {first} exclude each other.", "Leave one of them out.")
    if dtype not in (DType.AUTO, DType.FLOAT32):  # a CPU has no bfloat16 here; OpenVINO would round the early view
        raise UsageError(
            f"{name} computes in float32, or in the format of an exported network, not in {dtype.value}.",
            f"Leave out --dtype, or name a calibration that was made with {name}.",
        )
    return find_device("cpu", DType.FLOAT32)[1]


def network_alone(options: NetworkOptions, dtype: DType) -> NetworkOptions:
    """The options of the network without those of a run, which may be long: they travel to workers, for which the
    engine is `local`."""
    values = {field.name: getattr(options, field.name) for field in fields(NetworkOptions)}
    return NetworkOptions(**(values | {"dtype": dtype, "engine": Engine.LOCAL}))


Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Unpredicted(Generic[Key]):
    """An image that could not be predicted although memory sufficed; the message says why."""

    key: Key
    message: str


class NetworkLost(Exception):
    """A network that is of no more use.

    Attributes:
        keys: of the images it still held.
    """

    def __init__(self, message: str, keys: list[Any]) -> None:
        super().__init__(message)
        self.keys = keys


class Network(Protocol):
    """Predicts images. Nothing is loaded or started before the first image comes.

    Attributes:
        device: where it runs, e.g. `cpu`, `cuda:0`.
        loading: seconds that loading it took; 0 before.
    """

    device: str
    loading: float

    @property
    def asked(self) -> int:
        """Tiles in a batch as asked for; 0 before the first image."""

    @property
    def batch(self) -> int:
        """The same, smaller once memory ran out."""

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """One answer for each image, H×W×3 uint8 as stored, by its key. None: answer what is begun before the next.

        Raises:
            NetworkLost: it is of no more use, but others may be.
            WeightsError, UsageError: it cannot be loaded.
        """

    def abort(self) -> None:
        """Called from another thread: `predict` ends soon, in whatever way."""

    def stop(self) -> None:
        """End what was started; harmless when repeated."""


@contextmanager
def networks_for(
    checkpoint: Checkpoint,
    devices: tuple[str, ...],
    dtype: torch.dtype,
    options: NetworkOptions,
    warn: Callable[[str], None],
    method: Method | None = None,
) -> Iterator[list[Network]]:
    """One network for each device: in this process if there is one device, else in a process each, which the end ends.
    With a cluster: one network for all of its workers.

    Args:
        warn: called with a sentence when a process or a worker died.
        method: of `options.synthetic`, as `find_method` describes it; it judges each predicted picture as well.
    """
    import torch

    if (allowed := cores()) < torch.get_num_threads():  # a container's share of the processor; torch counts the cores
        torch.set_num_threads(allowed)
    made: list[Network]
    if options.engine is Engine.RAY:
        from clue_cli.cluster import connect
        from clue_cli.cluster.network import ClusterNetwork

        chosen = network_alone(options, DType(str(dtype).removeprefix("torch.")))
        made = [ClusterNetwork(lambda: connect(chosen, warn), checkpoint, devices[0], chosen, method)]
    elif len(devices) == 1:
        from clue_cli.networks.local import LocalNetwork

        made = [LocalNetwork(checkpoint, devices[0], dtype, options, method)]
    else:
        from clue_cli.networks.processes import processes

        made = [*processes(checkpoint, devices, dtype, options, warn, method)]
    try:
        yield made
    finally:
        for network in made:
            network.stop()
