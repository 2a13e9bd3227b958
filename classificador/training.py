"""The training loop: batches, schedule, validation, and the best weights kept on disk as they improve."""

import inspect
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from classificador.augment import augment
from classificador.brazilian import number, percent
from classificador.checkpoint import BestCheckpoint
from classificador.dataset import CIFAR10, Split
from classificador.device import EVAL_BATCH, choose_device, keep_freed_memory, memory_format
from classificador.errors import ClassificadorError, SettingsError
from classificador.model import CNN
from classificador.settings import Settings
from classificador.whitening import whiten


class DivergenceError(ClassificadorError):
    """The loss became NaN or infinite."""


@dataclass
class History:
    """What happened in a run, an entry an epoch: mean loss per image, accuracy as a fraction, seconds since start."""

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    # position of each entry: a whole number, or a fraction where the run was interrupted
    epochs: list[float] = field(default_factory=list)
    steps: list[tuple[float, float, float]] = field(default_factory=list)  # (epoch, loss, accuracy) within the epochs
    interrupted: bool = False

    @property
    def best(self) -> int:
        """Index of the entry with the highest validation accuracy (the first of equals). Raises ValueError if empty."""
        return self.val_accuracy.index(max(self.val_accuracy))

    def to_dict(self) -> dict:
        """The history as plain lists, for a checkpoint or a JSON file."""
        return asdict(self) | {"steps": [list(step) for step in self.steps]}


def build(settings: Settings, data: CIFAR10, network: Callable[..., nn.Module]) -> nn.Module:
    """Return a network of class `network` with this run's reproducible starting weights.

    Only the sizes in which the recipe differs from CNN's defaults are passed on, so that new defaults in an edited
    class take effect. Raises TypeError when an edited class lacks an argument that the recipe needs.
    """
    torch.manual_seed(settings.seed)
    defaults = inspect.signature(CNN).parameters
    wanted = settings.architecture | {"classes": len(data.classes), "side": data.train.images.shape[-1]}
    model = network(**{name: value for name, value in wanted.items() if value != defaults[name].default})
    first = getattr(model, "conv1", None)
    if settings.whiten and isinstance(first, nn.Conv2d):
        whiten(first, data.train.images)
    return model


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Adam:
    """Return Adam as the settings ask for it; the notebook writes out the same call."""
    return torch.optim.Adam(
        model.parameters(),
        lr=settings.lr,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )


def fit(
    model: nn.Module,
    data: CIFAR10,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    checkpoint: str | Path = "best_model.pth",
    watch: Callable[[History], None] | None = None,
) -> History:
    """Train `model` in place on `data.train` and keep its best weights by validation accuracy in the file `checkpoint`.

    watch: called with the history a few times an epoch and after each one, to draw it. An interrupt (Ctrl-C, or the
    notebook's stop button) ends the run early: the partial epoch is validated and the history so far returned.
    Raises SettingsError (batch larger than the set, device missing), CheckpointError (file cannot be written) and
    DivergenceError (loss NaN or infinite; the file keeps the best weights reached before).
    """
    if settings.batch_size > len(data.train.labels):
        raise SettingsError(
            f"batch_size: {settings.batch_size} é maior que as {len(data.train.labels)} imagens de treino."
        )
    device = choose_device(settings.device)
    best = BestCheckpoint(checkpoint)
    keep_freed_memory()
    model.to(device=device, memory_format=memory_format(device))
    run = _Run(model, data, criterion, optimizer, settings, device, watch or (lambda history: None))
    try:
        for epoch in range(settings.epochs):
            run.train_epoch(epoch)
            run.validate(epoch + 1, best)
    except KeyboardInterrupt:
        run.history.interrupted = True
        if run.seen:
            run.validate(epoch + run.done, best)
        run.keep(best)  # in case the interrupt hit the saving itself
    finally:
        run.bar.close()
        best.finish()
    return run.history


@torch.no_grad()
def evaluate_loss(model: nn.Module, split: Split, criterion: nn.Module) -> tuple[float, float]:
    """Return (mean loss, accuracy as a fraction) of `model` on a split, exact over all images; its mode is kept."""
    training, total_loss, correct = model.training, 0.0, 0
    model.eval()
    for images, labels in zip(split.images.split(EVAL_BATCH), split.labels.split(EVAL_BATCH), strict=True):
        logits = model(images.contiguous(memory_format=memory_format(images.device)))
        total_loss += criterion(logits, labels).item() * len(labels)
        correct += (logits.argmax(1) == labels).sum().item()
    model.train(training)
    return total_loss / len(split.labels), correct / len(split.labels)


