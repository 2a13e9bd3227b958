"""The point to go on from that an interrupted run leaves in its folder: `best_model.retomar.pth`."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from classificador import processes
from classificador.errors import CheckpointError, ClassificadorError, SettingsError, brief
from classificador.files.model_file import check_fit
from classificador.files.safe import RESUME, read_file, write_file
from classificador.network.cnn import CNN, make_network
from classificador.recipes import Settings
from classificador.training.history import read_record
from classificador.training.run_folder import find_interrupted, runs_beside

REMEDY = "Para treinar do começo, não peça para retomar (RESUME = False; no terminal, sem --retomar)"


class Interrupted(NamedTuple):
    """A run to go on with: the file of its point to go on from, what that holds, and the run's settings."""

    path: Path
    content: dict
    settings: Settings


def read_resume(checkpoint: str | Path) -> Interrupted:
    """Return the run interrupted last, of those that renew `checkpoint`. Raises CheckpointError."""
    path = find_interrupted(checkpoint)
    if path is None:
        raise CheckpointError(f"Não há treino interrompido de {checkpoint} em {runs_beside(checkpoint)}. {REMEDY}.")
    content = read_file(path, RESUME, REMEDY)
    try:
        settings = content["settings"].items()
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings}
        return Interrupted(path, content, Settings(**values))
    except Exception as error:
        raise CheckpointError(f"{path} não serve para retomar ({brief(error)}). {REMEDY}.") from error


def left_by_job(checkpoint: str | Path, restarted: bool) -> str:
    """What torchrun's job, which starts all processes anew when one dies, has left: "interrupted", "finished" or "".

    The job's name tells, also where a machine joined or left; only a job without one has to trust `restarted`.
    """
    job, path = processes.job(), find_interrupted(checkpoint)
    if path and (read_record(path.parent).get("job") == job if job else restarted):
        return "interrupted"
    ours = {"job": job, "status": "finished", "checkpoint": Path(checkpoint).name}.items()
    records = map(read_record, runs_beside(checkpoint).glob("*")) if job and restarted else ()
    return "finished" if any(record.items() >= ours for record in records) else ""


def check_network(checkpoint: str | Path, settings: Settings, sizes: dict, classes: tuple[str, ...]) -> None:
    """Check that the interrupted run is of the package's network of these sizes, which the command line trains.

    sizes: of network_sizes(), for data of these classes; that its pictures are others is for restore_state() to tell.
    Raises CheckpointError if not, and before any memory for the network is asked for.
    """
    path, content, _ = read_resume(checkpoint)
    try:
        learnt, _, _, side, _ = content["setup"]["dados"]
        if learnt != list(classes):
            names = brief(", ".join(learnt))
            raise CheckpointError(
                f"{path} é de um treino com outras classes ({names}). Dê as imagens dele com --dados."
            )
        sizes = sizes | {"side": side}
        with torch.device("meta"):
            check_fit(make_network(CNN, settings.symmetric, **sizes), content["state"]["model"])
    except CheckpointError:
        raise
    except Exception as error:
        text = f"{path} é de outra rede ({brief(error)}). Retome no caderno que a define"
        raise CheckpointError(f"{text}. {REMEDY}.") from error


class Stateful(Protocol):
    """What can say all that it depends on, as tensors and plain values, and go on from there."""

    def state_dict(self) -> dict:
        """Return it."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from there. Raises an exception of any kind for what state_dict() cannot have returned."""


def save_state(path: Path, state: dict, settings: Settings, facts: dict) -> None:
    """Write the state of a run, with what restore_state() compares: tensors and plain values. Raises CheckpointError.

    facts: "setup", as restore_state() gets it; and "earlier", as RunFolder.begin() does.
    """
    write_file(path, RESUME, {"settings": settings.to_dict(), "state": _as_files_hold_it(state)} | facts)


def restore_state(checkpoint: str | Path, run: Stateful, settings: Settings, setup: dict) -> Interrupted:
    """Put the saved state of the run that renews `checkpoint` into `run`, which has not begun; return what was saved.

    Raises SettingsError naming the first setting that is not what it was, and CheckpointError for a state that is not
    ours or belongs to another setup: data, network, optimizer or loss.
    """
    saved = processes.from_first(lambda: read_resume(checkpoint))  # other machines may not have the file
    for name, value in saved.settings.to_dict().items():
        if value != (now := settings.to_dict()[name]):
            raise SettingsError(f"{now} aqui, {value} no treino interrompido; use o mesmo valor. {REMEDY}.", name)
    try:
        for name, now in setup.items():
            if saved.content["setup"][name] != now:
                raise ValueError(f"mudou: {name}")
        run.load_state_dict(saved.content["state"])
    except ClassificadorError:
        raise
    except Exception as error:  # whatever is wrong with a state, it is refused
        text = f"{saved.path} não serve para retomar este treino ({brief(error)}). {REMEDY}."
        raise CheckpointError(text) from error
    return saved


class ModelState:
    """The weights of a network, as Stateful; other weights than the network's are named."""

    def __init__(self, model: nn.Module):
        self.model = model

    def state_dict(self) -> dict:
        """The weights."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError naming the first difference."""
        check_fit(self.model, state)
        if list(state) != list(self.model.state_dict()):  # the optimizer knows them by their order
            raise ValueError("mudou: rede")
        self.model.load_state_dict(state)


class OptimizerState:
    """An optimizer, as Stateful."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def state_dict(self) -> dict:
        """What torch says of it."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError for another optimizer, or averages of another shape."""
        before = self.options()
        self.optimizer.load_state_dict(state)
        if self.options() != before:
            raise ValueError("mudou: otimizador")
        for weight, averages in self.optimizer.state.items():
            self._reorder(weight, averages)

    def options(self) -> list:
        """Its kind and its options, but for the learning rate, which each step sets, in the form that files hold."""
        groups = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]
        return [type(self.optimizer).__name__, _as_files_hold_it(groups)]

    def _reorder(self, weight: torch.Tensor, averages: dict) -> None:
        """Give the averages the memory order of their weight, which fused Adam takes for granted.

        Raises ValueError for averages of another shape, which torch loads and fused Adam reads beyond their end.
        """
        if isinstance(self.optimizer, torch.optim.Adam) and set(averages) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"otimizador: {sorted(map(str, averages))}")
        for name, value in averages.items():
            shape = [] if name == "step" else list(weight.shape)
            if list(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name}: {list(value.shape)} de {value.dtype} em vez de {shape}")
            if shape:
                averages[name] = torch.empty_like(weight).copy_(value)


class RandomState:
    """The generators that a network may draw from, for dropout, as Stateful: torch's own, and the device's."""

    def __init__(self, device: torch.device):
        self.device = device

    def state_dict(self) -> dict:
        """The states of both; on a CPU they are one."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return states

    def load_state_dict(self, state: dict) -> None:
        """Draw from there on what would have been drawn."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(state["mps"])


def _as_files_hold_it(value: object) -> object:
    """The same with tensors contiguous and on the CPU, and lists in place of tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return {name: _as_files_hold_it(part) for name, part in value.items()}
    return [_as_files_hold_it(part) for part in value] if isinstance(value, list | tuple) else value
