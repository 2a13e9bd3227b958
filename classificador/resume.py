"""The file from which an interrupted run goes on, beside the best weights: `best_model.retomar.pth`."""

import os
import time
from pathlib import Path

import torch

from classificador.checkpoint import RESUME, read_file, remove_unfinished, write_file
from classificador.errors import CheckpointError, SettingsError, brief
from classificador.history import History
from classificador.model_file import check_fit
from classificador.settings import Settings

REMEDY = "Para treinar do começo, não peça para retomar (RETOMAR = False; no terminal, sem --retomar)"


def resume_path(checkpoint: str | Path) -> Path:
    """Where the state of the run that writes `checkpoint` is kept."""
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}.retomar{path.suffix}")


def read_resume(checkpoint: str | Path) -> tuple[dict, Settings]:
    """Return the state of the interrupted run that writes `checkpoint`, and its settings. Raises CheckpointError."""
    path = resume_path(checkpoint)
    if not path.exists():
        raise CheckpointError(f"Não há treino interrompido para retomar ({path} não existe). {REMEDY}.")
    state = read_file(path, RESUME, REMEDY)
    try:
        values = state["settings"].items()
        settings = Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} não serve para retomar. {REMEDY}.") from error
    return state, settings


def prepare_resume(checkpoint: str | Path, resume: bool) -> None:
    """Clear the place of the resume file, under the lock of `checkpoint`; another run's is set aside unless resumed."""
    path = resume_path(checkpoint)
    remove_unfinished(path)
    if path.exists() and not resume:
        aside = path.with_name(f"{path.stem}.anterior{path.suffix}")
        os.replace(path, aside)
        print(f"Havia um treino interrompido; este começa do zero, e aquele foi guardado em {aside}.")


def save_state(run) -> None:
    """Write everything the rest of the run depends on, as tensors and plain values. Raises CheckpointError."""
    generators = [run.generator.get_state(), torch.get_rng_state()]
    if run.device.type != "cpu":
        generators.append(getattr(torch, run.device.type).get_rng_state())
    state = {
        "settings": run.settings.to_dict(),
        "data": _data(run),
        "epoch": run.epoch,
        "step": run.step,
        "order": run.order.cpu(),
        "sums": torch.stack([run.loss_sum, run.correct]).cpu(),
        "model": {name: value.cpu().contiguous() for name, value in run.model.state_dict().items()},
        "optimizer": _contiguous(run.optimizer.state_dict()),
        "schedule": run.schedule.state_dict(),
        "generators": generators,
        "history": run.history.to_dict(),
        "seconds": time.perf_counter() - run.started,
        "best": run.best.state(),
    }
    write_file(resume_path(run.best.path), RESUME, state)


def restore_state(run) -> None:
    """Put the saved state into `run`, a run that has not begun.

    Raises SettingsError naming the first setting that is not what it was, and CheckpointError for a state that is not
    ours or belongs to other data or another network.
    """
    path = run.best.path
    state, before = read_resume(path)
    for name, value in before.to_dict().items():
        if value != (now := run.settings.to_dict()[name]):
            raise SettingsError(f"{name}: {now} aqui, {value} no treino interrompido; use o mesmo valor. {REMEDY}.")
    try:
        check_fit(run.model, state["model"])
        if state["data"] != _data(run):
            raise ValueError("os dados são outros")
        in_order = torch.equal(state["order"].sort().values, torch.arange(len(run.train_split)))
        if not (in_order and 0 <= state["epoch"] < run.settings.epochs and 0 <= state["step"] < run.steps):
            raise ValueError("posição impossível")
        history, seconds = History(**state["history"]), float(state["seconds"])
        run.optimizer.load_state_dict(state["optimizer"])  # checks by itself that it fits
        _reorder(run.optimizer)
        run.model.load_state_dict(state["model"])
        run.schedule.load_state_dict(state["schedule"])
        run.epoch, run.step, run.order = state["epoch"], state["step"], state["order"].to(run.device)
        run.loss_sum, run.correct = state["sums"].to(run.device).unbind()
        run.generator.set_state(state["generators"][0])
        torch.set_rng_state(state["generators"][1])
        if run.device.type != "cpu":
            getattr(torch, run.device.type).set_rng_state(state["generators"][2])
        run.best.restore(state["best"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        text = f"{resume_path(path)} não serve para retomar este treino ({brief(error)}). {REMEDY}."
        raise CheckpointError(text) from error
    run.history, run.started = history, time.perf_counter() - seconds


def _data(run) -> list:
    return [run.classes, len(run.train_split), len(run.val_split)]


def _contiguous(optimizer: dict) -> dict:
    """The state of an optimizer with its tensors in the memory order in which files hold them."""
    state = {
        key: {name: v.contiguous() if isinstance(v, torch.Tensor) else v for name, v in values.items()}
        for key, values in optimizer["state"].items()
    }
    return optimizer | {"state": state}


def _reorder(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's averages the memory order of their weights, which fused Adam takes for granted."""
    for weight, averages in optimizer.state.items():
        for name, value in averages.items():
            if value.shape == weight.shape:
                averages[name] = torch.empty_like(weight).copy_(value)
