"""Up and down again a tensor is the same; on the CPU it is never copied."""

from __future__ import annotations

import numpy as np
import torch

from model.transfer import Transfer


def test_on_the_cpu_nothing_is_copied() -> None:
    transfer = Transfer(torch.device("cpu"))
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    up = transfer.up(tensor)
    assert up.data_ptr() == tensor.data_ptr()
    down = transfer.down(up)()
    assert down.ctypes.data == tensor.data_ptr()
    assert np.array_equal(down, tensor.numpy())
