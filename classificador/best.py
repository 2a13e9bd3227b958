"""The best weights of one run, kept in one file as they improve; one run at a time, and nothing better is lost."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from torch import nn

from classificador.brazilian import percent, reason
from classificador.checkpoint import BEST, remove_unfinished, temporary, write_file
from classificador.errors import CheckpointError
from classificador.model_file import pack, read_checkpoint

UNREADABLE = float("inf")  # the score of a file that cannot be judged: never taken for worse


class BestCheckpoint:
    """Use it in a `with` block: the file is this run's alone until the block ends.

    An earlier file that scored better, or that cannot be read, is set aside when the run first saves; at the block's
    end it is dropped if the run beat it after all, and named otherwise.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.score: float | None = None  # of the best weights of this run, None before the first
        self.saved: dict | None = None  # what is in the file: "info" and "weights"
        self.aside: Path | None = None
        self.aside_score = 0.0
        self._lock: FileLock | None = None

    def __enter__(self) -> "BestCheckpoint":
        """Check now, not after the first epoch, that we can write, and only we. Raises CheckpointError."""
        path = self.path
        if path.exists() and not path.is_file():  # a folder; or a device, which must not be replaced
            raise CheckpointError(f"Não é possível gravar em {path}: não é um arquivo comum. Escolha outro caminho.")
        probe = temporary(path)
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            text = f"Não é possível gravar em {path}: {reason(error)}. Escolha outro caminho."
            raise CheckpointError(text) from error
        self._acquire()
        remove_unfinished(path)
        return self

    def __exit__(self, *exception) -> None:
        try:
            self._settle()
        finally:
            if self._lock:
                self._lock.release()

    def save(self, model: nn.Module, info: dict) -> None:
        """Save the weights, this run's best so far; `info` has their "val_accuracy"."""
        if self.score is None and self.aside is None and self.path.exists():
            self._set_aside(info["val_accuracy"])
        self._write(pack(model, info))

    def restore(self, state: dict) -> None:
        """Go on from the `state()` of a run that was stopped; the file is written again if it is another by now."""
        # Only the name, and only one of ours: _settle() may remove the file.
        ours = state["aside"].startswith(f"{self.path.stem}.anterior-")
        self.aside = self.path.with_name(state["aside"]) if ours else None
        self.aside_score, saved = state["aside_score"], state["saved"]
        if saved is None:
            return
        try:
            unchanged = read_checkpoint(self.path)["info"] == saved["info"]
        except CheckpointError:
            unchanged = False
        if not unchanged and self.path.exists():
            self._set_aside(saved["info"]["val_accuracy"])
        self._write(saved)

    def state(self) -> dict:
        """What restore() needs: tensors and plain values."""
        return {
            "saved": self.saved,
            "aside": self.aside.name if self.aside else "",
            "aside_score": self.aside_score,
        }

    def _write(self, saved: dict) -> None:
        write_file(self.path, BEST, saved)
        self.saved, self.score = saved, saved["info"]["val_accuracy"]

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
        except (OSError, NotImplementedError):
            return  # a file system without locks
        with suppress(OSError):  # Windows lets nobody write to a locked file
            holder.write_text(str(os.getpid()))

    def _set_aside(self, new_score: float) -> None:
        try:
            old_score = read_checkpoint(self.path)["info"]["val_accuracy"]
            label = f"{100 * old_score:.2f}"
        except CheckpointError:
            old_score, label = UNREADABLE, "ilegivel"
        if old_score <= new_score:
            return
        names = (
            f"{self.path.stem}.anterior-{label}{n}{self.path.suffix}" for n in ("", *(f"-{i}" for i in range(2, 99)))
        )
        self.aside_score = old_score
        self.aside = next(path for path in map(self.path.with_name, names) if not path.exists())
        try:
            shutil.copy2(self.path, self.aside)
        except OSError as error:
            raise CheckpointError(
                f"Não foi possível guardar o modelo anterior em {self.aside}: {reason(error)}."
            ) from error

    def _settle(self) -> None:
        """Drop the file set aside if the run beat it, else say where it is."""
        if self.aside is None or self.score is None:
            return
        if self.score >= self.aside_score:
            self.aside.unlink(missing_ok=True)
            self.aside = None
        elif self.aside_score == UNREADABLE:
            print(f"O arquivo que estava em {self.path} não era um modelo legível e foi guardado em {self.aside}.")
        else:
            old, new = percent(self.aside_score, 2), percent(self.score, 2)
            print(f"O modelo anterior era melhor na validação ({old} contra {new}) e foi guardado em {self.aside}.")
