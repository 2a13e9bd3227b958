"""One run = one folder: `runs/DATE-RECIPE` holds all that a training writes; `best_model.pth` is a copy of its best.

In the folder: the best weights, under the name of the file at the top; while the run is not over, the point to go on
from; `history.csv`; and `run.json`, what trained and how it went. `make run` names the folder DATE-caderno and adds the
executed notebook; DATE-anterior is no run, but what lay at the top before one.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from classificador.atomic import remove_unfinished, reserve, write_bytes
from classificador.drives import HELD, patiently
from classificador.errors import CheckpointError, WriteError
from classificador.files.model_file import read_checkpoint, save_checkpoint
from classificador.paths import as_path
from classificador.portuguese import percent, reason, tell

OTHERS = {".onnx", ".html", ".json", ".csv", ".ipynb", ".zip", ".png", ".jpg"}  # what no weights are to be called
NAME_VARIABLE = "CLASSIFICADOR_RUN"  # the name that the next run's folder is to have, as `make run` sets it


class Runs:
    """The folders of the runs that renew one file, `checkpoint`: they lie in runs/, beside it."""

    def __init__(self, checkpoint: str | Path):
        self.checkpoint = as_path(checkpoint, WriteError)
        self.folder = self.checkpoint.parent / "runs"
        self.resume_name = f"{self.checkpoint.stem}.retomar{self.checkpoint.suffix}"  # of the resume point

    def check(self) -> None:
        """Raise WriteError where weights could not be saved, by the file's name or because of its folder."""
        if (suffix := self.checkpoint.suffix.lower()) in OTHERS:
            better = self.checkpoint.with_suffix(".pth")
            raise WriteError(f"{self.checkpoint}: aqui vão pesos do PyTorch, não {suffix}.", f"Use {better}.")
        reserve(self.checkpoint).release()

    def holding(self, name: str) -> Iterator[Path]:
        """The files of this name in the folders; not by a pattern, which the name may contain."""
        return (folder / name for folder in self.folder.glob("*") if (folder / name).is_file())

    def interrupted(self) -> Path | None:
        """The resume point of the run interrupted last, or under way; None: there is none."""
        return max(self.holding(self.resume_name), key=lambda file: file.stat().st_mtime_ns, default=None)

    def left_since(self, moment: float) -> str:
        """What the run left that began last, if it began at `moment`, seconds since 1970, or later.

        "interrupted": a resume point; "finished"; or "".
        """
        since = datetime.fromtimestamp(int(moment), UTC).isoformat(timespec="seconds")
        records = {folder: _read_record(folder) for folder in self.folder.glob("*")}
        ours = {"checkpoint": self.checkpoint.name}.items()
        began = {folder: str(record.get("started")) for folder, record in records.items() if record.items() >= ours}
        last = max(began, key=lambda folder: began[folder], default=None)
        if last is None or began[last] < since:
            return ""
        if (last / self.resume_name).is_file():
            return "interrupted"
        return "finished" if records[last]["status"] == "finished" else ""

    def new(self, label: str) -> Path:
        """Make a folder named after now and `label`, that nothing else has. Raises WriteError."""
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{label}"
        for folder in (self.folder / (name if number == 1 else f"{name}-{number}") for number in count(1)):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                continue
            except OSError as error:
                problem = f"Não é possível gravar em {folder}: {reason(error)}."
                raise WriteError(problem, "Escolha outro caminho para o modelo.") from error
        return folder

    def next(self, recipe: str) -> Path:
        """The folder that the environment names, if no run has it yet, or else a new one. Raises WriteError."""
        given = self.folder / os.environ.get(NAME_VARIABLE, "")
        is_free = given != self.folder and given.is_dir() and not (given / "run.json").exists()
        return given if is_free else self.new(recipe)


