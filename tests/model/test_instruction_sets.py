"""What is equal to the bit on this CPU is so on those that know less: tests run again, with newer instructions off.

Which kernels compute depends on the CPU, and a test that only a machine's own kernels run says nothing of another's.
oneDNN, ATen, OpenBLAS and MKL each take an environment variable, which no CPU understands to have more than it has.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CPUS = {
    "AVX-512, no bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the variables name instructions of x86")
def test_a_turned_picture_has_the_bits_of_the_straight_one() -> None:
    """In either number format. Most of the seconds pass until torch is there: one of the tests has to do, at once."""
    tests = f"{Path(__file__).with_name('test_predictor.py')}::TestBits"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, "-k", "memory and turned and right"]
    lean = os.environ | {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    begun = {
        cpu: subprocess.Popen(words, env=lean | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for cpu, variables in CPUS.items()
    }
    said = {cpu: process.communicate()[0].decode() for cpu, process in begun.items()}
    for cpu, process in begun.items():
        assert process.returncode == 0, f"{cpu}:\n{said[cpu]}"
        assert "4 passed" in said[cpu]
