"""What a scan does not import: each of these takes a tenth of a second to several seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

HEAVY = {
    "accelerate", "cryptography", "diffusers", "minisign", "peft", "pycocotools", "ray", "rfc3161_client",
    "scipy.optimize", "skimage", "sympy", "torch._dynamo", "torchvision", "transformers", "triton", "typst",
}  # fmt: skip
PROGRAM = """
import gc, sys
from clue_cli.app import run
code = run(sys.argv[1:])
assert code == 0, code
assert gc.isenabled()
print(*sys.modules, sep="\\n")
"""


def _imported(evidence: Path, out: Path) -> set[str]:
    words = ["scan", str(evidence), "--out", str(out), "--quiet", "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_a_scan_imports_nothing_heavy_and_a_finished_one_no_network(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    Image.effect_noise((64, 64), 40).convert("RGB").save(tmp_path / "evidence" / "noise.jpg")
    first = _imported(tmp_path / "evidence", tmp_path / "results")
    assert "model.branches.sd3_network" in first
    assert not HEAVY & first
    again = _imported(tmp_path / "evidence", tmp_path / "results")
    assert not {name for name in again if name.startswith(("model.branches.sd3_", "segment_anything"))}
