"""The committed model card is what the command makes of the committed model."""

import re

import pytest
import torch

from classificador.apps import model_card
from classificador.data.dataset import ImageData, Split
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO, ROOT, model_of


@pytest.mark.slow
def test_the_committed_cards_are_those_of_the_committed_model(cifar10, tmp_path):
    path = model_of("docs/ficha.md", tmp_path)
    for made in model_card.write_cards(load_model(path), path, cifar10, tmp_path):
        committed, remade = ((place / made.name).read_text("utf-8") for place in (ROOT / "docs", tmp_path))
        figures = [re.findall(r"\d+[.,]\d+", text) for text in (committed, remade)]
        words = [re.sub(r"[\d.,]+", "0", text.split("## Result")[0]) for text in (committed, remade)]
        assert words[0] == words[1]
        assert len(figures[0]) == len(figures[1]) > 50
        for one, other in zip(*figures, strict=True):  # another processor rounds otherwise
            assert float(one.replace(",", ".")) == pytest.approx(float(other.replace(",", ".")), abs=0.3)


def test_own_classes_keep_their_names_and_a_model_without_mistakes_is_described(tmp_path):
    model = make_network(CNN, channels=(4, 8), hidden=16, classes=2)
    save_checkpoint(tmp_path / "m.pth", model, INFO | {"classes": ["céu", "a|b"]})
    model = load_model(tmp_path / "m.pth")
    with torch.no_grad():
        model.fc2.weight.zero_()
        model.fc2.bias.copy_(torch.tensor([9.0, 0.0]))
    split = Split(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    portuguese, english = model_card.write_cards(
        model, tmp_path / "m.pth", ImageData(split, split, split, ("céu", "a|b")), tmp_path
    )
    assert "| céu | 1,000 | 1,000 | 1,000 | 5 |" in portuguese.read_text("utf-8")
    assert "| céu | 1.000 | 1.000 | 1.000 | 5 |" in english.read_text("utf-8")
    assert "| a\\|b |" in english.read_text("utf-8")
    assert "answer): —" in english.read_text("utf-8")
