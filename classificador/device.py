"""Where the computation runs, on how many cores, how exactly, and with memory that is kept."""

import ctypes
import math
import os
import re
import sys
from functools import cache
from pathlib import Path

import torch
from torch import nn

from classificador import processes
from classificador.errors import SettingsError
from classificador.gpu import sees_cuda, unused_gpu
from classificador.portuguese import tell

CONTROL_GROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use
EVAL_BATCH = 200  # images a forward pass: enough to keep the cores busy, few enough to stay in their caches


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" takes CUDA, then Apple MPS, then the CPU.

    A GPU that is too old for this torch counts as none, which is said in one line, once. Of several processes that
    torchrun started each takes its own GPU.
    Raises SettingsError when the name is unknown or this machine lacks the device.
    """
    use_own_cores()
    cuda, mps = name.startswith(("auto", "cuda")) and cuda_works(), torch.backends.mps.is_available()
    if name == "auto" and not cuda and (why := unused_gpu()):
        tell_once(f"A GPU não será usada: {why}")
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if name == "cuda" and (rank := processes.local_rank()) is not None:
        name = f"cuda:{rank}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"{name!r} não existe.", 'Use "auto", "cpu", "cuda" ou "mps".', "device")
    if (device.type == "cuda" and not cuda) or (device.type == "mps" and not mps):
        why = unused_gpu() if device.type == "cuda" else ""
        problem = f"esta máquina não tem {name!r} disponível{f': {why}' if why else '.'}"
        raise SettingsError(problem, 'Ou use "auto" ou "cpu".' if why else 'Use "auto" ou "cpu".', "device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"{name!r} não existe; há {torch.cuda.device_count()} GPU(s).", 'Use "auto".', "device")
    return device


tell_once = cache(tell)


def own_cores() -> int:
    """How many of the machine's cores this process may use: what it is bound to, and a container's quota, are less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, math.ceil(_quota() or bound)))


def _quota() -> float:
    """The cores that the control group of a container allows; 0 where it sets no limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # of versions 2 and 1
        try:
            words = " ".join((CONTROL_GROUP / file).read_text() for file in files).split()
            limit, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # "max": no limit
            continue
        if limit > 0 and period > 0:
            return limit / period
    return 0.0


@cache
def use_own_cores() -> None:
    """Let torch, once, have no more threads than cores are ours: more would wait for each other.

    It reads neither quotas nor, in some builds, what the process is bound to. OMP_NUM_THREADS is left as it was set.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > (cores := own_cores()):
        torch.set_num_threads(cores)


@cache
def cuda_works() -> bool:
    """Whether there is a GPU for CUDA, and this torch holds code for it: each release leaves out the oldest ones."""
    if not sees_cuda():
        return False
    major, minor = torch.cuda.get_device_capability()
    built_for = [int(digits) for name in torch.cuda.get_arch_list() for digits in re.findall(r"^sm_(\d+)", name)]
    if 10 * major + minor >= min(built_for, default=0):
        return True
    needed = "{}.{}".format(*divmod(min(built_for), 10))
    name = f"{torch.cuda.get_device_name()} (capacidade {major}.{minor})"
    tell(f"A GPU {name} é antiga demais para o torch {torch.__version__}, que pede {needed}: fica a CPU.")
    return False


def describe_device(device: torch.device) -> str:
    """Name the hardware in words for the user, e.g. "CPU (2 threads)"."""
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU Apple (MPS)"
    count = torch.get_num_threads()
    return f"CPU ({count} thread{'s' if count > 1 else ''})"


def autocast(device: torch.device) -> torch.autocast:
    """Return the context in which convolutions and linear layers compute in bfloat16, where the device has it natively.

    A processor without the instructions for it has to imitate bfloat16 and needs tens of times longer, so that there,
    as on MPS, the context does nothing and everything is float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))


def to_device(model: nn.Module, device: torch.device) -> None:
    """Bring a model to the device, in the memory order in which its convolutions are fastest.

    Not on MPS, where with channels_last gradients are silently wrong: pytorch/pytorch#175189.
    """
    model.to(device).to(memory_format=torch.contiguous_format if device.type == "mps" else torch.channels_last)


def precision(device: torch.device) -> str:
    """Name what convolutions and linear layers compute in within autocast()."""
    return "bfloat16" if has_bf16(device) else "float32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and instructions() in ("AMX", "AVX512_BF16")


def instructions() -> str:
    """Name the kind of processor: the widest of its instructions for products that torch uses, "AVX2" for example."""
    widest = torch.backends.cpu.get_cpu_capability()  # the variable ATEN_CPU_CAPABILITY makes it less
    ask = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.10 lacks it
    abilities: dict[str, bool] = ask() if widest == "AVX512" else {}
    found = [name for name, key in (("AMX", "amx_bf16"), ("AVX512_BF16", "avx512_bf16")) if abilities.get(key)]
    return found[0] if found else widest


@cache
def keep_freed_memory() -> None:
    """Let glibc, once, keep freed memory in the process instead of returning it to the system after every step.

    The page faults of getting it back make a step on large batches 1.3 to 1.6 times as long. In a notebook kernel,
    which runs already, the environment variables MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ would come too
    late; mallopt(3) does the same now. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold, gigabyte = -1, -3, 1 << 30  # option numbers of <malloc.h>
    mallopt(mmap_threshold, gigabyte) or mallopt(mmap_threshold, gigabyte // 32)  # older versions allow 32 MiB
    mallopt(trim_threshold, gigabyte)
