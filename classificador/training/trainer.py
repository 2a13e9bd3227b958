"""A training: its epochs, each followed by a validation, and the resume point that it keeps meanwhile."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from classificador import processes
from classificador.device import autocast, to_device
from classificador.errors import DivergenceError, NotFiniteError
from classificador.files.model_file import check_fit
from classificador.network.model_info import info_of
from classificador.results.predict import predict_logits
from classificador.training.batches import Batches
from classificador.training.history import Clock, History, Tally
from classificador.training.resume import (
    RandomState,
    ResumePoint,
    data_fingerprint,
    fingerprint,
    restore_memory_order,
    save_resume_point,
)
from classificador.training.run_folder import RunFolder

WARM_UP = 0.2  # of a run, in which the learning rate rises; a tenth was no better (validation, one seed)
HOPELESS = 1e12  # a loss from which no training comes back
KEEP_EVERY = 60.0  # seconds of training, at most, that a process that is killed loses


# Ctrl-C, a polite end, and a terminal that was closed (which Windows has not).
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Trainer:
    """A training under way. Its `folder`, `bar` and two functions may be set before train().

    folder: where the resume point is kept; None: this process writes nothing. bar: moves on with each batch.
    on_report(history): called some twenty times an epoch. on_epoch(logits, history): after each, with what the network
    answers to the images of `judged`, which validate. Raises DataError when processes have different data or teachers.
    """

    def __init__(self, model: nn.Module, batches: Batches, criterion: nn.Module, optimizer: Optimizer):
        self.model, self.batches, self.criterion, self.optimizer = model, batches, criterion, optimizer
        self.data, self.settings, self.device = batches.data, batches.settings, batches.device
        to_device(model, self.device)
        self.distributed_model = processes.distributed(model)  # the model as it is called in training
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        torch.manual_seed(self.settings.seed)  # dropout draws from the global generator
        self.history = History(earlier_epochs=info_of(model).epochs_trained)
        self.tally, self.clock = Tally(self.device), Clock()
        # All that the rest of the run depends on: each has a state_dict() and a load_state_dict().
        self.parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "batches": batches, "tally": self.tally}
        self.parts |= {"history": self.history, "clock": self.clock, "random": RandomState(self.device)}
        self.on_report: Callable[..., object] = lambda history: None
        self.on_epoch: Callable[..., object] = lambda logits, history: None
        self.judged = self.data.val  # what the answers that on_epoch() gets are to
        self.folder: RunFolder | None = None
        self.bar = tqdm(disable=True)
        self.kept_at = time.perf_counter()
        self.data_fingerprint = data_fingerprint(self.data)
        processes.check_same((self.data_fingerprint, batches.teacher and batches.teacher.fingerprint))

    def train(self, stop_signal: Callable[[], int]) -> None:
        """Train to the last epoch or until asked to stop; keep a resume point after each epoch but the last.

        stop_signal: returns the number of the signal that asked to stop, 0 while none has. Raises DivergenceError.
        """
        while self.batches.epoch < self.settings.epochs and not self.history.interrupted:
            if self.epoch(stop_signal):
                self.validate()
            if self.batches.epoch < self.settings.epochs:
                self.keep()
                self.history.interrupted = processes.all_reduce_max(stop_signal())  # it stays noted

    def epoch(self, stop_signal: Callable[[], int]) -> bool:
        """Train on what is left of the epoch; return whether it came to its end, or was asked to stop before."""
        batches, total_steps = self.batches, self.settings.epochs * self.batches.steps_per_epoch
        self.distributed_model.train()
        for images, targets in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr_factor(batches.done - 1, total_steps)
            with autocast(self.device):
                logits = self.distributed_model(images).float()
            loss = self.criterion(logits, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.tally.add(loss.detach(), logits.detach(), targets)
            self.clock.tick()
            self.bar.update()
            is_report_due = batches.step % max(1, batches.steps_per_epoch // 20) == 0  # as after the last batch: step 0
            if is_report_due:
                self.report()
            # Several processes stop, and keep, after the same batch, which costs them a message: not after every one.
            if batches.step == 0 or (processes.world_size() > 1 and not is_report_due):
                continue
            if processes.all_reduce_max(int(time.perf_counter() - self.kept_at > KEEP_EVERY)):
                self.keep()
            if processes.all_reduce_max(stop_signal()):
                return False
        return True

    def report(self) -> None:
        """Read the means so far and add them to the history."""
        self.tally.read()
        _check_loss(self, self.tally.loss)
        if len(self.history.val_loss) % (1 + self.settings.epochs // 200) == 0:  # of a long run not every epoch
            epochs = self.batches.done / self.batches.steps_per_epoch
            self.history.steps.append([epochs, self.tally.loss, self.tally.accuracy])
        self.on_report(self.history)

    def validate(self) -> None:
        """Add the epoch to the history."""
        processes.broadcast_statistics(self.model)
        with autocast(self.device):
            logits = predict_logits(self.model, self.data.val.images)
        val_loss = self.criterion(logits, labels := self.data.val.labels.to(self.device)).item()
        _check_loss(self, val_loss)
        val_accuracy = (logits.argmax(1) == labels).sum().item() / len(labels)
        self.history.add(self.tally.loss, self.tally.accuracy, val_loss, val_accuracy, self.clock.seconds)
        self.on_epoch(logits, self.history)
        self.tally.clear()

    def keep(self) -> None:
        """Write the resume point, if this process does."""
        state = self.state_dict()  # for which all processes are needed
        if self.folder:
            try:
                path, earlier = self.folder.resume_point, self.folder.earlier
                save_resume_point(ResumePoint(path, self.settings, state, self.fingerprint(), earlier))
            except NotFiniteError as error:
                raise _divergence(self) from error
        self.kept_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The state of all parts, from which load_state_dict() goes on; of several processes each has to ask for it."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises any error for what no run of these settings leaves."""
        check_fit(self.model, state["model"])
        if list(state["model"]) != list(self.model.state_dict()):  # the optimizer knows the weights by their order
            raise ValueError("mudou: rede")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        if len(self.history.val_loss) != self.batches.epoch:
            raise ValueError("história incompleta")
        restore_memory_order(self.optimizer)

    def fingerprint(self) -> dict[str, Any]:
        """What must be as it was for the run to go on."""
        return fingerprint(self.data_fingerprint, self.criterion, self.optimizer, self.batches.teacher)


