import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from classificador.network.cnn import CNN, make_network
from classificador.show import own_pictures
from classificador.show.own_pictures import DOUBT, explain_picture, upload_box
from classificador.show.style import Described
from conftest import info_for


@pytest.fixture
def model() -> CNN:
    torch.manual_seed(0)
    model = make_network(CNN, channels=(4, 8), hidden=16, classes=3).eval()
    model.info = info_for(model, classes=["gato", "sapo", "uva"])
    return model


def texts(figure: Described) -> str:
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_a_picture_is_shown_with_what_the_network_sees_and_says(model, tmp_path):
    Image.new("RGB", (90, 40), (200, 30, 30)).save(tmp_path / "foto.png")
    figure = explain_picture(model, tmp_path / "foto.png")
    assert figure.axes[0].images[0].get_array().shape == (40, 90, 3)
    assert figure.axes[1].images[0].get_array().shape == (32, 32, 3)
    assert len(figure.axes[2].patches) == 3
    long = explain_picture(model, Image.new("RGB", (3000, 2)))
    assert long.axes[0].images[0].get_array().shape == (1, 400, 3)
    assert "32×32" in texts(figure) and "sapo" in texts(figure) and DOUBT not in texts(figure)


def test_a_picture_of_perhaps_no_class_comes_with_a_warning(model):
    model.info = replace(model.info, doubt_below=0.99)
    assert DOUBT in texts(explain_picture(model, Image.new("RGB", (32, 32))))


def test_the_box_shows_every_picture_once_it_is_whole_and_names_the_bad_ones(model, monkeypatch, capsys):
    shown, good = [], io.BytesIO()
    monkeypatch.setattr(own_pictures, "display", shown.append)
    Image.new("RGB", (50, 50)).save(good, "PNG")
    whole = upload_box(model)
    assert repr(whole) == "Aqui se arrastam fotos, depois de executar esta célula."
    box, results = whole.children

    def send(name, size, start, content):
        message = {"name": name, "size": size, "start": start}
        box._handle_custom_msg(message, [memoryview(content)])

    send("boa.png", 1000, 0, b"x" * 60)  # broken off
    for start in (0, 60):
        send("grande.png", 2**40, start, b"x" * 60)
    assert capsys.readouterr().out.count("grande.png é grande demais (400 MB no máximo)") == 1
    for start in range(0, len(good.getvalue()), 60):
        assert not shown
        send("boa.png", len(good.getvalue()), start, good.getvalue()[start : start + 60])
    send("ruim.png", 5, 0, b"texto")
    send("vazia.png", 0, 0, b"")
    assert [type(figure) for figure in shown] == [Described]
    out = capsys.readouterr().out
    assert "boa.png: " in out and "ruim.png não é uma imagem" in out and "vazia.png não tem conteúdo" in out
    assert len(results.children) == 4
