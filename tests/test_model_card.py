"""The committed model card is what the command makes of the committed model."""

import re
from dataclasses import replace

import pytest
import torch

from classificador.apps.model_card import write_cards
from classificador.data.dataset import ImageData, Split
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO, ROOT, model_of


@pytest.mark.slow
def test_the_committed_cards_are_those_of_the_committed_model(cifar10, tmp_path):
    """What a few images tell, here; the figures of all are those of the notebook, which a test of its own computes."""
    path, few = model_of("docs/ficha.md", tmp_path), Split(cifar10.test.images[:400], cifar10.test.labels[:400])
    notebook = (ROOT / "Pytorch.ipynb").read_text("utf-8")
    rows = re.findall(r"(\d,\d{3}) +(\d,\d{3}) +(\d,\d{3}) +1\.000", notebook)
    accuracy = re.search(r"Acurácia (\d+,\d+)% .*?F1 macro (\d,\d+)", notebook)
    for made in write_cards(load_model(path), path, replace(cifar10, test=few), tmp_path):
        committed = (ROOT / "docs" / made.name).read_text("utf-8")
        before, remade = (text.split("## Result")[0] for text in (committed, made.read_text("utf-8")))
        assert re.sub("10([.,])000(?=[^|]*test)", "400", before) == remade
        in_portuguese = committed.replace(".", ",")
        assert re.findall(r"(\d,\d{3}) \| (\d,\d{3}) \| (\d,\d{3}) \| 1,000", in_portuguese) == rows
        assert f"**{accuracy[1]}%**" in in_portuguese and accuracy[2] in in_portuguese
        assert len(rows) == 10


def test_own_classes_keep_their_names_and_a_model_without_mistakes_is_described(tmp_path):
    model = make_network(CNN, channels=(4, 8), hidden=16, classes=2)
    save_checkpoint(tmp_path / "m.pth", model, INFO | {"classes": ["céu", "a|b"]})
    model = load_model(tmp_path / "m.pth")
    with torch.no_grad():
        model.fc2.weight.zero_()
        model.fc2.bias.copy_(torch.tensor([9.0, 0.0]))
    split = Split(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    data = ImageData(split, split, split, ("céu", "a|b"))
    portuguese, english = (card.read_text("utf-8") for card in write_cards(model, tmp_path / "m.pth", data, tmp_path))
    assert "| céu | 1,000 | 1,000 | 1,000 | 5 |" in portuguese and "imagens: céu, a|b." in portuguese
    assert "| céu | 1.000 | 1.000 | 1.000 | 5 |" in english and "| a\\|b |" in english and "answer): —" in english
