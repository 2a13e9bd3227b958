"""The teacher, and a network that learns from it."""

import json
from dataclasses import replace

import pytest
import torch
from test_resume import Outcome, stop_after
from torch import nn

from classificador.apps.export import describe
from classificador.apps.model_card import write_cards
from classificador.device import autocast, has_bf16
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN
from classificador.network.model_info import describe_checkpoint
from classificador.network.teacher import Teacher
from classificador.recipes import TEACHER, make_settings
from classificador.training.fit import fit
from classificador.training.run_folder import Runs
from conftest import INFO

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(toy, tmp_path_factory):
    """A small teacher, trained for a few seconds."""
    path = tmp_path_factory.mktemp("teacher") / "professor.pth"
    settings = replace(TEACHER, epochs=6, batch_size=32, device="cpu")
    torch.manual_seed(0)
    model = make_network(Teacher, widths=(8, 16, 16))
    fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, path)
    return path


@pytest.fixture
def settings(teacher):
    small = {"epochs": 3, "batch_size": 64, "channels": (4, 8), "hidden": 16, "device": "cpu"}
    return make_settings("destilado", **small, teacher=str(teacher))


def test_its_first_layer_is_fixed_and_the_rest_is_made_from_the_seed(toy):
    first, second = (build(replace(TEACHER, symmetric=False), toy, Teacher) for _ in range(2))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not first.conv1.weight.requires_grad


def test_a_distilled_network_learns_without_ever_seeing_a_training_label(toy, settings, tmp_path):
    blind = replace(toy, train=replace(toy.train, labels=torch.zeros_like(toy.train.labels)))
    settings = replace(settings, epochs=12, batch_size=32)
    model = build(settings, blind, CNN)
    history = fit(model, blind, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "b.pth")
    assert max(history.val_accuracy) > 0.5  # ten classes


def test_stopped_and_resumed_equals_uninterrupted_with_a_teacher(toy, settings, tmp_path, monkeypatch):
    whole = Outcome(settings, toy, tmp_path / "whole.pth")
    with monkeypatch.context() as patch:
        stop_after(patch, {5})
        assert Outcome(settings, toy, tmp_path / "b.pth").history.interrupted
    assert Outcome(settings, toy, tmp_path / "b.pth", resume=True) == whole


def test_another_teacher_is_not_taken_for_the_same_when_resuming(toy, settings, teacher, tmp_path, monkeypatch):
    settings = replace(settings, teacher=str(tmp_path / "professor.pth"))
    (tmp_path / "professor.pth").write_bytes(teacher.read_bytes())
    with monkeypatch.context() as patch:
        stop_after(patch, {5})
        Outcome(settings, toy, tmp_path / "b.pth")
    save_checkpoint(tmp_path / "professor.pth", make_network(Teacher, widths=(8, 16, 16)), INFO)
    with pytest.raises(CheckpointError, match="mudou: professor"):
        Outcome(settings, toy, tmp_path / "b.pth", resume=True)


def test_the_word_stands_wherever_the_figures_do(toy, settings, tmp_path):
    path = tmp_path / "b.pth"
    Outcome(settings, toy, path)
    model = load_model(path)
    assert "as respostas de um professor, com " in describe_checkpoint(model.info)
    portuguese, english = write_cards(model, path, toy, tmp_path)
    assert "Destilado: " in portuguese.read_text(encoding="utf-8")
    assert "| Acurácia, destilado |" in portuguese.read_text(encoding="utf-8")
    assert "Distilled: " in english.read_text(encoding="utf-8")
    assert "| Accuracy, distilled |" in english.read_text(encoding="utf-8")
    assert '"teacher": {"crc32"' in describe(model)["provenance"]
    assert json.loads(describe(model)["provenance"])["temperature"] == model.info.temperature


def test_without_its_teacher_a_training_does_not_begin(toy, settings, tmp_path):
    with pytest.raises(CheckpointError, match="^Falta o professor .* professor`"):
        Outcome(replace(settings, teacher=str(tmp_path / "nenhum.pth")), toy, tmp_path / "b.pth")
    save_checkpoint(
        tmp_path / "outro.pth", make_network(Teacher, widths=(8, 8, 8), classes=2), INFO | {"classes": ["a", "b"]}
    )
    with pytest.raises(CheckpointError, match="outras classes"):
        Outcome(replace(settings, teacher=str(tmp_path / "outro.pth")), toy, tmp_path / "b.pth")
    save_checkpoint(tmp_path / "maior.pth", make_network(Teacher, widths=(8, 8, 8), side=64), INFO)
    with pytest.raises(CheckpointError, match="imagens de 64 pixels; estas têm 32"):
        Outcome(replace(settings, teacher=str(tmp_path / "maior.pth")), toy, tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()


def test_an_interrupted_run_stays_where_it_is_when_there_is_no_teacher(toy, settings, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, {5})
        Outcome(settings, toy, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="^Falta o professor"):
        Outcome(replace(settings, teacher=str(tmp_path / "nenhum.pth")), toy, tmp_path / "b.pth")
    assert Runs(tmp_path / "b.pth").interrupted()


@pytest.mark.parametrize(("ability", "expected"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": 1}, True)])
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, ability, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ability)
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if expected else torch.float32)


def test_a_torch_that_cannot_tell_what_the_processor_has_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_bf16(torch.device("cpu"))
