"""What happens in a training, and what is recorded of it: in `history.csv`, in `run.json`, and beside the weights."""

import csv
import io
import json
import math
import platform
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from classificador import processes
from classificador.atomic import write_bytes
from classificador.device import describe_device, precision
from classificador.network.cnn import architecture_of
from classificador.portuguese import number

if TYPE_CHECKING:
    from classificador.training.run import Run

PACKAGES = ("torch", "numpy", "scikit-learn", "pillow")
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
STATUS = {"running": "em andamento", "finished": "completo", "interrupted": "interrompido", "failed": "falhou"}


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

    def to_dict(self) -> dict:
        """The history as plain lists, for a checkpoint or a JSON file."""
        return asdict(self)

    state_dict = to_dict

    def load_state_dict(self, state: dict) -> None:
        """Become the history of a run that goes on. Raises ValueError or TypeError for what is none."""
        history = History(**state | {"interrupted": 0})
        points = [getattr(history, name) for name in COLUMNS]
        if len(set(map(len, points))) > 1 or any(len(point) != 3 for point in history.steps):
            raise ValueError("história incompleta")
        numbers = [value for series in [*points, *history.steps] for value in series] + [history.earlier_epochs]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise ValueError("história impossível")
        vars(self).update(vars(history))


class Tally:
    """The loss and the right answers of the epoch under way.

    They stay tensors: to read a value at every step would make a GPU wait.
    """

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(2, device=device)
        self.loss = self.accuracy = 0.0  # means, when they were last read

    def clear(self) -> None:
        """Begin an epoch."""
        self.sums = torch.zeros_like(self.sums)

    def add(self, loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count a batch: its loss, summed over the images, and where its logits are highest."""
        wanted = targets if targets.ndim == 1 else targets.argmax(1)
        self.sums += torch.stack([loss, (logits.argmax(1) == wanted).sum().float()])

    def read(self, images: int) -> None:
        """Read the means over all processes, which have seen so many images in the epoch."""
        self.loss, self.accuracy = (value / images for value in processes.total(self.sums).tolist())

    def state_dict(self) -> dict:
        """The sums of all processes, each of which has to ask for them."""
        return {"sums": processes.total(self.sums)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there: the first process holds what all had. Raises ValueError for other sums."""
        if state["sums"].shape != (2,):
            raise ValueError("somas impossíveis")
        self.sums = state["sums"].to(self.sums) * (processes.rank() == 0)


class Clock:
    """The seconds of a run, without those in which it was interrupted."""

    def __init__(self):
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.started

    def state_dict(self) -> dict:
        """The seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there. Raises ValueError or OverflowError for what is no time."""
        if not math.isfinite(seconds := float(state["seconds"])):
            raise ValueError("tempo impossível")
        self.started = time.perf_counter() - seconds


def write_record(folder: Path, facts: dict, history: History, status: str) -> None:
    """Write both files anew; status: of STATUS. Raises CheckpointError."""
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["epoch", *COLUMNS])
    values = zip(*(getattr(history, name) for name in COLUMNS), strict=True)
    table.writerows([epoch, *row] for epoch, row in enumerate(values, 1))
    facts = {"status": status} | facts | {"metrics": _metrics(history)}
    write_bytes(folder / "history.csv", rows.getvalue().encode())
    write_bytes(folder / "run.json", json.dumps(facts, ensure_ascii=False, indent=2).encode())


def read_record(folder: Path) -> dict:
    """Return what the folder's run.json holds; nothing where it holds no record."""
    with suppress(OSError, ValueError, RecursionError):
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}
    return {}


def run_facts(run: "Run") -> dict:
    """What run.json says of a run that begins: of what it is made, where, when and by which versions it trains."""
    data = {"classes": list(run.data.classes), "train": len(run.data.train), "val": len(run.data.val)}
    return {
        "device": describe_device(run.device),
        "processes": processes.size(),
        "job": processes.job(),
        "data": data | {"crc32": f"{run.check_sum:08x}"},
        "settings": trained_with(run),
        "versions": {"python": platform.python_version()} | _versions(),
        "git_commit": _commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def model_facts(run: "Run") -> dict:
    """The plain metadata that travels with the weights: what they are, how good, when and how made."""
    history, data = run.history, run.data
    return {
        "preset": run.settings.preset,
        "settings": trained_with(run),
        "start": vars(run.model).get("start", ""),
        "earlier_epochs": history.earlier_epochs,
        "classes": list(data.classes),
        "framing": data.framing,
        "epoch": len(history.val_loss),
        "val_accuracy": history.val_accuracy[-1],
        "val_loss": history.val_loss[-1],
        "seconds": history.seconds[-1],
        "history": history.to_dict(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
        "precision": precision(run.device),
        "teacher": run.batches.teacher.facts if run.batches.teacher else {},
        "split": f"{number(len(data.train), 0)} imagens de treino, {number(len(data.val), 0)} de validação",
    }


def trained_with(run: "Run") -> dict:
    """The settings, read from the things that train wherever they know: whatever a settings cell says by now."""
    architecture, group = architecture_of(run.model), run.optimizer.param_groups[0]
    read = {name: architecture[name] for name in ("symmetric", *run.settings.sizes) if name in architecture}
    read |= {"optimizer": type(run.optimizer).__name__, "lr": group["initial_lr"]}
    read |= {name: group[name] for name in ("weight_decay", "betas") if name in group}
    read["start_from"] = vars(run.model).get("start", "zero")
    read |= {"loss": type(run.criterion).__name__, "network_seed": vars(run.model).get("seed")}
    read |= {name: value for name, value in vars(run.criterion).items() if name == "label_smoothing"}
    return run.settings.to_dict() | {name: list(v) if isinstance(v, tuple) else v for name, v in read.items()}


def _metrics(history: History) -> dict:
    if not history.val_accuracy:
        return {"epochs": 0}
    best = history.best
    return {
        "epochs": len(history.val_loss),
        "best_epoch": best + 1,
        "val_accuracy": history.val_accuracy[best],
        "val_loss": history.val_loss[best],
        "seconds": history.seconds[-1],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _commit() -> str | None:
    """The commit of this code, with "-dirty" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
