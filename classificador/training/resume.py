"""The point to go on from that an interrupted run leaves in its folder: `best_model.retomar.pth`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

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


def save_state(path: Path, state: dict, settings: Settings, facts: dict) -> None:
    """Write the states of a run's parts, with what restore_state() compares. Raises CheckpointError.

    facts: "setup", of Run.setup(); and "earlier", as RunFolder.begin() gets it.
    """
    write_file(path, RESUME, _as_files_hold_it({"settings": settings.to_dict(), "state": state} | facts))


def restore_state(
    checkpoint: str | Path, parts: dict[str, Any], settings: Settings, setup: Callable[[], dict]
) -> Interrupted:
    """Put the saved states of the run that renews `checkpoint` into its parts, by name; return what was saved.

    settings: of the run that goes on. setup: tells what else must be as it was: data, network, optimizer and loss.
    Raises SettingsError naming the first setting that is not what it was, and CheckpointError for a state that is not
    ours or belongs to another setup.
    """
    saved = processes.from_first(lambda: read_resume(checkpoint))  # other machines may not have the file
    for name, value in saved.settings.to_dict().items():
        if value != (now := settings.to_dict()[name]):
            raise SettingsError(f"{now} aqui, {value} no treino interrompido; use o mesmo valor.", f"{REMEDY}.", name)
    try:
        _check_setup(setup(), saved.content["setup"])
        _load(parts, saved.content["state"])
        _check_setup(setup(), saved.content["setup"])  # the options of the optimizer came with its state
    except ClassificadorError:
        raise
    except Exception as error:  # whatever is wrong with a state, it is refused
        text = f"{saved.path} não serve para retomar este treino ({brief(error)}). {REMEDY}."
        raise CheckpointError(text) from error
    return saved


def _check_setup(setup: dict, saved: dict) -> None:
    for name, now in _as_files_hold_it(setup).items():
        if saved[name] != now:
            raise ValueError(f"mudou: {name}")


def _load(parts: dict[str, Any], state: dict) -> None:
    """Load the states of all parts. Raises an exception of any kind for what no run leaves."""
    check_fit(parts["model"], state["model"])
    if list(state["model"]) != list(parts["model"].state_dict()):  # the optimizer knows the weights by their order
        raise ValueError("mudou: rede")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    if len(parts["history"].val_loss) != parts["batches"].epoch:
        raise ValueError("história incompleta")
    _reorder_averages(parts["optimizer"])


def _reorder_averages(optimizer: Optimizer) -> None:
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


def _as_files_hold_it(value: Any) -> Any:
    """The same with tensors contiguous and on the CPU, and lists in place of tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return {name: _as_files_hold_it(part) for name, part in value.items()}
    return [_as_files_hold_it(part) for part in value] if isinstance(value, list | tuple) else value
