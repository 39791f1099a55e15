"""The connection of this process to a Ray cluster: found or started, checked before Ray would wait, and left.

Ray wants to own a process: it writes to stdout, sets signal handlers, reports its use, packs the current folder for its
workers, and leaves its files behind. All of that is prevented.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from clue_cli.cluster.slots import Node, nodes
from clue_cli.cluster.workers import RayWorkers
from clue_cli.engine import Part
from clue_cli.errors import ClueError, UsageError
from clue_cli.machine import cores, memory
from clue_cli.networks import DType, NetworkOptions
from clue_cli.terminal import printable

if TYPE_CHECKING:
    import torch

    from model.checkpoint import Checkpoint
    from model.synthetic import Method

_CONNECT = 5.0
"""Seconds for a TCP connection."""
_ANSWER = 30.0
"""Seconds for an answer of Ray's, with the start of a Python that asks."""
_FORMAT = 90.0
"""Seconds in which nodes say which number format they compute fast."""
_MOST_THREADS = 512
_JOINING = 2
"""How many times the workers of now there may be when nodes join."""

_ASK = """
import json, sys
try:
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._raylet import GcsClient
except ImportError:
    sys.exit(3)
print(json.dumps(get_cluster_metadata(GcsClient(address=sys.argv[1]))))
"""
"""Ray waits minutes for what is no Ray cluster, and writes to stdout meanwhile; a process of its own can be ended."""

_LOCK = "lock"

_current: RayCluster | None = None
_lock = threading.Lock()


def connected(address: str | None, warn: Callable[[str], None]) -> RayCluster:
    """As `clue_cli.cluster.connect`."""
    global _current
    if importlib.util.find_spec("ray") is None:
        raise UsageError("`--engine ray` needs Ray, which the extra `ray` brings.", "pip install 'clue-forensics[ray]'")
    with _lock:
        if _current is None or _current.left:
            _current = RayCluster(address)
        elif _current.address != address:
            raise UsageError("This process is connected to another cluster already.")
        _current.warn = warn
        return _current