class _Run:
    """The moving parts of one call of fit()."""

    def __init__(self, model, data, criterion, optimizer, settings, device, watch):
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.settings, self.watch = settings, watch
        self.classes = data.classes
        self.train = Split(data.train.images.to(device), data.train.labels.to(device))
        self.val = Split(data.val.images.to(device), data.val.labels.to(device))
        self.steps = len(self.train.labels) // settings.batch_size  # the last, incomplete batch is left out
        total = settings.epochs * self.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, total, settings.warmup)
        )
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        torch.manual_seed(settings.seed)  # dropout draws from the global generator
        self.history, self.started, self.seen, self.done = History(), time.perf_counter(), 0, 0.0
        watch(self.history)  # before the bar, so that in a notebook the curves stand above it
        self.bar = tqdm(total=total, unit="lote", file=sys.stdout, mininterval=0.5, dynamic_ncols=True)

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training images in a new random order."""
        self.model.train()
        self.bar.set_description(f"Época {epoch + 1}/{self.settings.epochs}")
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0
        order = torch.randperm(len(self.train.labels), generator=self.generator, device=self.train.labels.device)
        report_every = max(1, self.steps // 20)
        for step, batch in enumerate(order.split(self.settings.batch_size)[: self.steps], 1):
            self._step(batch)
            self.done = step / self.steps
            if step % report_every == 0 or step == self.steps:
                self._report(epoch, step)
            self.bar.update()

    def _step(self, batch: torch.Tensor) -> None:
        images, labels = self.train.images[batch], self.train.labels[batch]
        if self.settings.shift or self.settings.flip:
            images = augment(images, self.settings.shift, self.settings.flip, self.generator)
        logits = self.model(images.contiguous(memory_format=memory_format(images.device)))
        loss = self.criterion(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        # Sums stay tensors: reading a value here would make a GPU wait at every step.
        self.loss_sum += loss.detach() * len(labels)
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.seen += len(labels)

    def _report(self, epoch: int, step: int) -> None:
        loss, accuracy = float(self.loss_sum) / self.seen, float(self.correct) / self.seen
        if not math.isfinite(loss):
            lr = self.optimizer.param_groups[0]["lr"]
            raise DivergenceError(
                f"O treino divergiu (perda {loss}): época {epoch + 1}, até o lote {step}, lr {lr:.2g}. Use um lr menor."
            )
        self.history.steps.append((epoch + self.done, loss, accuracy))
        self.bar.set_postfix_str(f"perda {number(loss, 3)}, acurácia {percent(accuracy)}", refresh=False)
        self.watch(self.history)

    def validate(self, epoch: float, best: BestCheckpoint) -> None:
        """Add an entry to the history and keep the weights if they are the run's best so far."""
        val_loss, val_accuracy = evaluate_loss(self.model, self.val, self.criterion)
        history = self.history
        history.train_loss.append(float(self.loss_sum) / self.seen)
        history.train_accuracy.append(float(self.correct) / self.seen)
        history.val_loss.append(val_loss)
        history.val_accuracy.append(val_accuracy)
        history.epochs.append(epoch)
        history.seconds.append(time.perf_counter() - self.started)
        self.seen = 0
        self.keep(best)
        self.watch(history)
        done = f"{epoch:.0f}" if epoch == round(epoch) else number(epoch, 1)
        self.bar.write(
            f"Época {done}/{self.settings.epochs}: perda {number(history.train_loss[-1], 3)}, "
            f"validação {number(val_loss, 3)}; "
            f"acurácia {percent(history.train_accuracy[-1])}, validação {percent(val_accuracy)}",
            file=sys.stdout,
        )

    def keep(self, best: BestCheckpoint) -> None:
        """Save the current weights if they are the run's best and not saved yet."""
        history = self.history
        if history.val_accuracy and history.best == len(history.val_accuracy) - 1:
            score = history.val_accuracy[-1]
            if math.isfinite(history.val_loss[-1]) and (best.score is None or score > best.score):
                best.save(self.model, self.describe())

    def describe(self) -> dict:
        """The plain metadata that travels with the best weights: what they are, how good, when and how made."""
        history, best = self.history, self.history.best
        return {
            "preset": self.settings.preset,
            "settings": self.settings.to_dict(),
            "classes": list(self.classes),
            "epoch": history.epochs[best],
            "val_accuracy": history.val_accuracy[best],
            "val_loss": history.val_loss[best],
            "seconds": history.seconds[best],
            "history": history.to_dict(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
            "split": f"{number(len(self.train), 0)} imagens de treino, {number(len(self.val), 0)} de validação",
        }


def lr_factor(step: int, total: int, warmup: float) -> float:
    """Fraction of the peak learning rate at a step: a linear rise over the first `warmup` of the run, then to zero."""
    if warmup == 0:
        return 1.0
    rise = max(1, round(total * warmup))
    return (step + 1) / rise if step < rise else max(0.0, (total - step) / (total - rise + 1))
