"""A GPU that is there and not used, or whose memory is full: why, and what helps."""

import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from classificador.errors import SettingsError
from classificador.portuguese import number

NO_ANSWER = "?"  # of NVIDIA's own program, whose driver fails


@cache
def unused_gpu() -> str:
    """Why torch cannot use the NVIDIA GPU that this machine has, with the remedy; "" where it can or there is none."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # by who uses the machine
    if is_hidden or sees_cuda() or not (names := _nvidia_gpus()):
        return ""
    if names == NO_ANSWER:
        return "o driver da NVIDIA não responde (nvidia-smi diz por quê): reinicie, e se não bastar reinstale-o."
    if torch.version.cuda is None:
        remedy = "instale o de CUDA, como diz pytorch.org (com make: apague .venv e execute `make run TORCH_INDEX=`)"
        return f"há uma {names}, mas este PyTorch ({torch.__version__}) é o só de CPU; {remedy}."
    return f"há uma {names}, que o PyTorch {torch.__version__} não alcança; atualize o driver da NVIDIA e reinicie."


def sees_cuda() -> bool:
    """Whether torch reaches a GPU; what it warns of in English, an old driver, unused_gpu() says."""
    with warnings.catch_warnings(action="ignore"):
        return torch.cuda.is_available()


def _nvidia_gpus() -> str:
    """The names that NVIDIA's own program gives its GPUs; "" where there is no such program, or no GPU."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10)
    except subprocess.TimeoutExpired:
        return NO_ANSWER
    except OSError:
        return ""
    said = f"{done.stdout}{done.stderr}".lower()
    if done.returncode or "no devices" in said:
        return NO_ANSWER if said.strip() and "no devices" not in said else ""
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return ", ".join(dict.fromkeys(names))[:100]


@contextmanager
def explain_out_of_memory(batch_size: int = 0) -> Iterator[None]:
    """Turn a full memory into a SettingsError with a batch size to try, unless it is 0: where nobody chooses it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU torch says so with a plain RuntimeError; so does CUDA, now and then.
        said = "can't allocate memory", "out of memory", "ALLOC_FAILED", "not enough memory", "STATUS_NOT_INITIALIZED"
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(text in str(error) for text in said):
            raise
        others = _held_by_others()
        batches = f" com lotes de {batch_size}" if batch_size else ""
        problem = f"a memória do dispositivo não basta{batches}{others}."
        smaller = f"Tente {max(2, batch_size // 2)}" if batch_size > 2 else "Menores não há: use outro dispositivo"
        smaller = smaller if batches else "Feche outros programas, ou use menos imagens"
        remedy = f"{smaller}{', ou feche o que a ocupa' if others and batches else ''}."
        raise SettingsError(problem, remedy, "batch_size" if batches else "") from error


def _held_by_others() -> str:
    """What to say of a GPU whose memory other programs hold more of than is free; "" else."""
    try:
        free, total = torch.cuda.mem_get_info() if torch.cuda.is_initialized() else (0, 0)
        others = total - free - torch.cuda.memory_reserved() if total else 0
    except RuntimeError:  # of a GPU that answers nothing any more
        return ""
    if others <= total / 4 or others <= free:
        return ""
    size, whole = (number(value / 2**30, 1) for value in (others, total))
    return f", porque outros programas (talvez outro caderno aberto) ocupam {size} dos {whole} GB dela"
