"""Several processes, started by torchrun, that train or evaluate together; in a single process nothing here acts.

Each holds all images, draws the same random numbers and computes its part of every batch, so that the result does not
depend on how many they are. Only the first process (rank 0) writes files.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TypeVar, cast

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.elastic.utils.store import barrier
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from classificador.errors import ClassificadorError, DataError

Value = TypeVar("Value")
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def run_among_processes(command: Callable[[], Value], together: bool) -> Value | None:
    """Return what `command` returns in the first of the processes that torchrun started, and None in the others.

    together: whether the others call it, too; only the first one speaks.
    """
    first = os.environ["RANK"] == "0"
    if not together:
        return command() if first else None
    with open(os.devnull, "w") as nowhere, nullcontext() if first else redirect_stdout(nowhere), process_group():
        result = command()
    return result if first else None


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started while the block runs.

    Raises ClassificadorError when another one ended before its time.
    """
    store, number, count = next(dist.rendezvous("env://"))
    if os.environ["GROUP_WORLD_SIZE"] == "1":
        # torchrun gives processes started anew the store that holds the addresses of the dead: pytorch/pytorch#135712.
        # Of several machines each counts for itself; there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is the remedy.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        text = "Outro dos processos parou. Se --max-restarts permite, o torchrun os recomeça do último ponto guardado."
        raise ClassificadorError(text) from error
    # Not after an error: the others may wait for us, and torchrun ends them.
    barrier(store, count, "last")  # who leaves first closes connections from which another may still have to read
    dist.destroy_process_group()


def size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def job() -> str:
    """The name of what torchrun runs, the same after a restart; "" where there is none."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return "" if name == "none" else name  # of several machines without --rdzv-id


def local_rank() -> int | None:
    """Which of this machine's processes this is, from 0; None if torchrun did not start it."""
    return int(os.environ["LOCAL_RANK"]) if "LOCAL_RANK" in os.environ else None


def restarted() -> bool:
    """Whether torchrun started the processes anew after one of them died, as far as any of its agents knows."""
    return largest(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))) > 0


def part(count: int) -> slice:
    """This process's part of so many images: none left out, none twice."""
    return slice(count * rank() // size(), count * (rank() + 1) // size())


def total(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of the processes' tensors, which have one shape; gradients flow back to all processes."""
    return _Sum.apply(values) if size() > 1 else values


class _Sum(torch.autograd.Function):
    """total() of several processes: the gradient of a sum, too, is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return total(gradient)


def largest(number: int) -> int:
    """Return the largest of the processes' numbers."""
    if size() > 1:
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)
    return number


def join(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return all `count` rows, of which each process gives its part()."""
    if size() == 1:
        return rows
    whole = rows.new_zeros(count, *rows.shape[1:])
    whole[part(count)] = rows
    return total(whole)


def from_first(function: Callable[[], Value]) -> Value:
    """Return what `function` returns in the first process, the only one that calls it; plain values and tensors."""
    if size() == 1:
        return function()
    values = [function() if rank() == 0 else None]
    dist.broadcast_object_list(values)
    return cast(Value, values[0])


def check_same(fingerprint: object) -> None:
    """Raise DataError in a process that has not the images, and the teacher, that the first one has."""
    if from_first(lambda: fingerprint) != fingerprint:
        text = "Os processos têm imagens ou professores diferentes. Dê a todas as máquinas os mesmos arquivos."
        raise DataError(text)


def wrap(model: nn.Module) -> nn.Module:
    """Return the model as it is to be called in training: with gradients, and batch statistics, of all processes."""
    if size() == 1:
        return model
    _join_batch_norms(model)
    return DistributedDataParallel(model, broadcast_buffers=False)  # the buffers are the same in all anyway


def weigh(criterion: Loss, batch_size: int) -> Loss:
    """Return the mean loss of our part, weighed so that the processes' mean is the mean loss of the whole batch."""
    if size() == 1:
        return criterion
    return lambda logits, targets: criterion(logits, targets) * (len(targets) * size() / batch_size)


class JointBatchNorm(_BatchNorm):
    """Batch normalisation over the images of all processes; torch's own SyncBatchNorm does without CPUs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise N×C×…; in training by the mean and the variance that all processes' images have."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        dtype, x = x.dtype, x.float()  # bfloat16 is too coarse for these sums
        others, shape = [d for d in range(x.ndim) if d != 1], [1, -1] + [1] * (x.ndim - 2)
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = total(torch.cat([x.sum(others), x.square().sum(others), count]))
        mean, square = (sums[:-1] / sums[-1]).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * sums[-1] / (sums[-1] - 1), self.momentum)
            self.num_batches_tracked = cast(torch.Tensor, self.num_batches_tracked) + 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x * scale.view(shape) + (self.bias - mean * scale).view(shape)).to(dtype)


def _join_batch_norms(model: nn.Module) -> None:
    """Let JointBatchNorm take the place of the model's batch normalisations, with the same weights and statistics."""
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, _BatchNorm) and not isinstance(norm, JointBatchNorm):
                joint = JointBatchNorm(norm.num_features, norm.eps, norm.momentum)
                for part, value in [*norm.named_parameters(), *norm.named_buffers()]:
                    setattr(joint, part, value)
                setattr(parent, name, joint)
