"""Connecting: what cannot work is said within seconds, and Ray leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from clue_cli.cluster import connect, connection
from clue_cli.cluster.connection import RayCluster
from clue_cli.errors import UsageError
from clue_cli.networks import DType, NetworkOptions
from model.device import resolve

RAY = str(Path(sys.executable).with_name("ray"))


def refusal(address: str | None) -> str:
    with pytest.raises(UsageError) as raised:
        connect(NetworkOptions(ray_address=address), lambda text: None)
    return f"{raised.value.message} {raised.value.advice}"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'clue-forensics[ray]'" in refusal(None)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "Ray Client"),
        ("head", "neither HOST:PORT nor auto"),
        ("127.0.0.1:99999", "neither HOST:PORT nor auto"),
        ("127.0.0.1:1", "Nothing answers at 127.0.0.1:1"),
    ],
)
def test_an_address_of_no_cluster(address: str, said: str) -> None:
    started = time.monotonic()
    assert said in refusal(address)
    assert time.monotonic() - started < 10


def test_what_answers_is_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ray.py").write_text("open('executed', 'w')")
    monkeypatch.chdir(tmp_path)  # which may be a folder of evidence
    monkeypatch.setattr(connection, "_ANSWER", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "is no Ray cluster" in refusal(f"127.0.0.1:{silent.getsockname()[1]}")
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "executed").exists()


def test_auto_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda address: None)
    assert "No Ray cluster runs on this machine" in refusal("auto")


def test_another_version_is_named(two_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "1.2.3")
    said = refusal(two_nodes.address)
    assert "has other versions: Ray 2." in said and "there, 1.2.3 here" in said


def test_one_connection_for_all_and_signals_as_before(two_nodes: Any) -> None:
    def handler(number: int, frame: object) -> None:
        """Stands for `graceful_stop`."""

    former = signal.signal(signal.SIGTERM, handler)
    try:
        options = NetworkOptions(ray_address=two_nodes.address)
        cluster = connect(options, lambda text: None)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert connect(options, lambda text: None) is cluster
        assert "connected to another cluster" in refusal(None)
        assert isinstance(cluster, RayCluster)
        cluster.leave()
        cluster.leave()
    finally:
        signal.signal(signal.SIGTERM, former)


def test_the_device_is_that_of_the_nodes(joined: RayCluster) -> None:
    import torch

    assert joined.find_device(NetworkOptions()) == resolve("cpu", "auto")
    assert joined.find_device(NetworkOptions(device="cpu", dtype=DType.FLOAT32)) == ("cpu", torch.float32)
    with pytest.raises(UsageError, match="no GPU"):
        joined.find_device(NetworkOptions(device="cuda"))
    with pytest.raises(UsageError, match="places its workers itself"):
        joined.find_device(NetworkOptions(device="cuda:1"))


OWN = """
import psutil, sys
from pathlib import Path
from clue_cli.cluster import connect
from clue_cli.networks import NetworkOptions
from tests.clue_cli.cluster.toys import Toy, ToyPart
cluster = connect(NetworkOptions(), lambda text: sys.stderr.write(text))
with cluster.make(ToyPart(Path(sys.argv[1])), None, None, NetworkOptions(ray_workers=1)) as workers:
    assert list(workers.run(Toy("a", 2, does="killed once"), 1)) == ["a/0", "a/1"]
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    at = {c.laddr.ip for process in processes for c in process.net_connections() if c.status == "LISTEN"}
    sys.stderr.write(f"|{cluster._folder}|{cluster._folder.stat().st_mode & 0o777:o}|{' '.join(sorted(at))}")
"""


def test_a_cluster_of_its_own_is_closed_to_others_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not what a killed run left behind, either. The current folder may be one of evidence: nothing in it runs."""
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    for name in ("clue_cli", "torch", "numpy", "colorsys", "json", "tests"):
        (evidence / f"{name}.py").write_text("open('executed', 'w')")
    base = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    killed, living = base / "clue-ray-killed", base / "clue-ray-living"
    for other in (killed, living):
        (other / "r").mkdir(parents=True)
        (other / "lock").touch()
    with FileLock(living / "lock"):
        ended = subprocess.run(
            [sys.executable, "-P", "-c", OWN, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=150,
            check=True,
            cwd=evidence,
            env=os.environ | {"TMPDIR": str(base), "RAY_AUTH_MODE": "disabled"},
        )
    assert not [*tmp_path.glob("**/executed")]
    warning, folder, mode, listening = ended.stderr.split("|")
    assert ended.stdout == "" and warning.endswith("died; it is started again.") and warning.count("\n") == 0
    assert mode == "700" and set(listening.split()) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert [*base.iterdir()] == [living]
    shutil.rmtree(base)
    deadline = time.monotonic() + 20
    while (left := _with(folder)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def _with(word: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(word in argument for argument in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


@contextmanager
def ray_start(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One `ray start --block` with a core; only its own processes are ended."""
    free = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            free.append(str(server.getsockname()[1]))
    command = [RAY, "start", "--block", "--num-cpus=1", f"--object-store-memory={80 << 20}", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={free[0]}", *arguments]
    process = subprocess.Popen(
        [word.replace("FREE", free[1]) for word in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"RAY_worker_niceness": "0"},
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and all that it started; harmless when repeated."""
    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


JOINED = """
import sys, time
from pathlib import Path
from clue_cli.cluster import connect
from clue_cli.networks import NetworkOptions
from tests.clue_cli.cluster.toys import Toy, ToyPart
cluster = connect(NetworkOptions(ray_address=sys.argv[2]), print)
with cluster.make(ToyPart(Path(sys.argv[1])), None, None, NetworkOptions()) as workers:
    assert list(workers.run(Toy("first"), 1)) == ["first/0"]
    while len(workers._slots.ready()) < 2:
        time.sleep(0.2)
    print("two", flush=True)
    sys.stdin.readline()
    for number in range(20):
        assert list(workers.run(Toy(str(number), 2, 0.05), 1)) == [f"{number}/0", f"{number}/1"]
    print("all")
"""


def test_two_machines_as_people_start_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two `ray start`, the second of which is killed while the run goes on; the cluster requires a token."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ab" * 32)
    head = [
        "--head",
        f"--port={address.rpartition(':')[2]}",
        "--include-dashboard=false",
        "--ray-client-server-port=FREE",
    ]
    with ray_start(*head, f"--temp-dir=/tmp/ray-{os.getpid()}"):
        _until(lambda: not _refused(address))
        monkeypatch.setenv("RAY_AUTH_TOKEN", "cd" * 32)
        assert "requires a token" in _refused(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "ab" * 32)
        with ray_start(f"--address={address}") as second:
            command = [sys.executable, "-c", JOINED, str(tmp_path), address]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
                assert run.stdin is not None and run.stdout is not None
                watchdog = threading.Timer(120, run.kill)
                watchdog.start()
                assert run.stdout.readline() == "two\n"
                end(second)
                said, _ = run.communicate("\n")
                watchdog.cancel()
            assert said.endswith("all\n") and run.returncode == 0
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


def _refused(address: str) -> str:
    try:
        connection._check(address)
    except UsageError as error:
        return error.message
    return ""


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)
