"""Devices by name, and the precision that is fast there."""

import pytest
import torch

from pretrain.device import choose_device, fast_dtype
from pretrain.errors import InputError


def test_devices_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(InputError, match="choose auto, cpu, cuda or mps"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no such device"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_half_precision_only_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_dtype(torch.device("cpu")) == dtype
    assert fast_dtype(torch.device("cuda")) == torch.bfloat16
    assert fast_dtype(torch.device("mps")) == torch.float32
