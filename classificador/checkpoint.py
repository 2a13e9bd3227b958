"""`best_model.pth`: written whole or not at all, read without running anything from it, refused when damaged."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from classificador.brazilian import duration, number, percent, reason
from classificador.device import describe_device
from classificador.errors import CheckpointError
from classificador.model import CNN

FORMAT = 1
# What the metadata must hold: who made the weights, how good they are, and how to build the network for them.
INFO_TYPES = dict.fromkeys(["preset", "created", "split", "device"], str)
INFO_TYPES |= dict.fromkeys(["epoch", "val_accuracy", "val_loss", "seconds"], (int, float))
INFO_TYPES |= dict.fromkeys(["settings", "versions", "history", "architecture"], dict) | {"classes": list}
KIND = "classificador/best"
MAX_BYTES = 512 * 2**20  # far above any network of this shape; bounds what a hostile file can make us read
UNREADABLE = float("inf")  # the score of a file that cannot be judged: never taken for worse
REMEDY = "Treine de novo (`python -m classificador treinar`) ou traga o original: `git checkout best_model.pth`"


def save_checkpoint(path: str | Path, model: nn.Module, info: dict) -> None:
    """Write the weights and `info` (plain values only) to `path`, atomically and durably.

    At every moment the file is absent, the complete old one or the complete new one. Raises CheckpointError naming the
    path when it cannot be written; the old file is then unchanged.
    """
    path = Path(path)
    device = describe_device(next(model.parameters()).device)
    content = {
        "format": FORMAT,
        "kind": KIND,
        "info": info | {"architecture": _plain(getattr(model, "architecture", {})), "device": device},
        "weights": {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch wraps a failed write into RuntimeError
        free = shutil.disk_usage(path.parent).free // 2**20 if path.parent.is_dir() else 0
        raise CheckpointError(
            f"Não foi possível gravar {path} ({free} MB livres no disco): {reason(error)}."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict:
    """Return the content of a best-weights file: "info" (metadata) and "weights" (tensors on the CPU), fully checked.

    Raises CheckpointError, one line with the remedy, for a file that is missing, damaged, foreign, newer or not finite.
    """
    path = Path(path)
    if not path.is_file():
        what = "não é um arquivo comum" if path.exists() else f"não existe na pasta {path.resolve().parent}"
        raise CheckpointError(f"{path} {what}. {REMEDY}.")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} é grande demais para ser um modelo deste projeto. {REMEDY}.")
    _check_container(path)
    try:
        # weights_only stays explicit: an environment variable can change the default.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} não foi gravado por este projeto e foi recusado. {REMEDY}.") from error
    if _is_newer(content):
        raise CheckpointError(f"{path} foi gravado por uma versão mais nova deste projeto. Atualize o projeto.")
    if not _is_ours(content):
        raise CheckpointError(f"{path} não foi gravado por este projeto e foi recusado. {REMEDY}.")
    for name, value in content["weights"].items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path} contém valores não finitos em {name}. {REMEDY}.")
    return content


def load_model(path: str | Path = "best_model.pth", network: Callable[..., nn.Module] = CNN) -> nn.Module:
    """Return the network saved in `path`, on the CPU, ready to predict; its metadata is the attribute `info`.

    network: builds the model from the saved architecture; give the notebook's own class after editing it.
    Raises CheckpointError when the file cannot be used or its weights do not fit the network.
    """
    content = read_checkpoint(path)
    try:
        model = network(**content["info"]["architecture"])
        model.load_state_dict(content["weights"])
    except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"Os pesos de {path} não combinam com a rede {network.__name__}. Se você editou a rede no caderno, execute "
            f"antes a célula que a define, ou treine de novo. Primeira diferença: {first}"
        ) from error
    model.info = content["info"]
    return model.eval()


def describe_checkpoint(info: dict) -> str:
    """Return in a few Portuguese lines what a model is: recipe, epoch, validation score, when and where it was made."""
    created = datetime.fromisoformat(info["created"])
    epoch = number(info["epoch"], 0 if info["epoch"] == round(info["epoch"]) else 1)
    size = ", ".join(f"{name} {value}" for name, value in info["architecture"].items())
    return (
        f"Receita:     {info['preset']}, época {epoch} de {info['settings']['epochs']}, {duration(info['seconds'])}\n"
        f"Validação:   acurácia {percent(info['val_accuracy'], 2)}, perda {number(info['val_loss'], 3)}\n"
        f"Treinado em: {created:%d/%m/%Y %H:%M} UTC, {info['device']}, torch {info['versions']['torch']}\n"
        f"Divisão:     {info['split']}\n"
        f"Rede:        {size}\n"
        f"Classes:     {', '.join(info['classes'])}"
    )


class BestCheckpoint:
    """The best weights of one run in one file; an earlier file that scored better is kept beside it."""

    def __init__(self, path: str | Path):
        """Check now, not after the first epoch, that `path` can be written. Raises CheckpointError."""
        self.path, self.score, self.kept, self.kept_score = Path(path), None, None, 0.0
        if self.path.exists() and not self.path.is_file():  # a folder; or a device, which must not be replaced
            raise CheckpointError(f"Não é possível gravar em {path}: não é um arquivo comum. Escolha outro caminho.")
        probe = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            text = f"Não é possível gravar em {self.path}: {reason(error)}. Escolha outro caminho."
            raise CheckpointError(text) from error

    def save(self, model: nn.Module, info: dict) -> None:
        """Save the weights; the first time, set an earlier file aside that scored better or that cannot be read."""
        if self.score is None and self.kept is None and self.path.exists():
            self._set_aside(info["val_accuracy"])
        save_checkpoint(self.path, model, info)
        self.score = info["val_accuracy"]

    def finish(self) -> None:
        """At the end of the run: drop the file set aside if the run beat it, else say where it is."""
        if self.kept is None or self.score is None:
            return
        if self.score >= self.kept_score:
            self.kept.unlink(missing_ok=True)
        elif self.kept_score == UNREADABLE:
            print(f"O arquivo que estava em {self.path} não era um modelo legível e foi guardado em {self.kept}.")
        else:
            old, new = percent(self.kept_score, 2), percent(self.score, 2)
            print(f"O modelo anterior era melhor na validação ({old} contra {new}) e foi guardado em {self.kept}.")

    def _set_aside(self, new_score: float) -> None:
        try:
            self.kept_score = read_checkpoint(self.path)["info"]["val_accuracy"]
            label = f"{100 * self.kept_score:.2f}"
        except CheckpointError:
            self.kept_score, label = UNREADABLE, "ilegivel"
        if self.kept_score <= new_score:
            return
        names = (
            f"{self.path.stem}.anterior-{label}{n}{self.path.suffix}" for n in ("", *(f"-{i}" for i in range(2, 99)))
        )
        self.kept = next(path for path in map(self.path.with_name, names) if not path.exists())
        try:
            shutil.copy2(self.path, self.kept)
        except OSError as error:
            raise CheckpointError(
                f"Não foi possível guardar o modelo anterior em {self.kept}: {reason(error)}."
            ) from error


def _is_newer(content: object) -> bool:
    """Whether a later version of this project wrote the content, whose other parts may then be of any kind."""
    if not isinstance(content, dict) or content.get("kind") != KIND:
        return False
    return isinstance(content.get("format"), int) and content["format"] > FORMAT


def _is_ours(content: object) -> bool:
    """Whether the content has the parts that save_checkpoint writes, each of the right type."""
    if not isinstance(content, dict) or content.get("kind") != KIND or not isinstance(content.get("format"), int):
        return False
    info, weights = content.get("info"), content.get("weights")
    if not isinstance(info, dict) or not isinstance(weights, dict):
        return False
    try:
        datetime.fromisoformat(info["created"])
    except (KeyError, TypeError, ValueError):
        return False
    return (
        all(isinstance(info.get(name), kind) for name, kind in INFO_TYPES.items())
        and all(isinstance(name, str) for name in info["classes"])
        and len(info["classes"]) == info["architecture"].get("classes", 10)
        and all(isinstance(value, torch.Tensor) for value in weights.values())
    )


def _check_container(path: Path) -> None:
    """Refuse anything but an uncompressed zip whose check sums all hold; torch.load itself does not look at them."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
            damaged = archive.testzip() if stored else "compactado"
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise CheckpointError(f"{path} está danificado ou não é um modelo. {REMEDY}.") from error
    if damaged:
        raise CheckpointError(f"{path} está danificado ({damaged}). {REMEDY}.")


def _plain(architecture: dict) -> dict:
    """Tuples become lists, so that the file holds only types that every version of weights_only accepts."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in architecture.items()}


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows cannot open a folder and needs none of it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
