"""What is said, before a training, of the time that it takes."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from classificador.constants import CLASSES
from classificador.device import EVAL_BATCH
from classificador.errors import DivergenceError
from classificador.network.build import build, make_optimizer
from classificador.portuguese import about
from classificador.recipes import PRESETS, REACHES, TEACHER, Settings, make_settings
from classificador.training import estimate
from classificador.training.batches import Batches, balanced_rows
from classificador.training.fit import train
from classificador.training.trainer import Trainer

SMALL = {"channels": (4, 8), "hidden": 16, "batch_size": 16, "epochs": 3}


@pytest.fixture
def clock(monkeypatch):
    """Time moves on by a second whenever it is asked for."""
    ticks = itertools.count()
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def go_on() -> int:
    return 0


def test_a_training_is_the_same_to_the_bit_whether_its_time_was_tried_or_not(toy, tmp_path, monkeypatch, capsys):
    settings, trained = make_settings(**SMALL), []
    for worth, name in ((0, "tried.pth"), (10**9, "not.pth")):
        monkeypatch.setattr(estimate, "WORTH", worth)
        trained.append(train(settings, toy, tmp_path / name))
        assert ("Este treino leva cerca de" in capsys.readouterr().out) == (worth == 0)
    (tried, history), (other, expected) = trained
    weights = zip(tried.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)
    assert (history.val_loss, history.steps) == (expected.val_loss, expected.steps)


@pytest.mark.parametrize("batch_size", [16, 700])  # 700: an epoch of one step, after which nobody asks for a stop
def test_the_time_is_that_of_all_steps_and_all_validations(toy, clock, batch_size):
    settings = make_settings(**SMALL | {"batch_size": batch_size})
    seconds = estimate.seconds_left(trainer_of(settings, toy), go_on)
    steps, validations = 3 * (len(balanced_rows(toy.train.labels)) // batch_size), 3  # by this clock, a second each
    assert seconds == steps + validations * max(1, len(toy.val) / (2 * EVAL_BATCH))


def trainer_of(settings, data) -> Trainer:
    model, criterion = build(settings, data), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    batches = Batches(data, settings, torch.device("cpu"))
    return Trainer(model, batches, criterion, make_optimizer(model, settings))


def test_beside_a_long_training_a_shorter_recipe_is_named_with_its_time_and_what_it_reaches(toy, monkeypatch):
    took = {"relampago": 35.0, "rapido": 280.0}
    monkeypatch.setattr(estimate, "_seconds_of", lambda name, trainer, stop_signal: took[name])

    def told(settings: Settings, seconds: float, classes=CLASSES, done=0) -> str:
        monkeypatch.setattr(estimate, "seconds_left", lambda trainer, stop_signal: seconds)
        batches, data = SimpleNamespace(done=done), replace(toy, classes=classes)
        return estimate.outlook(SimpleNamespace(settings=settings, batches=batches, data=data), go_on)

    long, usual = PRESETS["completo"], PRESETS["rapido"]
    other = f"cerca de 4 min e meio (PRESET ou --receita; {100 * REACHES['rapido']:.0f}% no teste)"
    assert told(long, 1300) == f"Este treino leva cerca de 22 min neste computador; a receita rapido, {other}."
    assert "a receita relampago, cerca de 35 s" in told(usual, 480)  # on a slower machine
    assert told(usual, 280) == "Este treino leva cerca de 4 min e meio neste computador."
    alone = "leva cerca de 22 min neste computador."
    assert (
        told(long, 1300, ("a", "b"))
        == told(TEACHER, 1300)
        == told(PRESETS["relampago"], 1300)
        == f"Este treino {alone}"
    )
    assert told(long, 1300, done=7) == f"O que falta deste treino {alone}"
    took["rapido"] = took["relampago"] = float("inf")  # they do not fit into the memory
    assert told(long, 1300) == f"Este treino {alone}"


def test_a_training_that_diverges_at_once_says_so_itself(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "WORTH", 0)
    with pytest.raises(DivergenceError):
        train(make_settings(**SMALL, lr=1e200), toy, tmp_path / "m.pth")


def test_whoever_stops_during_the_trial_does_not_wait_for_its_end(toy):
    trainer = trainer_of(make_settings(**SMALL), toy)
    estimate.seconds_left(trainer, lambda: 2)
    assert trainer.batches.done == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "5 s"), (38, "40 s"), (57.6, "1 min"), (215, "3 min e meio"), (770, "13 min"), (10_000, "3 h")],
)
def test_a_time_is_told_roughly(seconds, expected):
    assert about(seconds) == f"cerca de {expected}"
