"""What a container may use, from made control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clue_cli import machine

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups on a machine of 64 cores and 256 GiB."""
    monkeypatch.setattr(machine, "_PROC", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_MOUNT", tmp_path / "fs")
    monkeypatch.setattr(machine, "_physical", lambda: 256 * GIB)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return tmp_path


def make(groups: Path, own: str, files: dict[str, str]) -> None:
    (groups / "cgroup").write_text(own)
    for name, content in files.items():
        path = groups / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
LIMITS: dict[str, tuple[str, dict[str, str], int, int]] = {
    "none": ("0::/\n", {}, 64, 256),
    "v2": ("0::/\n", {"cpu.max": "200000 100000", "memory.max": str(4 * GIB)}, 2, 4),
    "v2, no limits": ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max", "memory.high": "max"}, 64, 256),
    "v2, less than a core": ("0::/\n", {"cpu.max": "50000 100000"}, 1, 256),
    "v2, high": ("0::/\n", {"memory.max": str(4 * GIB), "memory.high": str(3 * GIB)}, 64, 3),
    "v2, nested": (
        "0::/a.slice/b.scope\n",
        {
            "a.slice/cpu.max": "300000 100000",
            "a.slice/memory.max": str(2 * GIB),
            "a.slice/b.scope/cpu.max": "max 100000",
            "a.slice/b.scope/memory.max": str(8 * GIB),
        },
        3,
        2,
    ),
    "v1": (
        V1,
        {
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "400000",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            "memory/docker/abc/memory.limit_in_bytes": str(GIB),
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
        4,
        1,
    ),
    "v1, in the container": (
        V1,
        {
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": str(GIB),
        },
        1,
        1,
    ),
    "v1, no limits": (
        V1,
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
        64,
        256,
    ),
    "nonsense": ("0\n:\n0::/x\n", {"cpu.max": "many", "memory.max": ""}, 64, 256),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(groups: Path, name: str) -> None:
    own, files, cores, gib = LIMITS[name]
    make(groups, own, files)
    assert machine.cores() == cores
    assert machine.memory() == gib * GIB


def test_no_control_groups_and_no_affinity(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(machine, "_physical", lambda: None)
    assert machine.cores() == 1
    assert machine.memory() is None


def test_this_machine() -> None:
    assert machine.cores() >= 1
    assert (machine.memory() or 1 << 31) > 1 << 28
    assert set(machine.library_versions()) == set(machine.LIBRARIES)
