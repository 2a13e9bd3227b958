"""Who watches a training: the files it leaves, the curves and the progress bar. None of them changes it."""

import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from classificador.device import precision
from classificador.network.cnn import architecture_of
from classificador.portuguese import number, percent
from classificador.results.predict import fit_doubt, fit_temperature
from classificador.training.history import History
from classificador.training.run_folder import RunFolder

if TYPE_CHECKING:
    from classificador.training.run import Run


class Watcher:
    """The two events. Nothing happens at either, unless a kind of watcher says otherwise."""

    def batch(self, run: "Run") -> None:
        """After a batch; run.reporting: whether it is one of some twenty an epoch after which the sums are read."""

    def epoch(self, run: "Run") -> None:
        """After an epoch was validated; run.logits: what the network answers to the validation images."""


class KeepFiles(Watcher):
    """Keeps the weights when they are the run's best so far on the validation images, and the record of each epoch."""

    def __init__(self, folder: RunFolder):
        self.folder = folder

    def epoch(self, run: "Run") -> None:
        """Save, with the temperature and the threshold of doubt that fit these weights."""
        if self.folder.score is None or run.history.best == len(run.history.val_loss) - 1:
            temperature = fit_temperature(run.logits, run.data.val.labels)
            doubt = fit_doubt((run.logits / temperature).softmax(1))
            self.folder.save(run.model, describe(run) | {"temperature": temperature, "doubt_below": doubt})
        self.folder.record(run.history)


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


def describe(run: "Run") -> dict:
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
        "precision": precision(run.logits.device),
        "teacher": run.batches.teacher.facts if run.batches.teacher else {},
        "split": f"{number(len(data.train), 0)} imagens de treino, {number(len(data.val), 0)} de validação",
    }


class Curves(Watcher):
    """Hands the history to who draws it."""

    def __init__(self, draw: Callable[[History], None]):
        self.draw = draw

    def batch(self, run: "Run") -> None:
        """A few times an epoch."""
        if run.reporting:
            self.draw(run.history)

    def epoch(self, run: "Run") -> None:
        """After each epoch."""
        self.draw(run.history)


class ProgressBar(Watcher):
    """A bar of all batches of the run, and a line an epoch. Use it in a `with` block."""

    def __init__(self, run: "Run"):
        total = run.settings.epochs * run.batches.steps
        options = {"unit": "lote", "file": sys.stdout, "mininterval": 0.5, "dynamic_ncols": True}
        self.bar = tqdm(total=total, initial=run.batches.done, **options)
        self.epochs = run.settings.epochs
        for epoch in range(len(run.history.val_loss)):  # of the run that is resumed
            self._tell(run.history, epoch)
        self._name_epoch(run.history)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def batch(self, run: "Run") -> None:
        """Move on; a few times an epoch, show the loss."""
        if run.reporting:
            means = f"perda {number(run.tally.loss, 3)}, acurácia {percent(run.tally.accuracy)}"
            self.bar.set_postfix_str(means, refresh=False)
        self.bar.update()

    def epoch(self, run: "Run") -> None:
        """Leave a line."""
        self._tell(run.history, len(run.history.val_loss) - 1)
        self._name_epoch(run.history)

    def write(self, text: str) -> None:
        """Leave a line of another's."""
        self.bar.write(text, file=sys.stdout)

    def _name_epoch(self, history: History) -> None:
        self.bar.set_description(f"Época {min(len(history.val_loss) + 1, self.epochs)}/{self.epochs}")

    def _tell(self, history: History, epoch: int) -> None:
        self.write(
            f"Época {epoch + 1}/{self.epochs}: "
            f"perda {number(history.train_loss[epoch], 3)}, validação {number(history.val_loss[epoch], 3)}; "
            f"acurácia {percent(history.train_accuracy[epoch])}, validação {percent(history.val_accuracy[epoch])}"
        )
