"""One run = one folder: `runs/DATE-RECIPE` holds all that a training writes; `best_model.pth` is a copy of its best.

In the folder: the best weights, under the name of the file at the top; while the run is not over, the point to go on
from; `history.csv`; and `run.json`, what trained and how it went. `make run` names the folder DATE-caderno and adds the
executed notebook; DATE-anterior is no run, but what lay at the top before one.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from tqdm import tqdm

from classificador.atomic import remove_unfinished, reserve, retry, write_bytes
from classificador.errors import CheckpointError, WriteError
from classificador.files.model_file import read_checkpoint, save_checkpoint
from classificador.portuguese import percent, reason
from classificador.results.predict import fit_doubt, fit_temperature
from classificador.training.history import History, model_facts, write_record

if TYPE_CHECKING:
    from classificador.training.run import Run

NAME_VARIABLE = "CLASSIFICADOR_RUN"  # the name that the next run's folder is to have, as `make run` sets it


class RunFolder:
    """The folder of one run, and the file at the top that it renews. Use it in a `with` block.

    The file at the top is this run's alone until the block ends. What it held before stays: in the folder of the run
    that made it, or else in one of its own; and is there again if this run fails before it is better.
    """

    def __init__(self, checkpoint: str | Path):
        self.checkpoint, self.runs = Path(checkpoint), runs_beside(checkpoint)
        self.folder = self.runs  # its own once begin() has been called
        self.facts: dict = {"checkpoint": self.checkpoint.name}
        self.history: History | None = None  # of the run, once begin() has been called
        self.score: float | None = None  # of the best weights of this run, None before the first
        self.earlier = ""  # the name of the folder in runs/ that has what the file at the top held before; "": none
        self._renewed, self._recorded = False, True  # the file at the top, once; the record, as long as it can be

    @property
    def best(self) -> Path:
        """The file of this run's best weights."""
        return self.folder / self.checkpoint.name

    @property
    def resume(self) -> Path:
        """The file of the point to go on from."""
        return self.folder / resume_name(self.checkpoint)

    def __enter__(self) -> "RunFolder":
        """Check now, not after the first epoch, that we can write, and only we. Raises WriteError."""
        self._lock = reserve(self.checkpoint)
        return self

    def __exit__(self, kind: type | None, *error) -> None:
        try:
            if self.history:
                self._settle(failed=kind is not None)
                status = "failed" if kind else "interrupted" if self.history.interrupted else "finished"
                self.record(self.history, status)
                if status == "finished":  # after the record: a job started anew looks for one of the two
                    with suppress(FileNotFoundError):
                        retry(os.unlink, self.resume)
        finally:
            self._lock.release()

    def begin(self, facts: dict, history: History, interrupted: Path | None = None, earlier: str = "") -> None:
        """Make the folder, or go on in that of a run that was interrupted. Raises WriteError.

        facts: of run_facts(), for run.json. history: with the epochs so far. interrupted: the file of the point to go
        on from. earlier: the folder's name that has what the file at the top held before that run.
        """
        self.folder = interrupted.parent if interrupted else _new_folder(self.runs, facts["settings"]["preset"])
        self.facts |= facts
        if interrupted:
            for file in (self.best, self.resume, self.folder / "history.csv", self.folder / "run.json"):
                remove_unfinished(file)
            self.earlier = earlier if re.fullmatch(r"[\w-]+", earlier) else ""
        if self.best.exists():
            self.score = read_checkpoint(self.best).info.val_accuracy
            self._renew()
        self.record(history)

    def keep_best(self, run: "Run") -> None:
        """After an epoch: save the weights if they are the run's best so far, and renew the record."""
        if self.score is None or run.history.best == len(run.history.val_loss) - 1:
            temperature = fit_temperature(run.logits, run.data.val.labels)
            doubt = fit_doubt((run.logits / temperature).softmax(1))
            self.save(run.model, model_facts(run) | {"temperature": temperature, "doubt_below": doubt})
        self.record(run.history)

    def save(self, model: nn.Module, facts: dict) -> None:
        """Save the weights, this run's best so far; facts: as in pack(). Raises CheckpointError."""
        save_checkpoint(self.best, model, facts | {"run": self.folder.name})
        self.score = facts["val_accuracy"]
        self._renew()

    def record(self, history: History, status: str = "running") -> None:
        """Write history.csv and run.json; where that fails it is said once, and the training goes on."""
        self.history = history
        if self._recorded:
            try:
                write_record(self.folder, self.facts, history, status)
            except WriteError as error:
                self._recorded = False
                tqdm.write(f"O treino segue, mas sem registro: {error}")

    def _renew(self) -> None:
        """Let the file at the top be our best weights; the first time, see that what it held stays."""
        if not self._renewed and self.checkpoint.exists():
            self._keep_earlier()
        write_bytes(self.checkpoint, self.best.read_bytes())
        self._renewed = True

    def _keep_earlier(self) -> None:
        try:
            if read_checkpoint(self.checkpoint).info.run == self.folder.name:
                return  # of ours, from before an interruption
        except CheckpointError:
            pass  # whatever it is, it is the user's
        try:
            data = self.checkpoint.read_bytes()
        except OSError as error:
            text = f"{self.checkpoint} não pôde ser guardado: {reason(error)}. Mude-o de lugar."
            raise CheckpointError(text) from error
        copies = (file for file in _in_folders(self.runs, self.checkpoint.name) if file.stat().st_size == len(data))
        copy = next((file for file in copies if file.read_bytes() == data), None)
        if copy is None:
            copy = make_folder(self.runs, "anterior") / self.checkpoint.name
            write_bytes(copy, data)
        self.earlier = copy.parent.name
        tqdm.write(f"O que estava em {self.checkpoint} está guardado em {copy}.")

    def _settle(self, failed: bool) -> None:
        """Where what the file at the top held before is better, say so; after a failure, let it be there again."""
        earlier = self.runs / self.earlier / self.checkpoint.name
        if not self.earlier or self.score is None or (better := _score(earlier, self.best)) <= self.score:
            return
        if failed:
            write_bytes(self.checkpoint, earlier.read_bytes())
        now = "está de volta" if failed else f"está guardado em {earlier}"
        scores = f"{percent(better, 2)} contra {percent(self.score, 2)}"
        print(f"O modelo anterior era melhor na validação ({scores}) e {now}.")


