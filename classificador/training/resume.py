"""The resume point that an interrupted run leaves in its folder, `best_model.retomar.pth`."""

import shlex
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from classificador.data.dataset import ImageData
from classificador.errors import CheckpointError, SettingsError, printable
from classificador.files.safe import RESUME, read_file, write_file
from classificador.network.teacher import Teacher
from classificador.portuguese import tell
from classificador.recipes import Settings
from classificador.training.run_folder import Runs

DEVICE = "dispositivo"  # in the fingerprint
REMEDY = "Para treinar do começo, não peça para retomar (RESUME = False; no terminal, sem --retomar)"


class ResumePoint(NamedTuple):
    """A resume point.

    path: of its file. state: of Trainer.state_dict(). fingerprint: of Trainer.fingerprint(), what the rest of the run
    depends on beside the settings. earlier: the name of the folder that has what best_model.pth held before the run.
    """

    path: Path
    settings: Settings
    state: dict[str, Any]
    fingerprint: dict[str, Any]
    earlier: str = ""


def save_resume_point(point: ResumePoint) -> None:
    """Write a point to its file. Raises CheckpointError for numbers that are not finite, and WriteError."""
    content = point._asdict() | {"settings": asdict(point.settings)}
    del content["path"]
    write_file(point.path, RESUME, _as_files_hold_it(content))


def read_resume_point(runs: Runs) -> ResumePoint:
    """Return the point of the run interrupted last. Raises CheckpointError."""
    path = runs.interrupted()
    if path is None:
        go_on = ""
        if runs.checkpoint.exists():
            name = runs.checkpoint.as_posix()
            more = "Para mais épocas depois de um treino completo (acima de 1.000 imagens)"
            go_on = f' {more}: START_FROM = "{name}", ou --partir-de {name}.'
        problem = f"Não há treino interrompido de {runs.checkpoint} em {runs.folder}."
        raise CheckpointError(problem, f"{REMEDY}.{go_on}")
    content = read_file(path, RESUME, REMEDY)
    try:
        values = content["settings"].items()
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values}
        earlier = str(content["earlier"])
        return ResumePoint(path, Settings(**settings), content["state"], content["fingerprint"], earlier)
    except Exception as error:  # whatever is wrong with it, it is refused; so below
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception, checkpoint: Path | None = None) -> CheckpointError:
    """The error that says why a file is no resume point; checkpoint: has what the run has learnt until then."""
    remedy = f"{REMEDY}."
    if checkpoint and checkpoint.exists():
        name = checkpoint.as_posix()
        remedy += f' Dos pesos que já há: START_FROM = "{name}"; no terminal, --partir-de {shlex.quote(name)}.'
    problem = f"{path} não serve para retomar este treino ({printable(str(error))[:600]})."
    return CheckpointError(problem, remedy)


def check_settings(point: ResumePoint, settings: Settings) -> None:
    """Raise SettingsError naming the first setting that is not what it was; the device may be another."""
    now = asdict(settings)
    for name, value in asdict(point.settings).items():
        if value != now[name] and name != "device":
            problem = f"{now[name]} aqui, {printable(str(value))} no treino interrompido; use o mesmo valor."
            raise SettingsError(problem, f"{REMEDY}.", name)


def check_fingerprint(point: ResumePoint, fingerprint: dict[str, Any]) -> None:
    """Raise ValueError naming the first thing that is not what it was."""
    for name, now in _as_files_hold_it(fingerprint).items():
        if (before := point.fingerprint[name]) != now and name == "dados":
            were, are = (
                f"{train} imagens de treino e {val} de validação, de {side} pixels, das classes {', '.join(classes)}"
                for classes, train, val, side, *_ in (before, now)
            )
            what = f"que eram {were}; e são {are}" if were != are else "outros, em igual número"
            raise ValueError(f"mudou: dados, {what}")
        if before != now and name != DEVICE:
            raise ValueError(f"mudou: {name}")


def check_device(point: ResumePoint, device: torch.device) -> None:
    """Where the run goes on elsewhere, drop what the random numbers of the one device were, and say so."""
    if (before := point.fingerprint[DEVICE]) == device.type:
        return
    for name, key in (("batches", "generator"), ("random", "device")):
        point.state[name].pop(key, None)
    tell(f"O treino começou em {printable(str(before))} e segue em {device.type}: não será mais igual bit a bit.")


def restore_memory_order(optimizer: Optimizer) -> None:
    """Give each weight's averages the weight's memory order, which fused Adam takes for granted.

    Raises ValueError for averages of another shape, which torch loads and fused Adam reads beyond their end.
    """
    for weight, averages in optimizer.state.items():
        if isinstance(optimizer, torch.optim.Adam) and set(averages) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"otimizador: {sorted(map(str, averages))}")
        for name, value in averages.items():
            shape = [] if name == "step" else list(weight.shape)
            if list(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name}: {list(value.shape)} de {value.dtype} em vez de {shape}")
            if shape:
                averages[name] = torch.empty_like(weight).copy_(value)


def data_fingerprint(data: ImageData) -> list[Any]:
    """Return what tells other data: classes, numbers of images, their side, and a check sum of them and the labels."""
    total = 0
    for split in (data.train, data.val):
        for tensor in (split.images, split.labels):
            total = zlib.crc32(tensor.cpu().contiguous().numpy().data, total)
    side = data.side
    return [list(data.classes), len(data.train.labels), len(data.val.labels), side, f"{total:08x}"]


def fingerprint(data: list[Any], criterion: nn.Module, optimizer: Optimizer, teacher: Teacher | None) -> dict[str, Any]:
    """Return what must be as it was for a run to go on, under the names a reader finds in the message.

    data: of data_fingerprint().
    """
    groups = optimizer.param_groups
    # Each step sets the learning rate anew.
    options = [{name: v for name, v in group.items() if name not in ("params", "lr")} for group in groups]
    # Such as label_smoothing, which the repr of a loss does not show.
    plain = {name: v for name, v in vars(criterion).items() if isinstance(v, int | float | str)}
    return {
        "dados": data,
        "otimizador": [type(optimizer).__name__, options],
        "critério": [type(criterion).__name__, plain],
        DEVICE: groups[0]["params"][0].device.type,
        "professor": teacher.fingerprint if teacher else {},
    }


class RandomState:
    """The generators that a network may draw from, for dropout: torch's own, and the device's."""

    def __init__(self, device: torch.device):
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """The states of both; on a CPU they are one."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["device"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states["device"] = torch.mps.get_rng_state()
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw from there on what would have been drawn."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "device" in state:
            torch.cuda.set_rng_state(state["device"], self.device)
        elif self.device.type == "mps" and "device" in state:
            torch.mps.set_rng_state(state["device"])


def _as_files_hold_it(value: Any) -> Any:
    """The same with tensors contiguous and on the CPU, and lists in place of tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return {name: _as_files_hold_it(item) for name, item in value.items()}
    return [_as_files_hold_it(item) for item in value] if isinstance(value, list | tuple) else value
