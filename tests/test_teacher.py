"""The teacher, and a network that learns from it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from test_resume import Outcome

from classificador.apps.export import describe
from classificador.apps.model_card import write_cards
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.build import build, make_network
from classificador.network.model_info import describe_checkpoint
from classificador.network.teacher import Teacher
from classificador.recipes import TEACHER, make_settings
from classificador.training.fit import train
from classificador.training.run_folder import Runs
from classificador.training.start import load_teacher
from conftest import INFO, stop_at


@pytest.fixture(scope="module")
def teacher(toy, tmp_path_factory):
    """A small teacher, trained for a few seconds."""
    path = tmp_path_factory.mktemp("teacher") / "professor.pth"
    torch.manual_seed(0)
    train(replace(TEACHER, epochs=6, batch_size=32, device="cpu"), toy, path, make_network(Teacher, widths=(8, 16, 16)))
    return path


@pytest.fixture
def settings(teacher):
    small = {"epochs": 3, "batch_size": 128, "channels": (4, 8), "hidden": 16, "device": "cpu"}
    return make_settings("destilado", **small, teacher=str(teacher))


def test_it_is_found_by_a_path_as_people_write_it(toy, teacher, monkeypatch):
    monkeypatch.setenv("HOME", str(teacher.parent))
    found = [load_teacher(path, toy, torch.device("cpu")).fingerprint for path in (str(teacher), f"~/{teacher.name}")]
    assert found[0] == found[1]


def save_teacher(path, classes=INFO["classes"], **sizes):
    model = make_network(Teacher, widths=(8, 8, 8), classes=len(classes), **sizes)
    save_checkpoint(path, model, INFO | {"classes": classes})


def test_its_first_layer_is_fixed_and_the_rest_is_made_from_the_seed(toy):
    first, second = (build(replace(TEACHER, symmetric=False), toy, Teacher) for _ in range(2))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not first.conv1.weight.requires_grad


@pytest.mark.slow
def test_a_distilled_network_learns_without_ever_seeing_a_training_label(toy, settings, tmp_path):
    blind = replace(toy, train=replace(toy.train, labels=torch.zeros_like(toy.train.labels)))
    history = train(replace(settings, epochs=10, batch_size=32), blind, tmp_path / "b.pth")[1]
    assert max(history.val_accuracy) > 0.5  # ten classes


@pytest.mark.slow
def test_stopped_and_resumed_with_no_other_teacher_equals_uninterrupted(toy, settings, tmp_path):
    whole, path = Outcome(settings, toy, tmp_path / "whole.pth"), tmp_path / "b.pth"
    moving = replace(settings, teacher=str(tmp_path / "professor.pth"))
    shutil.copy(settings.teacher, tmp_path / "professor.pth")
    assert Outcome(moving, toy, path, stop_at(5)).history.interrupted
    save_teacher(tmp_path / "professor.pth")
    with pytest.raises(CheckpointError, match="mudou: professor"):
        Outcome(moving, toy, path, resume=True)
    (tmp_path / "professor.pth").unlink()
    with pytest.raises(CheckpointError, match="^Falta o professor"):
        Outcome(moving, toy, path, resume=True)
    assert Runs(path).interrupted()
    shutil.copy(settings.teacher, tmp_path / "professor.pth")
    assert Outcome(moving, toy, path, resume=True) == whole


@pytest.mark.slow
def test_the_word_stands_wherever_the_figures_do(toy, settings, tmp_path):
    path = tmp_path / "b.pth"
    train(replace(settings, epochs=1), toy, path)
    model = load_model(path)
    assert "as respostas de um professor, com " in describe_checkpoint(model.info)
    portuguese, english = (card.read_text(encoding="utf-8") for card in write_cards(model, path, toy, tmp_path))
    assert "Destilado: " in portuguese and "| Acurácia, destilado |" in portuguese
    assert "Distilled: " in english and "| Accuracy, distilled |" in english
    assert '"teacher": {"crc32"' in describe(model)["provenance"]
    assert json.loads(describe(model)["provenance"])["temperature"] == model.info.temperature


def test_without_its_teacher_a_training_does_not_begin(toy, small, tmp_path):
    path = tmp_path / "professor.pth"

    def begin():
        train(replace(small, teacher=str(path)), toy, tmp_path / "b.pth")

    with pytest.raises(CheckpointError, match="^Falta o professor .* professor`"):
        begin()
    save_teacher(path, classes=["a", "b"])
    with pytest.raises(CheckpointError, match="outras classes"):
        begin()
    save_teacher(path, side=64)
    with pytest.raises(CheckpointError, match="imagens de 64 pixels; estas têm 32"):
        begin()
    assert not (tmp_path / "b.pth").exists()
