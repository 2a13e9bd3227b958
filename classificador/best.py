"""The best weights of one run, kept in one file as they improve; one run at a time, and nothing better is lost."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from string import digits

from filelock import FileLock, Timeout
from torch import nn
from tqdm import tqdm

from classificador.atomic import free_name, remove_unfinished, temporary, write_bytes
from classificador.brazilian import percent, reason
from classificador.errors import CheckpointError
from classificador.model_file import Checkpoint, pack, read_checkpoint, write_checkpoint
from classificador.model_info import ModelInfo

INCOMPARABLE = float("inf")  # the score of a file that is unreadable or knows other classes: never taken for worse


class BestCheckpoint:
    """Use it in a `with` block: the file is this run's alone until the block ends.

    An earlier file that scored better, or cannot be read, or knows other classes, is set aside when the run first
    saves; at the block's end it is dropped if the run beat it, put back if the run failed, and named otherwise.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.score: float | None = None  # of the best weights of this run, None before the first
        self.saved: Checkpoint | None = None  # what is in the file
        self.aside: Path | None = None
        self.aside_score = 0.0
        self._lock: FileLock | None = None

    def __enter__(self) -> "BestCheckpoint":
        """Check now, not after the first epoch, that we can write, and only we. Raises CheckpointError."""
        path = self.path
        try:
            if os.path.exists(path) and not path.is_file():  # a folder; or a device, which must not be replaced
                raise OSError("não é um arquivo comum")
            probe = temporary(path)
            probe.touch()
            probe.unlink()
        except OSError as error:
            text = f"Não é possível gravar em {path}: {reason(error)}. Escolha outro caminho."
            raise CheckpointError(text) from error
        self._acquire()
        remove_unfinished(path)
        return self

    def __exit__(self, kind: type | None, *error) -> None:
        try:
            self._settle(failed=kind is not None)
        finally:
            if self._lock:
                self._lock.release()

    def save(self, model: nn.Module, facts: dict) -> None:
        """Save the weights, this run's best so far; facts: as in pack()."""
        checkpoint = pack(model, facts)
        if self.score is None and self.aside is None and self.path.exists():
            self._set_aside(checkpoint.info)
        self._write(checkpoint)

    def load_state_dict(self, state: dict) -> None:
        """Go on from a run that was stopped; the file is written again if it is another by now."""
        # Only the name, and only one of ours: _settle() may remove the file.
        ours = state["aside"].startswith(f"{self.path.stem}.anterior-")
        if state["saved"] is None:
            return
        saved = Checkpoint.from_dict(state["saved"])
        aside = self.path.with_name(state["aside"]) if ours else None
        if aside and aside.is_file():
            self.aside, self.aside_score = aside, self._score_of(aside, saved.info.classes)
        if self.path.exists() and not self._is_of_this_run(saved.info):
            self._set_aside(saved.info)
        self._write(saved)

    def state_dict(self) -> dict:
        """What the file holds, and which was set aside."""
        return {"saved": self.saved and self.saved.to_dict(), "aside": self.aside.name if self.aside else ""}

    def _write(self, saved: Checkpoint) -> None:
        write_checkpoint(self.path, saved)
        self.saved, self.score = saved, saved.info.val_accuracy

    def _acquire(self) -> None:
        """Take the lock; it is the system's, so that of a process that died it is free."""
        holder = self.path.with_name(f".{self.path.name}.lock")
        self._lock = FileLock(holder)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            pid = holder.read_text(errors="replace").strip() if os.name == "posix" else ""
            name = f"o processo {pid}" if pid.isdigit() else "outro processo"
            raise CheckpointError(
                f"{self.path} é de um treino em andamento ({name}). Espere que termine ou escolha outro caminho."
            ) from None
        except NotImplementedError:
            return  # a file system without locks
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
                return
            raise CheckpointError(f"Não é possível reservar {self.path} em {holder}: {reason(error)}.") from error
        with suppress(OSError):  # Windows lets nobody write to a locked file
            if not holder.read_text().strip(digits):  # empty or our own; filelock's fallback keeps its marker there
                holder.write_text(str(os.getpid()))

    def _set_aside(self, info: ModelInfo) -> None:
        old_score = self._score_of(self.path, info.classes)
        if old_score <= info.val_accuracy:
            return
        label = "outro" if old_score == INCOMPARABLE else f"{100 * old_score:.2f}"
        name = free_name(self.path, f"anterior-{label}")
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"Não foi possível guardar {self.path} em {name}: {reason(error)}.") from error
        write_bytes(name, data)
        self.aside, self.aside_score = name, old_score
        tqdm.write(f"O que estava em {self.path} fica em {name} enquanto o treino não o supera.", file=sys.stdout)

    @staticmethod
    def _score_of(path: Path, classes: tuple[str, ...]) -> float:
        try:
            info = read_checkpoint(path).info
        except CheckpointError:
            return INCOMPARABLE
        return info.val_accuracy if info.classes == classes else INCOMPARABLE

    def _is_of_this_run(self, info: ModelInfo) -> bool:
        """Whether the file at our place is what this run saved, then or one epoch later, before it was killed."""
        try:
            history = read_checkpoint(self.path).info.history.get("val_loss", [])
        except CheckpointError:
            return False
        mine = info.history.get("val_loss", [])
        return bool(mine) and history[: len(mine)] == mine

    def _settle(self, failed: bool) -> None:
        """Drop the file set aside if the run beat it, put it back if the run failed before, else say where it is."""
        if self.aside is None or self.score is None:
            return
        if self.score >= self.aside_score:
            self.aside.unlink(missing_ok=True)
            self.aside = None
        elif self.aside_score == INCOMPARABLE:
            print(f"O que estava em {self.path} não era um modelo destas classes e foi guardado em {self.aside}.")
        elif failed:
            os.replace(self.aside, self.path)
            self.aside = None
        else:
            old, new = percent(self.aside_score, 2), percent(self.score, 2)
            print(f"O modelo anterior era melhor na validação ({old} contra {new}) e foi guardado em {self.aside}.")
