"""What happens in a training: a point for each epoch, the means of the epoch under way, and the time."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from classificador import processes

ASLEEP = 600.0  # seconds that no step and no validation takes: a laptop that was closed
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")


@dataclass
class History:
    """An entry for each complete epoch: mean loss per image, accuracy as a fraction, seconds since the run began."""

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)  # [epoch, loss, accuracy] within the epochs
    interrupted: int = 0  # the signal that ended the run early (2: Ctrl-C), 0 if none did
    earlier_epochs: float = 0.0  # of trainings before, whose weights this one began with

    @property
    def best(self) -> int:
        """Index of the epoch with the highest validation accuracy, of equals the lowest loss. ValueError if empty."""
        return max(range(len(self.val_loss)), key=lambda epoch: (self.val_accuracy[epoch], -self.val_loss[epoch]))

    @property
    def is_at_its_best(self) -> bool:
        """Whether the last complete epoch is the best so far."""
        return self.best == len(self.val_loss) - 1

    def add(self, *numbers: float) -> None:
        """Add an epoch: its numbers in the order of COLUMNS."""
        for name, number in zip(COLUMNS, numbers, strict=True):
            getattr(self, name).append(number)

    def state_dict(self) -> dict[str, Any]:
        """The history as plain lists, for a resume point or a JSON file."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the history of a run that goes on. Raises ValueError or TypeError for what is none."""
        history = History(**state | {"interrupted": 0})
        columns = [getattr(history, name) for name in COLUMNS]
        if len(set(map(len, columns))) > 1 or any(len(point) != 3 for point in history.steps):
            raise ValueError("história incompleta")
        numbers = [value for series in [*columns, *history.steps] for value in series] + [history.earlier_epochs]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise ValueError("história impossível")
        vars(self).update(vars(history))


class Tally:
    """The loss and the right answers of the epoch under way.

    They stay tensors: to read a value at every step would make a GPU wait.
    """

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(3, device=device)  # of the images seen: losses, right answers, how many they are
        self.loss = self.accuracy = 0.0  # means over the images, when they were last read

    def clear(self) -> None:
        """Begin an epoch."""
        self.sums = torch.zeros_like(self.sums)

    def add(self, loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count a batch: the mean loss of its images, and where its logits, N×classes, are highest."""
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        right, count = (logits.argmax(1) == labels).sum(), torch.full_like(loss, len(labels))
        self.sums += torch.stack([loss * count, right.float(), count])

    def read(self) -> None:
        """Read the means over what all processes have seen of the epoch."""
        loss, right, count = processes.all_reduce(self.sums).tolist()
        self.loss, self.accuracy = loss / count, right / count

    def state_dict(self) -> dict[str, Any]:
        """The sums of all processes, each of which has to ask for them."""
        return {"sums": processes.all_reduce(self.sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: rank 0 holds what all had. Raises ValueError for other sums."""
        if state["sums"].shape != self.sums.shape:
            raise ValueError("somas impossíveis")
        self.sums = state["sums"].to(self.sums) * (processes.rank() == 0)


class Clock:
    """The seconds of a run, without those in which it was interrupted, or the computer slept."""

    def __init__(self) -> None:
        self.started = self.ticked = time.perf_counter()

    def tick(self) -> None:
        """Note that the run goes on: more than ASLEEP seconds since the last time do not count."""
        now = time.perf_counter()
        if now - self.ticked > ASLEEP:
            self.started += now - self.ticked
        self.ticked = now

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.started

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError or OverflowError for what is no time."""
        if not math.isfinite(seconds := float(state["seconds"])):
            raise ValueError("tempo impossível")
        self.ticked = time.perf_counter()
        self.started = self.ticked - seconds