def _check_loss(trainer: Trainer, loss: float) -> None:
    """Raise DivergenceError for a loss from which no training comes back."""
    if not abs(loss) < HOPELESS:
        raise _divergence(trainer)


def _divergence(trainer: Trainer) -> DivergenceError:
    """The error that names the place and the remedy."""
    batches, lr = trainer.batches, trainer.optimizer.param_groups[0]["initial_lr"]
    epoch = len(trainer.history.val_loss)
    place = f"época {epoch + 1}, até o lote {batches.done - epoch * batches.steps_per_epoch}, lr {lr:.2g}"
    return DivergenceError(f"O treino divergiu (perda não finita ou enorme): {place}.", "Use um lr menor.")


def lr_factor(step: int, total_steps: int) -> float:
    """Fraction of the peak learning rate at a step: a linear rise over WARM_UP of the run, then a fall almost to 0."""
    rise = max(1, round(total_steps * WARM_UP))
    if step < rise:
        return (step + 1) / rise
    return (total_steps - step) / (total_steps - rise + 1)


@contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP end nothing, but are noted.

    The block gets a function that returns the number of the first of them that came, 0 while none has.

    An exception in the middle of an optimizer step would leave half of the weights updated: no run could go on from
    there as if nothing had happened. A signal that was ignored before stays so, as under nohup. Outside the main thread
    signals cannot be caught, and none is noted.
    """
    noted: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    heeded = [number for number in STOPPING if main and signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in heeded}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
