"""What is said, before a training, of the time that it takes."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from classificador.constants import CLASSES
from classificador.device import EVAL_BATCH
from classificador.errors import DivergenceError
from classificador.portuguese import about
from classificador.recipes import PRESETS, REACHES, make_settings
from classificador.training import estimate
from classificador.training.batches import balanced_rows
from classificador.training.fit import train

SMALL = {"channels": (4, 8), "hidden": 16, "batch_size": 16, "epochs": 3}


@pytest.fixture
def clock(monkeypatch):
    """Time moves on by a second whenever it is asked for."""
    ticks = itertools.count()
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def test_a_training_is_the_same_to_the_bit_whether_its_time_was_tried_or_not(toy, tmp_path, monkeypatch, capsys):
    settings, models = make_settings(**SMALL), []
    for worth, name in ((0, "tried.pth"), (10**9, "not.pth")):
        monkeypatch.setattr(estimate, "WORTH", worth)
        models.append(train(settings, toy, tmp_path / name))
        assert ("Este treino leva uns 5 s neste computador." in capsys.readouterr().out) == (worth == 0)
    (tried, history), (other, expected) = models
    weights = zip(tried.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)
    assert (history.val_loss, history.steps) == (expected.val_loss, expected.steps)


def test_the_time_is_that_of_all_steps_and_all_validations(toy, tmp_path, clock, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "WORTH", 0)
    monkeypatch.setattr(estimate, "about", lambda seconds: f"{seconds} s")
    train(make_settings(**SMALL), toy, tmp_path / "m.pth")
    steps, validations = 3 * (len(balanced_rows(toy.train.labels)) // 16), 3  # each takes a second, by this clock
    told = float(capsys.readouterr().out.split("leva ")[1].split(" s")[0])
    assert told == steps + validations * max(1, len(toy.val) / (2 * EVAL_BATCH))


def test_beside_a_long_training_a_shorter_recipe_is_named_with_its_time_and_what_it_reaches(toy, monkeypatch):
    took = {"relampago": 35.0, "rapido": 280.0, "completo": 1300.0}
    monkeypatch.setattr(estimate, "_seconds_of", lambda name, trainer: took[name])
    monkeypatch.setattr(estimate, "WORTH", 0)

    def told(preset: str, seconds: float, classes=CLASSES) -> str:
        monkeypatch.setattr(estimate, "seconds_left", lambda trainer: seconds)
        batches = SimpleNamespace(steps_per_epoch=100, done=0)
        data = replace(toy, classes=classes)
        return estimate.outlook(SimpleNamespace(settings=PRESETS[preset], batches=batches, data=data))

    other = f"uns 4 min e meio (PRESET ou --receita; {100 * REACHES['rapido']:.0f}% no teste)"
    assert told("completo", 1300) == f"Este treino leva uns 22 min neste computador; a receita rapido, {other}."
    assert "a receita relampago, uns 35 s" in told("rapido", 480)  # on a slower machine
    assert told("rapido", 280) == "Este treino leva uns 4 min e meio neste computador."
    assert told("completo", 1300, ("a", "b")) == "Este treino leva uns 22 min neste computador."


def test_a_training_that_diverges_at_once_says_so_itself(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "WORTH", 0)
    with pytest.raises(DivergenceError):
        train(make_settings(**SMALL, lr=1e200), toy, tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "uns 5 s"),
        (38, "uns 40 s"),
        (57.6, "uns 1 min"),
        (215, "uns 3 min e meio"),
        (770, "uns 13 min"),
        (10_000, "umas 3 h"),
    ],
)
def test_a_time_is_told_roughly(seconds, expected):
    assert about(seconds) == expected
