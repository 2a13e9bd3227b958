"""Devices that the machines of the tests do not have: Apple's GPUs, and GPUs that are too old."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from classificador import device
from classificador.data.dataset import ImageData, Split
from classificador.device import autocast, choose_device, instructions, precision
from classificador.errors import SettingsError
from classificador.network.cnn import make_network
from classificador.network.teacher import Teacher
from classificador.recipes import make_settings
from classificador.training.fit import train


class OnApple(torch.Tensor):
    """A tensor that refuses what one on Apple's GPU refuses: float64, and NumPy, until it was brought to the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert mps:0 device type tensor to numpy")
        result = super().__torch_function__(function, types, arguments, options)
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return result


class Operators(TorchDispatchMode):
    """Notes the name of every operator that is called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        self.names.add(operator.name())
        return operator(*arguments, **(options or {}))


def test_the_pretended_gpu_refuses_what_the_real_one_does():
    tensor = torch.zeros(3).as_subclass(OnApple)
    for refused in (lambda: tensor.double().cpu(), lambda: tensor.to(torch.float64), tensor.numpy):
        with pytest.raises(TypeError):
            refused()
    assert tensor.cpu().double().numpy().dtype == "float64"


@pytest.fixture
def on_mps() -> dict[str, bool]:
    """Of each operator, whether Apple's GPUs have it, or torch makes it of others: the table that torch is built of."""
    table = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = yaml.load(table.read_text(), yaml.CSafeLoader)
    names = {entry["func"].split("(")[0]: entry for entry in entries}

    def has(entry) -> bool:
        if "structured_delegate" in entry:
            return has(names[entry["structured_delegate"]])
        keys = ", ".join(entry.get("dispatch", ["CompositeImplicitAutograd"])).split(", ")
        return any(key == "MPS" or key.startswith("Composite") for key in keys)

    return {f"aten::{name}": has(entry) for name, entry in names.items()}


@pytest.mark.slow
def test_apples_gpus_have_every_operator_of_a_training_which_computes_nothing_in_float64(toy, tmp_path, on_mps):
    parts = [Split(*(part.as_subclass(OnApple) for part in (s.images, s.labels))) for s in (toy.train, toy.val)]
    data = ImageData(*parts, toy.test)  # as if they had been brought to Apple's GPU
    settings = make_settings(epochs=1, batch_size=260, channels=(4, 8), hidden=16, cutout=8, mixup=0.5)
    with Operators() as used:
        train(settings, data, tmp_path / "teacher.pth", make_network(Teacher, widths=(24, 24, 24)))
        train(replace(settings, teacher=str(tmp_path / "teacher.pth")), data, tmp_path / "a.pth")
    assert "aten::convolution_backward" in used.names
    assert [name for name in used.names if name.startswith("aten::") and not on_mps[name]] == []
    assert not on_mps["aten::linalg_eig"]  # the table does say no


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU of which this torch holds no code, unless it is told another capability."""
    device.cuda_works.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "GeForce GTX 1060")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90a", "sm_120", "compute_120"])
    yield lambda *capability: monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: capability)
    device.cuda_works.cache_clear()


def test_a_gpu_too_old_for_this_torch_leaves_the_cpu_and_says_why_once(gpu, capsys):
    gpu(6, 1)
    assert [choose_device().type for _ in range(2)] == ["cpu"] * 2
    assert capsys.readouterr().out.count("GeForce GTX 1060 (capacidade 6.1) é antiga demais") == 1
    with pytest.raises(SettingsError, match="não tem 'cuda' disponível"):
        choose_device("cuda")


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (12, 1)])
def test_a_gpu_that_this_torch_knows_is_used(gpu, capability, capsys):
    gpu(*capability)
    assert choose_device().type == "cuda"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("ability", "expected"),
    [
        ({}, "AVX512"),
        ({"avx512_bf16": True}, "AVX512_BF16"),
        ({"amx_bf16": 1, "avx512_bf16": True}, "AMX"),
        (None, "AVX512"),  # torch cannot tell
    ],
)
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, ability, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    if ability is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities")
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ability)
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert instructions() == expected
    assert product.dtype == (torch.float32 if expected == "AVX512" else torch.bfloat16)


def test_a_processor_that_is_told_to_do_without_its_widest_instructions_counts_as_one_without(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True}, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert (instructions(), precision(torch.device("cpu"))) == ("AVX2", "float32")
