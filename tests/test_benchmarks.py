"""The arithmetic of the benchmarks; what they measure is not for a test."""

import statistics

import nbformat
import pytest
import torch

from benchmarks import exercises, ideas, ratio, time_to_accuracy
from benchmarks.step import multiply_adds
from classificador import Symmetric, build, make_settings
from classificador.apps.notebook import NOTEBOOK
from classificador.network.cnn import OriginalCNN
from classificador.portuguese import percent
from classificador.recipes import REACHES
from conftest import info_for


def test_multiply_adds_of_the_original_network():
    # By hand: conv1 3·9·32·32², conv2 32·9·64·16², fc1 4096·512, fc2 512·10; the pixels need no gradient.
    conv1, others = 3 * 9 * 32 * 32**2, 32 * 9 * 64 * 16**2 + 4096 * 512 + 512 * 10
    assert multiply_adds(OriginalCNN()) == (conv1 + others, conv1 + 2 * others)


def test_a_frozen_first_layer_needs_no_backward_pass_before_the_second(toy):
    model = build(make_settings(channels=(4, 8), pools=(2, 4), hidden=16), toy)
    conv1, conv2, linear = 3 * 25 * 4 * 32**2, 4 * 9 * 8 * 16**2, 256 * 16 + 160
    assert multiply_adds(model) == (conv1 + conv2 + linear, conv2 + 2 * linear)


def test_a_target_is_reached_by_the_mean_over_the_seeds():
    def run(*accuracies):
        return [{"seconds": 10.0 * (i + 1), "accuracy": accuracy} for i, accuracy in enumerate(accuracies)]

    rows = time_to_accuracy.summarise([run(0.6, 0.74, 0.76), run(0.8, 0.75, 0.78)])
    assert [row["accuracy"][0] for row in rows] == pytest.approx([0.70, 0.745, 0.77])
    assert time_to_accuracy.reached(rows, 0.75) == 30
    assert time_to_accuracy.reached(rows, 0.80) is None
    epoch, _ = time_to_accuracy.best_of_original({"original": {"runs": [run(0.6, 0.7), run(0.9, 0.7)]}})
    assert epoch == 1  # of the mean over the seeds


def test_a_result_of_other_settings_is_not_taken_for_todays():
    settings = time_to_accuracy.settings_of("rapido")
    result = {"settings": settings, "runs": [[]], "machine": time_to_accuracy.machine.describe()}
    assert time_to_accuracy.still_true(result, "rapido")
    assert not time_to_accuracy.still_true(result | {"settings": settings | {"epochs": 99}}, "rapido")
    assert not time_to_accuracy.still_true(result | {"runs": []}, "rapido")
    assert not time_to_accuracy.still_true(result | {"machine": {"processor": "outro"}}, "rapido")


def test_the_ratio_ends_with_a_line_for_the_processor_and_one_a_target(toy, monkeypatch, capsys):
    def trained(data, line, settings):
        model = build(make_settings(channels=(4, 8), hidden=16), data)
        model.info = info_for(model)
        return model, {"alvo 75%": 2.0, "relampago": 4.0, "alvo 85%": 8.0 * settings.epochs}[line]

    monkeypatch.setattr(ratio, "load_cifar10", lambda root: toy)
    monkeypatch.setattr(ratio, "train_ours", trained)
    ratio.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[-3:]] == ["85%", "80%", "75%"]
    assert lines[-4].startswith(f"processador: {ratio.machine.kind()}")
    ratios = [float(line.split()[1].replace(",", ".")) for line in lines[-3:]]
    assert ratios[1] * 4 == pytest.approx(ratios[2] * 2, abs=0.5)
    epochs = time_to_accuracy.recipe_settings("alvo 85%", 0).epochs
    assert ratios[0] * 8 * epochs == pytest.approx(ratios[2] * 2, abs=8 * epochs * 0.05)  # each is printed to a tenth


@pytest.mark.parametrize("preset", REACHES)
def test_what_a_recipe_is_said_to_reach_was_measured_with_its_settings_of_today(preset):
    measured = [
        lines[preset] for lines in time_to_accuracy.machine.stored("time_to_accuracy").values() if preset in lines
    ]
    today = [line for line in measured if line["settings"] == time_to_accuracy.settings_of(preset)]
    assert today and all(
        REACHES[preset] <= round(time_to_accuracy.summarise(line["runs"])[0]["accuracy"][0], 3) < REACHES[preset] + 0.01
        for line in today
    )


def test_the_notebook_tells_what_came_out_of_its_exercises():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    answers = "".join(cell.source for cell in cells if cell.cell_type == "markdown").partition("### Exercícios")[2]
    results = exercises.machine.stored("exercises")
    assert list(results) == list(exercises.EXERCISES)
    means = [statistics.mean(run["val_accuracy"] for run in runs) for runs in results.values()]
    assert [percent(mean) for mean in means if percent(mean) not in answers] == []


def test_the_ladder_begins_with_the_notebooks_network_and_ends_with_every_idea(toy, monkeypatch):
    plain, whole = ideas.Ladder([]), ideas.Ladder(ideas.LADDER)
    original = OriginalCNN().state_dict()
    assert {name: value.shape for name, value in plain.state_dict().items()} == {
        n: v.shape for n, v in original.items()
    }
    assert isinstance(whole.norm2, torch.nn.BatchNorm2d) and whole.fc1.in_features == 2 * plain.fc1.in_features
    monkeypatch.setattr(ideas, "IMAGES", len(toy.train))
    monkeypatch.setattr(ideas, "EPOCHS", 1)
    monkeypatch.setattr(ideas, "BATCH", 20)
    once, again = (ideas.accuracy(toy, ideas.LADDER, 3) for _ in range(2))
    assert once == again
    *_, model = ideas.train(toy, ideas.LADDER, 3)
    assert isinstance(model, Symmetric) and not model.network.conv1.weight.requires_grad