def _score(path: Path, ours: Path) -> float:
    """The validation accuracy of the model in `path`; -1 if it is unreadable or knows other classes than `ours`."""
    try:
        info = read_checkpoint(path).info
        return info.val_accuracy if info.classes == read_checkpoint(ours).info.classes else -1.0
    except CheckpointError:
        return -1.0


def runs_beside(checkpoint: str | Path) -> Path:
    """Where the folders are of the runs that renew the file `checkpoint`."""
    return Path(checkpoint).parent / "runs"


def resume_name(checkpoint: str | Path) -> str:
    """The name, in its folder, of the file from which a run goes on that renews `checkpoint`."""
    return f"{Path(checkpoint).stem}.retomar{Path(checkpoint).suffix}"


def find_interrupted(checkpoint: str | Path) -> Path | None:
    """Return the file to go on from of the run interrupted last, of those that renew `checkpoint`; None: there is none.

    A run that is under way has one, too.
    """
    found = _in_folders(runs_beside(checkpoint), resume_name(checkpoint))
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def _in_folders(runs: Path, name: str) -> Iterator[Path]:
    """The files of this name in the folders of runs; not by a pattern, which the name may contain."""
    return (folder / name for folder in runs.glob("*") if (folder / name).is_file())


def _new_folder(runs: Path, label: str) -> Path:
    """The folder that the environment names, if no run has it yet, or else one of make_folder()."""
    given = runs / os.environ.get(NAME_VARIABLE, "")
    if given != runs and given.is_dir() and not (given / "run.json").exists():
        return given
    return make_folder(runs, label)


def make_folder(runs: Path, label: str) -> Path:
    """Make a folder in `runs`, named after now and `label`, that nothing else has. Raises WriteError."""
    name, number = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{label}", 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            problem = f"Não é possível gravar em {folder}: {reason(error)}."
            raise WriteError(problem, "Escolha outro caminho para o modelo.") from error
        return folder
