"""What is recorded of a training: `history.csv` and `run.json` in its folder, and the facts beside its weights."""

import csv
import io
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from classificador import processes
from classificador.atomic import write_bytes
from classificador.data.dataset import ImageData, Split
from classificador.device import describe_device, precision
from classificador.errors import WriteError
from classificador.network.model_info import SHARES, info_of, set_info
from classificador.portuguese import number, tell
from classificador.recipes import FEW, SIZES
from classificador.results.predict import fit_doubt, fit_temperature
from classificador.training.history import COLUMNS
from classificador.training.trainer import Trainer

PACKAGES = ("torch", "numpy", "scikit-learn", "pillow")
VALIDATED = ("validated_on", "temperature", "doubt_below", "known")  # the facts that validation gives
STATUS = {"running": "em andamento", "finished": "completo", "interrupted": "interrompido", "failed": "falhou"}


class Record:
    """The record of a training in its folder: history.csv, and run.json, which says what trains and how it goes."""

    def __init__(self, folder: Path, trainer: Trainer, checkpoint: str):
        self.folder, self.history = folder, trainer.history
        self.facts = {"checkpoint": checkpoint} | run_facts(trainer)
        self.is_written = True  # as long as it can be

    def write(self, status: str = "running") -> None:
        """Write both files anew; status: of STATUS. Where that fails it is said once, and the training goes on."""
        rows, history = io.StringIO(), self.history
        table = csv.writer(rows, lineterminator="\n")
        table.writerow(["epoch", *COLUMNS])
        values = zip(*(getattr(history, name) for name in COLUMNS), strict=True)
        table.writerows([epoch, *row] for epoch, row in enumerate(values, 1))
        metrics: dict[str, float] = {"epochs": len(history.val_loss)}
        if history.val_loss:
            best = history.best
            metrics |= {"best_epoch": best + 1, "val_accuracy": history.val_accuracy[best]}
            metrics |= {"val_loss": history.val_loss[best], "seconds": history.seconds[-1]}
        run = {"status": status} | self.facts | {"metrics": metrics}
        try:
            if self.is_written:
                write_bytes(self.folder / "history.csv", rows.getvalue().encode())
                write_bytes(self.folder / "run.json", json.dumps(run, ensure_ascii=False, indent=2).encode())
        except WriteError as error:
            self.is_written = False
            tell(f"O treino segue, mas sem registro: {error}")


@contextmanager
def recording(trainer: Trainer, record: Record | None) -> Iterator[None]:
    """Let the record say how the training under way ended, and the model for how many epochs it has learnt."""
    if record:
        record.write()
    status = "failed"
    try:
        yield
        status = "interrupted" if trainer.history.interrupted else "finished"
    finally:
        earlier, epoch = trainer.history.earlier_epochs, trainer.batches.done / trainer.batches.steps_per_epoch
        info = replace(info_of(trainer.model), classes=trainer.data.classes, framing=trainer.data.framing)
        set_info(trainer.model, replace(info, earlier_epochs=earlier, epoch=epoch))
        if record:
            record.write(status)


def run_facts(trainer: Trainer) -> dict[str, Any]:
    """What run.json says of a run that begins: of what it is made, where, when and by which versions it trains."""
    classes, train, val, side, check_sum = trainer.data_fingerprint
    if trainer.settings.preset == FEW:  # learnt from, too
        train, val = train + val, 0
    seen = {"side": side, "framing": trainer.data.framing}
    return {
        "device": describe_device(trainer.device),
        "processes": processes.world_size(),
        "data": {"classes": classes, "train": train, "val": val, "crc32": check_sum, **seen},
        "settings": trained_with(trainer),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "started": _now(),
    }


def model_facts(trainer: Trainer, logits: torch.Tensor) -> dict[str, Any]:
    """What a file says of weights beside what the model knows itself: how good they are, when and how they were made.

    logits: what the network answers to the validation images, N×classes, to which a temperature is fitted.
    """
    history, data, info = trainer.history, trainer.data, info_of(trainer.model)
    temperature = fit_temperature(logits, trainer.judged.labels)
    probabilities = (logits / temperature).softmax(1)
    train, val = (number(len(split.labels), 0) for split in (data.train, trainer.judged))
    crossed, apart = f"{val} imagens de treino; validação cruzada", f"{train} imagens de treino, {val} de validação"
    return {
        "preset": trainer.settings.preset,
        "settings": trained_with(trainer),
        "start": info.start,
        "earlier_epochs": history.earlier_epochs,
        "classes": list(data.classes),
        "framing": data.framing,
        "epoch": len(history.val_loss),
        "val_accuracy": history.val_accuracy[-1],
        "val_loss": history.val_loss[-1],
        "seconds": history.seconds[-1],
        "created": _now(),
        "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
        "precision": "float32" if trainer.settings.preset == FEW else precision(trainer.device),
        "teacher": trainer.batches.teacher.fingerprint if trainer.batches.teacher else {},
        "split": crossed if trainer.judged is not data.val else apart,
        "validated_on": len(trainer.judged),
        "temperature": temperature,
        "doubt_below": fit_doubt(probabilities),
        "known": known_pictures(trainer.data, trainer.judged, probabilities) if data.few else {},
    }


def known_pictures(data: ImageData, judged: Split, probabilities: torch.Tensor) -> dict[str, list[int]]:
    """Return by its key what was answered to each picture (N×classes) by who had not seen it; [] where all had."""
    if judged is data.val:  # which chose the epoch, but taught nothing
        return dict.fromkeys(data.train.keys, list[int]())
    return dict(zip(judged.keys, (SHARES * probabilities).round().int().tolist(), strict=True))


def trained_with(trainer: Trainer) -> dict[str, Any]:
    """The settings, read from the things that train wherever they know: whatever a settings cell says by now."""
    info, group, settings = info_of(trainer.model), trainer.optimizer.param_groups[0], trainer.settings
    read = {name: info.architecture[name] for name in ("symmetric", *SIZES) if name in info.architecture}
    read |= {"optimizer": type(trainer.optimizer).__name__, "lr": group["initial_lr"]}
    read |= {name: group[name] for name in ("weight_decay", "betas") if name in group}
    read |= {"loss": type(trainer.criterion).__name__, "network_seed": info.seed, "start_from": info.start or "zero"}
    read |= {name: value for name, value in vars(trainer.criterion).items() if name == "label_smoothing"}
    values = asdict(settings) | read
    if settings.preset == FEW:  # nothing else of them trains
        values = {name: values[name] for name in ("preset", "epochs", "symmetric", *SIZES, "seed", "start_from")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a training."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git_commit() -> str | None:
    """The commit of this code, with "-dirty" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
