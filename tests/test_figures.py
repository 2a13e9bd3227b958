import base64
import json
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from classificador.results.metrics import Report, calibration_error
from classificador.results.predict import uncalibrated
from classificador.results.robustness import DAMAGES
from classificador.show import figures, lesson, live, style
from classificador.training.history import History


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Each test's figures are laid out at its end, warnings being errors, as of a glyph that no font has."""
    made = []

    def new_figure(*shape, **look):
        made.append(original(*shape, **look))
        return made[-1]

    original = style.new_figure
    for module in (style, figures, lesson):
        monkeypatch.setattr(module, "new_figure", new_figure)
    yield
    for figure, _ in made:
        figure.draw_without_rendering()


@pytest.fixture
def report(toy) -> Report:
    random = np.random.RandomState(0)
    probabilities = random.dirichlet(np.ones(10), len(toy.test))
    return Report(toy.classes, toy.test, probabilities)


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


def test_a_notebook_shows_a_picture_and_keeps_the_text_that_stands_for_it(history):
    data, metadata = figures.training_curves(history)._repr_mimebundle_()
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG"
    assert "Curvas de perda" in metadata["image/png"]["alt"] == data["text/plain"]


def test_training_curves_draw_from_the_start_and_mark_the_best_epoch(history):
    for begun in (History(), History(steps=[(0.5, 2.1, 0.2)])):
        figures.training_curves(begun)
    figure = figures.training_curves(history)
    assert "melhor época (2)" in texts(figure)
    curves = ((history.train_loss, history.val_loss), (history.train_accuracy, history.val_accuracy))
    for axis, (train, val) in zip(figure.axes, curves, strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
        assert (lines["treino"], lines["validação"]) == (train, val)
        assert list(axis.lines[-1].get_xdata()) == [2, 2]


def test_both_confusion_matrices_name_every_class_and_show_the_counts(report):
    figure = figures.confusion_matrices(report)
    for axis, values in zip(figure.axes, (report.confusion, 10 * report.confusion), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == list(report.classes)
        assert [t.get_text() for t in axis.texts] == [str(value) for value in values.flat]  # 10 images a class


def test_right_and_wrong_differ_by_more_than_colour_also_under_heat_maps(report, toy):
    right = report.predictions == report.labels
    right_and_wrong = [int(np.flatnonzero(right)[0]), int(np.flatnonzero(~right)[0])]
    grid = figures.prediction_grid(report, right_and_wrong)
    heat = torch.rand(2, 32, 32)
    maps = figures.heat_maps(report, right_and_wrong, list(heat))
    for figure in (grid, maps):
        assert [axis.get_title()[0] for axis in figure.axes[:2]] == ["✓", "✗"]
    first, second = grid.axes[:2]
    assert first.spines["left"].get_linestyle() != second.spines["left"].get_linestyle()
    assert report.classes[report.labels[right_and_wrong[1]]] in second.get_title()
    assert (maps.axes[3].images[1].get_array() == heat[1].numpy()).all()


def test_confused_pairs_name_the_most_frequent_mistake(report, toy):
    figure = figures.confused_pairs(report)
    true, predicted, times = report.most_confused(1)[0]
    said = "".join(text.get_text() for text in figure.axes[0].texts)
    assert f"{report.classes[true]}\n→ {report.classes[predicted]}\n{times} vezes" in said


def test_data_figures_name_the_classes(toy):
    counts = figures.class_counts({"treino": toy.train}, toy.classes)
    for figure in (figures.sample_grid(toy.train, toy.classes, 2), counts):
        assert all(name in texts(figure) for name in toy.classes)
    figures.normalisation_effect(toy.train.images[:20])


def test_live_curves_update_one_display_and_take_a_small_share_of_the_time(history, monkeypatch):
    shown, updates, now = [], [], [0.0]

    class Handle:
        def update(self, figure):
            updates.append(figure)

    def display(figure, display_id):
        now[0] += 1  # second that it takes
        shown.append(figure)
        return Handle()

    monkeypatch.setattr(live, "display", display)
    monkeypatch.setattr(live.time, "perf_counter", lambda: now[0])
    curves = live.LiveCurves()
    for now[0], drawn in ((0, (1, 0)), (30, (1, 0)), (40, (1, 1))):
        curves(history)
        assert (len(shown), len(updates)) == drawn
    now[0] = 10
    curves.draw(history)
    assert len(updates) == 2, "asked to, at once"
    monkeypatch.setattr(live, "get_ipython", lambda: SimpleNamespace(execution_count=7))
    curves.draw(history)  # in another cell: where the first is, a reloaded page does not know any more
    curves.draw(history)
    assert (len(shown), len(updates)) == (2, 3)


def test_the_reliability_diagram_shows_both_errors(report):
    figure = figures.reliability_diagram(report, 0.5)
    raw = uncalibrated(report.probabilities, 0.5)
    for axis, probabilities in zip(figure.axes, (raw, report.probabilities), strict=True):
        gap = 100 * calibration_error(probabilities, report.labels)
        assert f"erro de {gap:.1f}%".replace(".", ",") in axis.get_title()


def test_typical_and_hardest_are_the_ends_of_each_classs_order(report, toy):
    figure = figures.typical_and_hardest(report, columns=2)
    for row, label in enumerate(range(10)):
        own = np.flatnonzero(report.labels == label)
        order = own[np.argsort(-report.probabilities[own, label])]
        axes = figure.axes[5 * row : 5 * row + 5]
        for place, index in ((0, order[0]), (1, order[1]), (3, order[-1]), (4, order[-2])):
            assert (axes[place].images[0].get_array() == toy.test.images[index].permute(1, 2, 0).numpy()).all()
        assert axes[3].get_title() == report.classes[report.predictions[order[-1]]]


@pytest.mark.parametrize("repeated", [False, True])
def test_filters_are_pictures_with_grey_for_zero_those_with_turned_signs_left_out(repeated):
    conv = torch.nn.Conv2d(3, 6 if repeated else 3, 5)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 0] = 2
        conv.weight[3:] = -conv.weight[:3] if repeated else 0
    figure = figures.first_filters(torch.nn.Sequential(conv), columns=2)
    pictures = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(pictures) == 3
    assert pictures[0].tolist() == np.full((5, 5, 3), 0.5).tolist()
    assert pictures[1][0, 0].tolist() == [1, 0.5, 0.5]


def test_robustness_begins_at_the_undamaged_accuracy(report):
    figure = figures.robustness({name: [0.8, 0.7, 0.6, 0.5, 0.4] for name in DAMAGES}, 0.85)
    lines = figure.axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[0.85, 0.8, 0.7, 0.6, 0.5, 0.4]] * len(DAMAGES)
    assert "JPEG" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_model_without_mistakes_is_told_so(toy):
    probabilities = np.eye(10)[toy.test.labels.numpy()]
    perfect = Report(toy.classes, toy.test, probabilities)
    for figure in (
        figures.confused_pairs(perfect),
        figures.prediction_grid(perfect, perfect.surest_mistakes()),
    ):
        assert style.NO_MISTAKE in texts(figure)