class RayCluster:
    """A `Cluster` of Ray's.

    Args:
        address: `HOST:PORT` or `auto`; None: one is started on this machine, and ends with this process.

    Attributes:
        warn: called with a sentence; that of the run that connected last.
        left: whether `leave` was called.
    """

    warn: Callable[[str], None]

    def __init__(self, address: str | None) -> None:
        self.address, self.left = address, False
        self._folder: Path | None = None
        self._environment: dict[str, str | None] = {}
        self._set("RAY_USAGE_STATS_ENABLED", "0")
        self._set("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        atexit.register(self.leave)
        try:
            if address is None:
                self._start()
            else:
                self._join(_found(address))
        except BaseException:
            self.leave()
            raise

    def _set(self, name: str, value: str) -> None:
        self._environment.setdefault(name, os.environ.get(name))
        os.environ[name] = value

    def _start(self) -> None:
        """Start a cluster of this machine, for this process. No other user can: it listens on this machine alone,
        its token is made here, and its folder, with sockets and evidence that is spilled, is this user's alone."""
        self._set("RAY_AUTH_MODE", "token")
        self._set("RAY_AUTH_TOKEN", secrets.token_hex(32))
        base = tempfile.gettempdir()
        # The names of its sockets have at most 107 bytes, of which Ray takes 64.
        self._folder, self._lock = _folder(Path(base if len(base.encode()) < 23 else "/tmp"))
        store = max(80 << 20, min(2 << 30, (memory() or 8 << 30) // 8))
        with _loopback():
            self._init(
                address="local",
                num_cpus=cores(),
                include_dashboard=False,
                object_store_memory=store,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._folder / "r"),  # Ray opens it to all users; the folder around it stays closed
                _system_config={"worker_niceness": 0},  # they are this run, and not something beside it
            )

    def _join(self, address: str) -> None:
        _check(address)
        self._init(address=address)

    def _init(self, **arguments: Any) -> None:
        try:
            import ray
            import ray._private.worker

            if ray.is_initialized():
                raise UsageError("This process is connected to a Ray cluster already.")
            # What nodes report, which Ray prints to stdout even with `log_to_driver=False`.
            if hasattr(ray._private.worker, "print_to_stdstream"):
                ray._private.worker.print_to_stdstream = lambda *_, **__: None
            with _signals_kept():
                ray.init(
                    job_config=_job_config(),
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    _skip_env_hook=True,
                    **arguments,
                )
        except ClueError:
            raise
        except Exception as error:
            causes = [error, *([error.__cause__] if error.__cause__ else [])]
            said = "; ".join(" ".join(str(cause).split())[:500] or type(cause).__name__ for cause in causes)
            raise UsageError(*_explained(said, self.address)) from error

    def leave(self) -> None:
        """Leave the cluster, or end the one that was started; harmless when repeated."""
        if self.left:
            return
        self.left = True
        atexit.unregister(self.leave)
        try:
            if "ray" in sys.modules:
                import ray

                with suppress(Exception):
                    ray.shutdown()
        finally:  # Ctrl-C may come meanwhile
            for name, value in self._environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def find_device(self, options: NetworkOptions) -> tuple[str, torch.dtype]:
        """As of `Cluster`. `auto`: GPUs if there are any; on CPUs what all nodes of now would choose, or float32."""
        import torch

        if options.devices or ":" in options.device:
            raise UsageError("A cluster places its workers itself: --device is auto, cpu or cuda.", "Leave N out.")
        device = options.device
        gpus = nodes("cuda", options.ray_cores)
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device == "cuda" and not gpus:
            raise UsageError("The cluster has no GPU.", "Choose another --device, or leave it out.")
        if options.dtype is not DType.AUTO:
            return device, getattr(torch, options.dtype.value)
        if device == "cuda":
            return device, torch.bfloat16
        return device, _shared_format(nodes("cpu", options.ray_cores))

    def workers(
        self, part: Part[Any, Any, Any], checkpoint: Checkpoint, options: NetworkOptions, method: Method | None = None
    ) -> RayWorkers:
        """As of `Cluster`."""
        from clue_cli.networks.processes import setup_of

        device, dtype = self.find_device(options)
        places = replace(options, model=_absolute(options.model) or "", synthetic=_absolute(options.synthetic))
        network = setup_of(replace(checkpoint, prompt=None), dtype, places, method)
        return self.make(part, network | {"device": device}, checkpoint.prompt, options)

    def make(
        self, part: Part[Any, Any, Any], network: dict[str, Any] | None, prompt: Path | None, options: NetworkOptions
    ) -> RayWorkers:
        """Workers for a network as `networks.worker` describes it; None: all work passes the network by."""
        device = "cpu" if network is None else network["device"]
        found = nodes(device, options.ray_cores)
        if self.address is None and not found:  # no other node will join
            message = f"This machine has fewer cores than --ray-cores {options.ray_cores} asks for: {cores()}."
            raise UsageError(message, "Choose a smaller --ray-cores, or leave it out.")
        store = min(
            (node["Resources"].get("object_store_memory", 0) for node in _entries() if node["Alive"]), default=0
        )
        return RayWorkers(
            pickle.dumps(part, pickle.HIGHEST_PROTOCOL),
            network,
            prompt,
            device,
            options.ray_cores,
            options.ray_workers,
            _threads(found, options.ray_workers, joining=self.address is not None),
            max(16 << 20, min(1 << 30, int(store) // 4)),
            lambda text: self.warn(text),
        )


def _entries() -> list[dict[str, Any]]:
    import ray

    entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return entries


def _threads(found: list[Node], most: int | None, *, joining: bool) -> int:
    """How many items may be under way at once, with room for nodes that join."""
    windows = [node.window for node in found for _ in range(node.slots)] or [4]
    count = most if most is not None else len(windows) * (_JOINING if joining else 1)
    return max(1, min(_MOST_THREADS, count * max(windows)))


def _absolute(name: str | None) -> str | None:
    """The name of a model, absolute if it is a path: workers have another current folder."""
    return str(Path(name).absolute()) if name is not None and Path(name).exists() else name


def _shared_format(found: list[Node]) -> torch.dtype:
    """The number format that all nodes choose, else float32; one that does not answer is not asked again."""
    import ray
    import torch
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = [
        ray.remote(_own_format).options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote()
        for node in found
    ]  # fmt: skip
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_FORMAT)
    answers = []
    for answer in answered:
        with suppress(ray.exceptions.RayError):  # a node that cannot answer will have no worker
            answers.append(ray.get(answer))
    return answers[0] if len(set(answers)) == 1 else torch.float32


def _own_format() -> torch.dtype:
    from model.device import resolve

    return resolve("cpu", "auto")[1]


def _found(address: str) -> str:
    """`HOST:PORT` behind an address."""
    if "://" in address:
        raise UsageError(
            f"--ray-address {printable(address)} is one of Ray Client, which clue does not use.",
            "Run clue on a node of the cluster, with --ray-address auto or HOST:PORT (6379 as a rule).",
        )
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    with suppress(ImportError):  # versions of Ray without tokens
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    found = canonicalize_bootstrap_address("auto")
    if not found:
        raise UsageError(
            "No Ray cluster runs on this machine.",
            "Start one with `ray start --head`, name one with --ray-address HOST:PORT, or leave --ray-address out.",
        )
    return str(found)


def _check(address: str) -> None:
    """Raise UsageError, within seconds, where no Ray cluster of the same versions is."""
    shown = printable(address)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"--ray-address {shown} is neither HOST:PORT nor auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except OSError as error:
        raise UsageError(
            f"Nothing answers at {shown}: {error.strerror or error}.",
            "Start the cluster's head there: ray start --head",
        ) from error
    no_ray = UsageError(
        f"What answers at {shown} is no Ray cluster.", "The port is that of `ray start --head`, 6379 as a rule."
    )
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _ASK, address], capture_output=True, stdin=subprocess.DEVNULL, timeout=_ANSWER
        )
    except subprocess.TimeoutExpired as error:
        raise no_ray from error
    if b"AuthToken" in asked.stderr:
        raise UsageError(
            f"The cluster at {shown} requires a token; none was given, or a different one.",
            "Set RAY_AUTH_MODE=token; Ray reads the token from RAY_AUTH_TOKEN or ~/.ray/auth_token.",
        )
    if asked.returncode == 3:  # this version of Ray has these elsewhere; it checks the versions itself
        return
    try:
        said: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise no_ray from error
    import ray

    here = {"Ray": ray.__version__, "Python": ".".join(map(str, sys.version_info[:3]))}
    there = {"Ray": said.get("ray_version"), "Python": said.get("python_version")}
    if there != here:
        raise UsageError(_differing(here, there, shown), "Install the same versions on each machine.")


def _differing(here: dict[str, Any], there: dict[str, Any], address: str) -> str:
    words = (f"{name} {there[name]} there, {here[name]} here" for name in here if here[name] != there[name])
    return f"The cluster at {address} has other versions: {', '.join(words)}."


def _explained(said: str, address: str | None) -> tuple[str, str]:
    """Message and advice for what Ray says when it cannot connect."""
    if "ersion mismatch" in said:
        return f"The cluster has other versions: {said}.", "Install the same versions on each machine."
    if address is None:
        return (
            f"Ray cannot start a cluster on this machine: {said}.",
            "Leave --engine ray out, or fix what Ray reports.",
        )
    advice = f"Run clue on a node of the cluster; to make this machine one: ray start --address={address}"
    return f"The cluster at {printable(address)} cannot be joined: {said}.", advice


def _folder(base: Path) -> tuple[Path, FileLock]:
    """A new folder of this user alone, and its lock, which says that this process lives. Those of killed runs go."""
    folder = Path(tempfile.mkdtemp(prefix="clue-ray-", dir=base))
    lock = FileLock(folder / _LOCK, thread_local=False)
    lock.acquire()
    mine = folder.lstat().st_uid
    for left in base.glob("clue-ray-*"):
        with suppress(OSError, Timeout):
            if left.lstat().st_uid == mine and (left / _LOCK).exists() and not left.is_symlink() and left != folder:
                with FileLock(left / _LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    return folder, lock


@contextmanager
def _loopback() -> Iterator[None]:
    """Ray takes an address of the network for 127.0.0.1, and would listen on all of them."""
    from ray._private import services

    resolve = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


def _job_config() -> Any:
    """A job whose workers import only what is installed on their nodes.

    Ray puts the current folder of the driver first in their search path. It may be a folder of evidence, and a
    `torch.py` in it would run.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):
        _py_driver_sys_path = property(lambda self: [], lambda self, paths: None)

    return Job()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the signal handlers that the block replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