class RunFolder:
    """The folder of one run, and the file `checkpoint`, which it updates. Use it in a `with` block.

    `checkpoint` is this run's alone until the block ends. What it held before is set aside: in the folder of the run
    that made it, or else in one of its own; and is there again if this run fails before it is better.
    """

    def __init__(self, runs: Runs):
        self.runs, self.checkpoint = runs, runs.checkpoint
        self.path = runs.folder  # its own once begin() has been called
        self.score: float | None = None  # of the best weights of this run, None before the first
        self.earlier = ""  # the name of the folder in runs/ that has what `checkpoint` held before; "": none
        self._is_updated = False  # `checkpoint`, once

    @property
    def best(self) -> Path:
        """The file of this run's best weights."""
        return self.path / self.checkpoint.name

    @property
    def resume_point(self) -> Path:
        """The file of the resume point."""
        return self.path / self.runs.resume_name

    def __enter__(self) -> "RunFolder":
        """Check now, not after the first epoch, that we can write, and only we. Raises WriteError."""
        self._lock = reserve(self.checkpoint)
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            self._compare_with_earlier(failed=kind is not None)
        finally:
            self._lock.release()

    def begin(self, recipe: str, interrupted: Path | None = None, earlier: str = "") -> None:
        """Make the folder, or go on in that of a run that was interrupted. Raises WriteError.

        interrupted: the resume point. earlier: the name of the folder that has what `checkpoint` held
        before that run.
        """
        self.path = interrupted.parent if interrupted else self.runs.next(recipe)
        if interrupted:
            for file in (self.best, self.resume_point, self.path / "history.csv", self.path / "run.json"):
                remove_unfinished(file)
            self.earlier = earlier if re.fullmatch(r"[\w-]+", earlier) else ""
        if self.best.exists():
            self.score = read_checkpoint(self.best).info.val_accuracy
            self._update_checkpoint()

    def save(self, model: nn.Module, facts: dict[str, Any]) -> None:
        """Save the weights, this run's best so far; facts: as in pack(). Raises CheckpointError and WriteError."""
        save_checkpoint(self.best, model, facts | {"run": self.path.name})
        self.score = facts["val_accuracy"]
        self._update_checkpoint()

    def kept(self) -> str:
        """What is said of a run that was interrupted; of one that left nothing to go on from no record stays."""
        if self.resume_point.exists():
            return f"guardado em {self.resume_point}, para retomar"
        with suppress(OSError):  # the folder may hold what `make run` puts there
            for name in ("history.csv", "run.json"):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()
        return "nada foi gravado"

    def remove_resume_point(self) -> None:
        """Remove the resume point: the run is over."""
        with suppress(FileNotFoundError):
            patiently(lambda: os.unlink(self.resume_point), HELD)

    def _update_checkpoint(self) -> None:
        """Copy our best weights to `checkpoint`; the first time, set aside what it held."""
        if not self._is_updated and self.checkpoint.exists():
            self._set_aside()
        write_bytes(self.checkpoint, self.best.read_bytes())
        self._is_updated = True

    def _set_aside(self) -> None:
        try:
            if read_checkpoint(self.checkpoint).info.run == self.path.name:
                return  # of ours, from before an interruption
        except CheckpointError:
            pass  # whatever it is, it is the user's
        try:
            data = self.checkpoint.read_bytes()
        except OSError as error:
            problem = f"{self.checkpoint} não pôde ser guardado: {reason(error)}."
            raise WriteError(problem, "Mude-o de lugar.") from error
        copies = (file for file in self.runs.holding(self.checkpoint.name) if file.stat().st_size == len(data))
        copy = next((file for file in copies if file.read_bytes() == data), None)
        if copy is None:
            copy = self.runs.new("anterior") / self.checkpoint.name
            write_bytes(copy, data)
        self.earlier = copy.parent.name
        tell(f"O que estava em {self.checkpoint} está guardado em {copy}.")

    def _compare_with_earlier(self, failed: bool) -> None:
        """Where what `checkpoint` held before is better, say so; after a failure, let it be there again."""
        earlier = self.runs.folder / self.earlier / self.checkpoint.name
        if not self.earlier or self.score is None or (better := _score(earlier, self.best)) <= self.score:
            return
        if failed:
            write_bytes(self.checkpoint, earlier.read_bytes())
        now = "está de volta" if failed else f"está guardado em {earlier}"
        scores = f"{percent(better, 2)} contra {percent(self.score, 2)}"
        tell(f"O modelo anterior era melhor na validação ({scores}) e {now}.")


def _score(path: Path, ours: Path) -> float:
    """The validation accuracy of the model in `path`; -1 if it is unreadable or knows other classes than `ours`."""
    try:
        info = read_checkpoint(path).info
        return info.val_accuracy if info.classes == read_checkpoint(ours).info.classes else -1.0
    except CheckpointError:
        return -1.0


def _read_record(folder: Path) -> dict[str, Any]:
    """What the folder's run.json holds; nothing where it holds no record."""
    with suppress(OSError, ValueError, RecursionError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}
