import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from classificador.data.dataset import Split
from classificador.network.build import build
from classificador.recipes import make_settings
from classificador.results.metrics import Report, calibration_error
from classificador.results.predict import uncalibrated
from classificador.results.robustness import DAMAGES
from classificador.show import figures, live, style
from classificador.training.history import History


@pytest.fixture(autouse=True)
def afresh():
    """Each test looks for fonts anew; its figures are drawn, warnings being errors, as of a glyph that no font has."""
    style.fonts_for.cache_clear()
    yield
    for number in plt.get_fignums():
        plt.figure(number).savefig(io.BytesIO())
    plt.close("all")
    style.fonts_for.cache_clear()


@pytest.fixture
def report(toy) -> Report:
    random = np.random.RandomState(0)
    probabilities = random.dirichlet(np.ones(10), len(toy.test))
    return Report(toy.classes, toy.test.labels.numpy(), probabilities)


@pytest.fixture
def history() -> History:
    return History(
        train_loss=[2.0, 1.5, 1.2],
        train_accuracy=[0.3, 0.5, 0.6],
        val_loss=[1.8, 1.4, 1.5],
        val_accuracy=[0.4, 0.6, 0.5],
        seconds=[1, 2, 3],
        steps=[(0.5, 2.1, 0.2), (1.0, 2.0, 0.3)],
    )


