"""Several processes, started by torchrun, that train or evaluate together; in a single process nothing here acts.

Each holds all images, draws the same random numbers and computes its share of every batch. On GPUs the statistics of
batch normalisation are those of all processes (torch's SyncBatchNorm); on CPUs each process has its own, so that the
result is as accurate as one process's, and not the same. Only rank 0 writes files.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TypeVar, cast

import torch
from torch import distributed as dist
from torch import nn

from classificador.errors import ClassificadorError, DataError

Value = TypeVar("Value")


def run_among_processes(command: Callable[[], Value], together: bool) -> Value | None:
    """Return what `command` returns on rank 0 of the processes that torchrun started, and None on the others.

    together: whether the others call it, too; only rank 0 speaks.
    """
    is_first = os.environ["RANK"] == "0"
    if not together:
        return command() if is_first else None
    with open(os.devnull, "w") as nowhere, nullcontext() if is_first else redirect_stdout(nowhere), process_group():
        result = command()
    return result if is_first else None


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started while the block runs.

    Raises ClassificadorError when another one ended before its time.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.elastic.utils.store import barrier  # takes long to load, which a single process need not
    from torch.distributed.rendezvous import rendezvous

    store, number, count = next(rendezvous("env://"))
    if os.environ["GROUP_WORLD_SIZE"] == "1":
        # torchrun gives processes started anew the store that holds the addresses of the dead: pytorch/pytorch#135712.
        # Of several machines each counts for itself; there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is the remedy.
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        problem = "Outro dos processos parou."
        remedy = "Se --max-restarts permite, o torchrun os recomeça do último ponto guardado."
        raise ClassificadorError(problem, remedy) from error
    # Not after an error: the others may wait for us, and torchrun ends them.
    barrier(store, count, "last")  # who leaves first closes connections from which another may still have to read
    dist.destroy_process_group()


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int | None:
    """Which of this machine's processes this is, from 0; None if torchrun did not start it."""
    return int(os.environ["LOCAL_RANK"]) if "LOCAL_RANK" in os.environ else None


def restarted_since() -> float | None:
    """When torchrun was started, seconds since 1970, if it started the processes anew after one of them died."""
    if not all_reduce_max(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))):  # as far as any of its agents knows
        return None
    import psutil

    return psutil.Process(os.getppid()).create_time()


def shard(count: int) -> slice:
    """This process's share of so many images: none left out, none twice."""
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def all_reduce(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of the processes' tensors, which have one shape."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def all_reduce_max(number: int) -> int:
    """Return the largest of the processes' numbers."""
    if world_size() == 1:
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def all_gather(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return all `count` rows, of which each process gives its shard()."""
    if world_size() == 1:
        return rows
    whole = rows.new_zeros(count, *rows.shape[1:])
    whole[shard(count)] = rows
    return all_reduce(whole)


def on_rank_0(function: Callable[[], Value]) -> Value:
    """Return what `function` returns on rank 0, the only one that calls it: plain values, tensors, modules."""
    if world_size() == 1:
        return function()
    values = [function() if rank() == 0 else None]
    dist.broadcast_object_list(values)
    return cast(Value, values[0])


def check_same(fingerprint: object) -> None:
    """Raise DataError in a process that has not the images, and the teacher, that rank 0 has."""
    if on_rank_0(lambda: fingerprint) != fingerprint:
        problem = "Os processos têm imagens ou professores diferentes."
        raise DataError(problem, "Dê a todas as máquinas os mesmos arquivos.")


def distributed(model: nn.Module) -> nn.Module:
    """Return the model as it is to be called in training, with gradients averaged over all processes."""
    if world_size() == 1:
        return model
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return nn.parallel.DistributedDataParallel(model)


def broadcast_statistics(model: nn.Module) -> None:
    """Let the model have rank 0's batch statistics in all processes, before they evaluate it together."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
