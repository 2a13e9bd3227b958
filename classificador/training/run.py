"""A training under way: what it is made of, what its rest depends on, and the signals that stop it."""

import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from classificador import processes
from classificador.data.dataset import Split
from classificador.device import place
from classificador.errors import DivergenceError, NotFiniteError
from classificador.network.cnn import epochs_trained
from classificador.training.batches import Batches
from classificador.training.history import Clock, History, Tally
from classificador.training.resume import save_state
from classificador.training.run_folder import RunFolder

HOPELESS = 1e12  # a loss from which no training comes back
# Ctrl-C, a polite end, and a terminal that was closed (which Windows has not).
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Run:
    """A training under way: the things it is made of, those of them that have a state, and who watches it.

    Raises DataError when several processes have different data or teachers.
    """

    def __init__(self, model: nn.Module, batches: Batches, criterion: nn.Module, optimizer: Optimizer):
        self.model, self.batches, self.criterion, self.optimizer = model, batches, criterion, optimizer
        self.data, self.settings, self.device = batches.data, batches.settings, batches.data.val.images.device
        place(model, self.device)
        self.network = processes.wrap(model)  # the model as it is called in training
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        torch.manual_seed(self.settings.seed)  # dropout draws from the global generator
        self.history, self.tally, self.clock = History(), Tally(self.device), Clock()
        self.history.earlier_epochs = epochs_trained(model)
        # All that the rest of the run depends on: each has a state_dict() and a load_state_dict().
        self.parts: dict[str, Any] = {
            "model": model,
            "optimizer": optimizer,
            "batches": batches,
            "random": RandomState(self.device),
            "history": self.history,
            "tally": self.tally,
            "clock": self.clock,
        }
        # Who watches is called after each batch, or once an epoch was validated, and changes nothing.
        self.on_batch: list[Callable[[Run], object]] = []
        self.on_epoch: list[Callable[[Run], object]] = []
        self.reporting = False  # whether the means were read after the last batch, as some twenty times an epoch
        self.logits = torch.empty(0)  # what the network answers to the validation images, after an epoch
        self.folder: RunFolder | None = None  # where the point to go on from is kept; None: this process writes nothing
        self.kept_at = time.perf_counter()
        self.check_sum = _check_sum([self.data.train, self.data.val])
        processes.check_same((self.check_sum, batches.teacher and batches.teacher.facts))

    def report(self) -> None:
        """Read the means so far and add them to the history, of so many epochs of one that it stays small."""
        self.read_means()
        epoch = len(self.history.val_loss)
        if epoch % (1 + self.settings.epochs // 200) == 0:
            done = self.batches.done / self.batches.steps
            self.history.steps.append([done, self.tally.loss, self.tally.accuracy])

    def read_means(self) -> None:
        """Read the means of the epoch under way. Raises DivergenceError unless training can go on with them."""
        seen = (self.batches.done - len(self.history.val_loss) * self.batches.steps) * self.settings.batch_size
        self.tally.read(seen)
        if not abs(self.tally.loss) < HOPELESS:
            raise self.divergence()

    def divergence(self) -> DivergenceError:
        """The error that names the place and the remedy."""
        epoch, lr = len(self.history.val_loss), self.optimizer.param_groups[0]["initial_lr"]
        return DivergenceError(
            f"O treino divergiu (perda não finita ou enorme): época {epoch + 1}, até o lote "
            f"{self.batches.done - epoch * self.batches.steps}, lr {lr:.2g}. Use um lr menor."
        )

    def keep(self, asked: int) -> None:
        """Write the point to go on from, if this process does; asked: the signal that asked to stop, 0 for none."""
        state = {name: part.state_dict() for name, part in self.parts.items()}  # for which all processes are needed
        if self.folder:
            if asked == signal.SIGINT:
                self.folder.facts["job"] = ""  # it is meant: torchrun is not to go on with this run by itself
            facts = {"setup": self.setup(), "earlier": self.folder.earlier}
            try:
                save_state(self.folder.resume, state, self.settings, facts)
            except NotFiniteError as error:
                raise self.divergence() from error
        self.kept_at = time.perf_counter()

    def setup(self) -> dict:
        """What must be as it was for the run to go on, under the names a reader finds in the message."""
        data, teacher, groups = self.data, self.batches.teacher, self.optimizer.param_groups
        images = [len(data.train), len(data.val), data.train.images.shape[-1]]
        # Each step sets the learning rate anew.
        options = [{name: v for name, v in group.items() if name not in ("params", "lr")} for group in groups]
        # Such as label_smoothing, which the repr of a loss does not show.
        plain = {name: v for name, v in vars(self.criterion).items() if isinstance(v, int | float | str)}
        return {
            "dados": [list(data.classes), *images, self.check_sum],
            "otimizador": [type(self.optimizer).__name__, options],
            "critério": [type(self.criterion).__name__, plain],
            "dispositivo": self.device.type,
        } | ({"professor": teacher.facts} if teacher else {})


class RandomState:
    """The generators that a network may draw from, for dropout: torch's own, and the device's."""

    def __init__(self, device: torch.device):
        self.device = device

    def state_dict(self) -> dict:
        """The states of both; on a CPU they are one."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return states

    def load_state_dict(self, state: dict) -> None:
        """Draw from there on what would have been drawn."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(state["mps"])


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
    earlier = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in heeded}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _check_sum(splits: list[Split]) -> int:
    """Of the images and labels, in order, to tell other data by."""
    total = 0
    for split in splits:
        for part in (split.images, split.labels):
            total = zlib.crc32(part.cpu().contiguous().numpy().data, total)
    return total