def texts(figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def test_training_curves_mark_the_best_epoch(history):
    figure = figures.training_curves(history)
    assert "melhor época (2)" in texts(figure)
    curves = ((history.train_loss, history.val_loss), (history.train_accuracy, history.val_accuracy))
    for axis, (train, val) in zip(figure.axes, curves, strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
        assert (lines["treino"], lines["validação"]) == (train, val)
        assert list(axis.lines[-1].get_xdata()) == [2, 2]


@pytest.mark.parametrize("history", [History(), History(steps=[(0.5, 2.1, 0.2)])])
def test_training_curves_draw_before_the_first_epoch_ends(history):
    figures.training_curves(history)


def test_both_confusion_matrices_name_every_class_and_show_the_counts(report):
    figure = figures.confusion_matrices(report)
    for axis, values in zip(figure.axes, (report.confusion, 10 * report.confusion), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == list(report.classes)
        assert [t.get_text() for t in axis.texts] == [str(value) for value in values.flat]  # 10 images a class


def test_right_and_wrong_differ_by_more_than_colour(report, toy):
    right = int(np.flatnonzero(report.predictions == report.labels)[0])
    wrong = int(np.flatnonzero(report.predictions != report.labels)[0])
    figure = figures.prediction_grid(report, toy.test.images, [right, wrong])
    first, second = figure.axes[:2]
    assert first.get_title().startswith("✓")
    assert second.get_title().startswith("✗")
    assert first.spines["left"].get_linestyle() != second.spines["left"].get_linestyle()
    assert report.classes[report.labels[wrong]] in second.get_title()


def test_confused_pairs_name_the_most_frequent_mistake(report, toy):
    figure = figures.confused_pairs(report, toy.test.images)
    true, predicted, times = report.most_confused(1)[0]
    said = "".join(text.get_text() for text in figure.axes[0].texts)
    assert f"{report.classes[true]}\n→ {report.classes[predicted]}\n{times} vezes" in said


def test_data_figures_name_the_classes(toy):
    counts = figures.class_counts({"treino": toy.train}, toy.classes)
    for figure in (figures.sample_grid(toy.train, toy.classes, 2), counts):
        assert all(name in texts(figure) for name in toy.classes)
    figures.normalisation_effect(toy.train.images[:20])


def test_live_curves_update_one_display(history, monkeypatch):
    shown, updates = [], []

    class Handle:
        def update(self, figure):
            updates.append(figure)

    def watch(*histories):
        curves = live.LiveCurves()
        for each in histories:
            curves(each)
        return len(shown), len(updates)

    monkeypatch.setattr(live, "display", lambda figure, display_id: shown.append(figure) or Handle())
    monkeypatch.setattr(live.LiveCurves, "EPOCH_SHARE", 1e9)
    assert watch(History(), history, history) == (1, 1), "drawn after an epoch, and not again at once"
    monkeypatch.setattr(live.LiveCurves, "EPOCH_SHARE", 1e-9)
    assert watch(History(), history) == (2, 1), "the first drawing took far longer than this epoch"
    monkeypatch.setattr(live, "display", lambda figure, display_id: shown.append(figure))  # as outside a notebook
    assert watch(History(), History()) == (3, 1), "too soon there as well"


def test_the_reliability_diagram_shows_both_errors(report):
    figure = figures.reliability_diagram(report, 0.5)
    raw = uncalibrated(report.probabilities, 0.5)
    for axis, probabilities in zip(figure.axes, (raw, report.probabilities), strict=True):
        gap = 100 * calibration_error(probabilities, report.labels)
        assert f"erro de {gap:.1f}%".replace(".", ",") in axis.get_title()


def test_typical_and_hardest_are_the_ends_of_each_classs_order(report, toy):
    figure = figures.typical_and_hardest(report, toy.test.images, columns=2)
    for row, label in enumerate(range(10)):
        own = np.flatnonzero(report.labels == label)
        order = own[np.argsort(-report.probabilities[own, label])]
        axes = figure.axes[5 * row : 5 * row + 5]
        for place, index in ((0, order[0]), (1, order[1]), (3, order[-1]), (4, order[-2])):
            assert (axes[place].images[0].get_array() == toy.test.images[index].permute(1, 2, 0).numpy()).all()
        assert axes[3].get_title() == report.classes[report.predictions[order[-1]]]


def test_heat_maps_lie_over_their_images_and_tell_right_from_wrong(report, toy):
    right = int(np.flatnonzero(report.predictions == report.labels)[0])
    wrong = report.surest_mistakes(1)[0]
    heat = torch.rand(2, 32, 32)
    figure = figures.heat_maps(report, toy.test.images, [right, wrong], list(heat))
    assert [axis.get_title()[0] for axis in figure.axes[:2]] == ["✓", "✗"]
    assert (figure.axes[3].images[1].get_array() == heat[1].numpy()).all()


def test_filters_are_pictures_with_grey_for_zero():
    conv = torch.nn.Conv2d(3, 3, 5)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 0] = 2
    figure = figures.first_filters(torch.nn.Sequential(conv), columns=2)
    pictures = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(pictures) == 3
    assert pictures[0].tolist() == np.full((5, 5, 3), 0.5).tolist()
    assert pictures[1][0, 0].tolist() == [1, 0.5, 0.5]


def test_filters_that_only_repeat_the_others_with_turned_signs_are_left_out(toy):
    figure = figures.first_filters(build(make_settings(channels=(6, 8)), toy))
    assert len([axis for axis in figure.axes if axis.images]) == 3


def test_robustness_begins_at_the_undamaged_accuracy(report):
    figure = figures.robustness({name: [0.8, 0.7, 0.6, 0.5, 0.4] for name in DAMAGES}, 0.85)
    lines = figure.axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[0.85, 0.8, 0.7, 0.6, 0.5, 0.4]] * len(DAMAGES)
    assert "JPEG" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_model_without_mistakes_is_told_so(toy):
    probabilities = np.eye(10)[toy.test.labels.numpy()]
    perfect = Report(toy.classes, toy.test.labels.numpy(), probabilities)
    for figure in (
        figures.confused_pairs(perfect, toy.test.images),
        figures.prediction_grid(perfect, toy.test.images, perfect.surest_mistakes()),
    ):
        assert figures.NO_MISTAKE in texts(figure)


def every_figure(classes, monkeypatch):
    """The figures of a data set and of a report that name classes, each with ten images."""
    usual = [font for font in style.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(style.fontManager, "ttflist", usual)  # as on a machine without others
    labels = np.arange(10 * len(classes)) % len(classes)
    images = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8)
    random = np.random.RandomState(0)
    report = Report(classes, labels, random.dirichlet(np.ones(len(classes)), len(labels)))
    split = Split(images, torch.from_numpy(labels))
    return {
        "samples": figures.sample_grid(split, classes),
        "counts": figures.class_counts({"teste": split}, classes),
        "confusion": figures.confusion_matrices(report),
        "pairs": figures.confused_pairs(report, images),
        "typical": figures.typical_and_hardest(report, images),
        "predictions": figures.prediction_grid(report, images, [0, 1]),
    }


def test_of_many_classes_some_are_shown_and_the_figure_says_which(monkeypatch):
    for module in (figures, style):
        monkeypatch.setattr(module, "MOST", 3)
    drawn = every_figure(("a", "b", "c", "d"), monkeypatch)
    shown = {"samples": "as primeiras", "counts": "as de menos imagens"}
    for name, which in (shown | dict.fromkeys(("confusion", "typical"), "as de mais erros")).items():
        assert drawn[name].get_supxlabel() == f"3 das 4 classes: {which}", name
    assert len(drawn["confusion"].axes[0].get_yticklabels()) == 3
    assert drawn["pairs"].get_supxlabel() == drawn["predictions"].get_supxlabel() == ""
    plt.close("all")  # the next test draws them


@pytest.mark.slow
def test_names_without_a_font_or_alike_at_the_start_stay_apart(monkeypatch):
    classes = ("猫", "แมว", "Fotos da praia em 2024", "Fotos da praia em 2025", "Sol")
    for name, figure in every_figure(classes, monkeypatch).items():
        assert "nº: o lugar da classe na lista" in figure.get_supxlabel(), name
    shown = ["nº 1", "nº 2", "Fotos d… em 2024", "Fotos d… em 2025", "Sol"]
    assert style.short_names(classes, set("Fotos da praia em 2024 2025 Sol")) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ᶁᶄ", "ᶁᶄ"),  # in another font than the usual one: STIX, which matplotlib brings, has them
        ("R$ 5 e R$ 10", "R$ 5 e R$ 10"),  # no formula
        ("um nome comprido demais para um título", "um nome comprid…"),
    ],
)
def test_class_names_are_drawn_as_they_are_or_cut(toy, name, shown):
    figure = figures.class_counts({"teste": toy.test}, (name, *toy.classes[1:]))
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == shown and not label.get_parse_math()
    assert "nº" not in texts(figure)
