"""What a run leaves to be compared with others: `history.csv`, `run.json` and, where installed, TensorBoard events."""

import csv
import io
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

from classificador.atomic import write_bytes
from classificador.brazilian import reason
from classificador.errors import CheckpointError, brief
from classificador.history import History
from classificador.settings import Settings

FOLDER_VARIABLE = "CLASSIFICADOR_RUN"  # the folder to use, as `make run` sets it
PACKAGES = ("torch", "numpy", "scikit-learn", "pillow")
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
STATUS = {"running": "em andamento", "finished": "completo", "interrupted": "interrompido", "failed": "falhou"}


class RunRecord:
    """The folder of one run: runs/DATE-RECIPE beside the checkpoint. Use it in a `with` block.

    It is only a record: where it cannot be written that is said once and the training goes on.
    """

    def __init__(self, checkpoint: str | Path, settings: Settings):
        self.runs, self.name = Path(checkpoint).parent / "runs", ""
        self.facts = {"checkpoint": Path(checkpoint).name, "settings": settings.to_dict()}
        self.history = History()
        self._writes, self._events, self._events_until = True, None, 0

    def __enter__(self) -> "RunRecord":
        return self

    def __exit__(self, kind: type | None, *error) -> None:
        if self.name:  # it was begun
            self.update(self.history, "failed" if kind else "interrupted" if self.history.interrupted else "finished")
        if self._events:
            self._events.close()

    @property
    def folder(self) -> Path:
        """Where the record is written."""
        return Path(os.environ.get(FOLDER_VARIABLE) or self.runs / self.name)

    def begin(self, facts: dict, history: History, name: str = "") -> None:
        """Open the folder `name`, of the run that is resumed, or else a new one.

        facts: plain values for run.json. history: with the epochs of a resumed run.
        """
        self.name = name if re.fullmatch(r"[\w-]+", name) and (self.runs / name).is_dir() else self._new_folder()
        self.facts |= facts | {
            "versions": {"python": platform.python_version()} | _versions(),
            "git_commit": _commit(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._events_until = len(history.val_loss)
        self.update(history)

    def update(self, history: History, status: str = "running") -> None:
        """Write what is known by now."""
        self.history = history
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        table.writerow(["epoch", *COLUMNS])
        values = zip(*(getattr(history, name) for name in COLUMNS), strict=True)
        table.writerows([epoch, *row] for epoch, row in enumerate(values, 1))
        facts = {"status": status} | self.facts | {"metrics": _metrics(history)}
        if self._writes:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self.folder / "history.csv", rows.getvalue().encode())
                write_bytes(self.folder / "run.json", json.dumps(facts, ensure_ascii=False, indent=2).encode())
                self._write_events(history)
            except (OSError, CheckpointError) as error:
                self._writes = False
                tqdm.write(f"O treino segue, mas sem registro em {self.folder}: {reason(error)}", file=sys.stdout)

    def _new_folder(self) -> str:
        """Make a folder that is this run's alone, and return its name."""
        base = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{self.facts['settings']['preset']}"
        if os.environ.get(FOLDER_VARIABLE):
            return base
        for name in (base, *(f"{base}-{number}" for number in range(2, 100))):
            try:
                (self.runs / name).mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError:
                break  # update() tells
            return name
        return base

    def _write_events(self, history: History) -> None:
        """The newest epoch for TensorBoard, if that is installed."""
        if len(history.val_loss) <= self._events_until:
            return
        if self._events is None:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(self.folder)
            except ImportError:
                return
            except Exception as error:  # installed, but broken
                self._events_until = float("inf")
                tqdm.write(f"Sem eventos para o TensorBoard: {brief(error)}", file=sys.stdout)
                return
        for name in COLUMNS[:-1]:
            part, what = name.split("_")
            self._events.add_scalar(f"{what}/{part}", getattr(history, name)[-1], len(history.val_loss))
        self._events.flush()
        self._events_until = len(history.val_loss)


def has_finished(checkpoint: str | Path, job: str) -> bool:
    """Whether the training of this name (distributed.job()) that writes `checkpoint` is over, as its record says."""
    for file in (Path(checkpoint).parent / "runs").glob("*/run.json"):
        with suppress(OSError, ValueError, AttributeError):
            facts = json.loads(file.read_text(encoding="utf-8"))
            told = [facts.get(name) for name in ("status", "job", "checkpoint")]
            if job and told == ["finished", job, Path(checkpoint).name]:
                return True
    return False


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
