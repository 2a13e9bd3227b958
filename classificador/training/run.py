"""A training under way: what it is made of, what a point to go on from holds of it, and the signals that stop it."""

import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from classificador import processes
from classificador.data.dataset import Split
from classificador.device import describe_device, place
from classificador.errors import DivergenceError, NotFiniteError
from classificador.network.cnn import epochs_trained
from classificador.training.batches import Batches
from classificador.training.history import Clock, History, Tally
from classificador.training.resume import ModelState, OptimizerState, RandomState, Stateful, save_state
from classificador.training.run_folder import RunFolder
from classificador.training.watchers import Watcher, trained_with

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
        self.parts: dict[str, Stateful] = {
            "model": ModelState(model),
            "optimizer": OptimizerState(optimizer),
            "batches": batches,
            "random": RandomState(self.device),
            "history": self.history,
            "tally": self.tally,
            "clock": self.clock,
        }
        self.watchers: list[Watcher] = []
        self.folder: RunFolder | None = None  # where the point to go on from is kept; None: this process writes nothing
        self.kept_at = 0.0  # seconds of the run
        self.reporting = False  # whether the sums were read after the last batch
        self.logits = torch.empty(0)  # what the network answers to the validation images, after an epoch
        self.fingerprint = _check_sum([self.data.train, self.data.val])
        processes.check_same((self.fingerprint, batches.teacher and batches.teacher.facts))

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

    def keep(self, asked: int) -> None:
        """Write the point to go on from, if this process does; asked: the signal that asked to stop, 0 for none."""
        state = self.state_dict()
        if self.folder:
            if asked == signal.SIGINT:
                self.folder.facts["job"] = ""  # it is meant: torchrun is not to go on with this run by itself
            facts = {"setup": self.setup(), "earlier": self.folder.earlier}
            try:
                save_state(self.folder.resume, state, self.settings, facts)
            except NotFiniteError as error:
                raise self.divergence() from error
        self.kept_at = self.clock.seconds

    def divergence(self) -> DivergenceError:
        """The error that names the place and the remedy."""
        epoch, lr = len(self.history.val_loss), self.optimizer.param_groups[0]["initial_lr"]
        return DivergenceError(
            f"O treino divergiu (perda não finita ou enorme): época {epoch + 1}, até o lote "
            f"{self.batches.done - epoch * self.batches.steps}, lr {lr:.2g}. Use um lr menor."
        )

    def state_dict(self) -> dict:
        """All that the rest of the run depends on. Of several processes each has to ask for it."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there. Raises an exception of any kind for what no run leaves."""
        if len(state["history"]["val_loss"]) != state["batches"]["done"] // self.batches.steps:
            raise ValueError("história incompleta")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.kept_at = self.clock.seconds

    def setup(self) -> dict:
        """What must be as it was for the run to go on, under the names a reader finds in the message."""
        data, teacher = self.data, self.batches.teacher
        images = [len(data.train), len(data.val), data.train.images.shape[-1]]
        return {
            "dados": [list(data.classes), *images, self.fingerprint],
            "otimizador": OptimizerState(self.optimizer).options(),
            "critério": [type(self.criterion).__name__, _plain_attributes(self.criterion)],
            "dispositivo": self.device.type,
        } | ({"professor": teacher.facts} if teacher else {})

    def facts(self) -> dict:
        """What its record says of the run."""
        data = {"classes": list(self.data.classes), "train": len(self.data.train), "val": len(self.data.val)}
        return {
            "device": describe_device(self.device),
            "processes": processes.size(),
            "job": processes.job(),
            "data": data | {"crc32": f"{self.fingerprint:08x}"},
            "settings": trained_with(self),
        }


class StopRequest:
    """`number` is that of the first signal that asked to stop, 0 while none has."""

    number = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP end nothing; they set `.number` of what the block gets.

    An exception in the middle of an optimizer step would leave half of the weights updated: no run could go on from
    there as if nothing had happened. A signal that was ignored before stays so, as under nohup. Outside the main thread
    signals cannot be caught, and none is noted.
    """
    request = StopRequest()

    def note(number, frame) -> None:
        request.number = request.number or number

    main = threading.current_thread() is threading.main_thread()
    heeded = [number for number in STOPPING if main and signal.getsignal(number) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, note) for number in heeded}
    try:
        yield request
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


def _plain_attributes(criterion: nn.Module) -> dict:
    """The plain attributes of a loss, such as label_smoothing; its repr does not show them."""
    return {name: value for name, value in vars(criterion).items() if isinstance(value, int | float | str)}