def test_of_many_classes_some_are_shown_and_the_figure_says_which(toy, report, monkeypatch):
    for module in (figures, style):
        monkeypatch.setattr(module, "MOST", 3)
    drawn = {
        "as primeiras": [figures.sample_grid(toy.test, toy.classes)],
        "as de menos imagens": [figures.class_counts({"teste": toy.test}, toy.classes)],
        "as de mais erros": [figures.confusion_matrices(report), figures.typical_and_hardest(report)],
    }
    for which, those in drawn.items():
        assert {figure.get_supxlabel() for figure in those} == {f"3 das 10 classes: {which}"}
    assert len(drawn["as de mais erros"][0].axes[0].get_yticklabels()) == 3
    assert figures.confused_pairs(report).get_supxlabel() == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ᶁᶄ", "ᶁᶄ"),  # in another font than the usual one: STIX, which matplotlib brings, has them
        ("R$ 5 e R$ 10", "R$ 5 e R$ 10"),  # no formula
        ("Fotos da praia em 2025", "Fotos d… em 2025"),  # apart from those of another year
    ],
)
def test_class_names_are_drawn_as_they_are_or_cut(toy, name, shown):
    figure = figures.class_counts({"teste": toy.test}, (name, *toy.classes[1:]))
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == shown and not label.get_parse_math()
    assert figure.get_supxlabel() == ""


def test_names_without_a_font_or_alike_at_both_ends_are_numbers_and_the_figure_says_so(toy, monkeypatch):
    monkeypatch.setattr(style.fontManager, "ttflist", [])  # as on a machine without other fonts
    names = ("猫", "Fotos da praia em 2025", "Fotos do campo em 2025", *toy.classes[3:])
    figure = figures.class_counts({"teste": toy.test}, names)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[:3] == ["nº 1", "nº 2", "nº 3"] and labels[3:] == list(toy.classes[3:])
    assert "nº: o lugar da classe na lista" in figure.get_supxlabel()


def test_a_convolution_is_shown_in_numbers_with_frames_around_what_the_first_answer_is_made_of(toy):
    corner, kernel, answers = torch.arange(25.0).reshape(5, 5), torch.eye(3), torch.full((3, 3), -7.0)
    figure = lesson.convolution(toy.train.images[0], (4, 6), corner, kernel, answers)
    assert [axis.get_title() for axis in figure.axes] == ["a foto", "5×5 pixels, em cinza", "o filtro", "as respostas"]
    assert [text.get_text() for text in figure.axes[3].texts] == ["−7"] * 9
    frames = [[(one.get_x(), one.get_y(), one.get_width()) for one in axis.patches] for axis in figure.axes]
    assert frames == [[(5.5, 3.5, 5)], [(-0.5, -0.5, 3)], [], [(-0.5, -0.5, 1)]]


def test_the_table_of_ideas_tells_what_each_adds(tmp_path, monkeypatch):
    results = {"settings": {"images": 10_000, "epochs": 3}, "seconds": {"rede": 2.0, "ideia": 3.06, "outra": 3}}
    results["machine"] = {"cores": 2, "kind": "AVX2, float32"}
    results["accuracy"] = {"rede": [0.5, 0.52], "ideia": [0.61, 0.59], "outra": [0.58, 0.6]}
    monkeypatch.setattr(lesson, "IDEAS", tmp_path / "ideas.json")
    lesson.IDEAS.write_text(json.dumps(results), encoding="utf-8")
    said = texts(lesson.ideas())
    words = ["rede", "+ ideia", "51,0%", "60,0%", "+9,0", "−1,0", "3,1 s"]
    words += ["10.000 imagens de treino, 3 épocas", "2 núcleos, AVX2"]
    assert [word for word in words if word not in said] == []


def test_the_learning_rate_rises_to_the_recipes_and_falls_and_alterations_stand_beside_the_photo(toy):
    (line,) = lesson.learning_rate(0.01, 5).axes[0].lines
    assert max(line.get_ydata()) == pytest.approx(0.01) and line.get_xdata()[-1] == pytest.approx(5, abs=0.02)
    figure = lesson.alterations(toy.train.images[0], toy.train.images[1:4])
    assert len(figure.axes) == 4 and figure.axes[0].get_title() == "a foto"
