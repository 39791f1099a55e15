"""A Ray cluster of two nodes on this machine, started once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from clue_cli.cluster import connection
from clue_cli.cluster.connection import RayCluster
from clue_cli.cluster.workers import RayWorkers
from clue_cli.networks import NetworkOptions
from tests.clue_cli.cluster.toys import ToyPart

STORE = 100 << 20

ROOT = Path(__file__).resolve().parents[3]
"""Workers import what their node can, whatever folder the driver is in: here these tests, too."""
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """`ray.cluster_utils.Cluster`: a head without cores, two nodes with a core. Tests put back what they kill."""
    from ray._common.utils import get_ray_address_file
    from ray.cluster_utils import Cluster

    Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)  # Ray writes there, whatever temp_dir is
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "temp_dir": folder}
    head["_system_config"] = {"worker_niceness": 0}  # on a busy machine they would start after a minute
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def joined(two_nodes: Any) -> Iterator[RayCluster]:
    """The connection of this process to it."""
    cluster = connection.connected(two_nodes.address, lambda text: None)
    yield cluster
    cluster.leave()


@pytest.fixture
def toy_workers(joined: RayCluster, tmp_path: Path) -> Iterator[Callable[..., RayWorkers]]:
    """Makes workers that run a `ToyPart`, with options; its notes are in `tmp_path`."""
    made: list[RayWorkers] = []

    def make(**options: Any) -> RayWorkers:
        made.append(joined.make(ToyPart(tmp_path), None, None, NetworkOptions(**options)))
        return made[-1]

    yield make
    for workers in made:
        workers.close()
