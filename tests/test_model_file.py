import os
import zipfile
from functools import partial

import pytest
import torch
from torch import nn

from classificador.errors import CheckpointError, WriteError
from classificador.files import model_file, safe
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, Symmetric, make_network
from classificador.network.model_info import describe_checkpoint
from classificador.results.predict import predict
from classificador.training.fit import train
from conftest import INFO, ROOT


@pytest.fixture
def model() -> CNN:
    torch.manual_seed(0)
    return make_network(CNN, channels=(4, 8), hidden=16)


@pytest.fixture
def saved(model, tmp_path):
    save_checkpoint(tmp_path / "best_model.pth", model, INFO)
    return tmp_path / "best_model.pth"


def files(folder):
    """What a user sees in the folder, the lock's hidden file apart."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def rewrite(path, **changes):
    """Save the file again with parts of its content changed."""
    content = torch.load(path, weights_only=True)
    torch.save(content | changes, path)


def test_what_is_saved_comes_back_and_nothing_but_the_file_is_left(model, saved):
    assert [path.name for path in saved.parent.iterdir()] == ["best_model.pth"]
    loaded = load_model(saved)
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded(images), model.eval()(images))
    assert not loaded.training
    assert loaded.info.val_accuracy == 0.5
    assert loaded.info.architecture["channels"] == [4, 8]
    text = describe_checkpoint(loaded.info)
    assert "rapido, época 1 de 1" in text and "acurácia 50,00%" in text and "01/01/2026" in text


def test_the_file_has_the_modes_of_any_new_file(saved):
    if os.name == "posix":
        umask = os.umask(0)
        os.umask(umask)
        assert saved.stat().st_mode & 0o777 == 0o666 & ~umask


def test_one_flipped_bit_in_the_weights_is_refused(saved):
    with zipfile.ZipFile(saved) as archive:
        record = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(saved.read_bytes())
    data[record.header_offset + 200] ^= 1
    saved.write_bytes(data)
    torch.load(saved, weights_only=True)  # torch itself takes the damaged file: the test would be empty otherwise
    with pytest.raises(CheckpointError, match="danificado"):
        load_model(saved)


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x80\x02."]
)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "best_model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(CheckpointError, match="não existe"):
        load_model(tmp_path / "best_model.pth")
    with pytest.raises(CheckpointError, match="é uma pasta"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": 3},
        {"info": {}},
        {"info": {"architecture": {}}},
        {"info": INFO | {"device": "CPU", "architecture": {}, "classes": None}},
        *[{"format": version} for version in ("3", True, 0.5)],
        {"weights": {"conv1.weight": "x"}},
    ],
)
def test_content_of_the_wrong_types_is_refused(saved, changes):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match="não foi gravado por este projeto"):
        load_model(saved)


@pytest.mark.parametrize("changes", [{"val_accuracy": "x"}, {"settings": {"epochs": 1, "x": {1, 2}}}])
def test_metadata_that_no_reader_would_take_are_not_saved(model, saved, changes):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match="não pode ser salvo"):
        save_checkpoint(saved, model, INFO | changes)
    assert saved.read_bytes() == before


def test_an_impossible_architecture_is_one_line(model, saved):
    content = torch.load(saved, weights_only=True)
    rewrite(saved, info=content["info"] | {"architecture": {"pools": [0, 0]}})
    with pytest.raises(CheckpointError, match="não combinam"):
        load_model(saved)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_names_is_taken_off(saved, prefix):
    weights = torch.load(saved, weights_only=True)["weights"]
    rewrite(saved, weights={prefix + name: value for name, value in weights.items()})
    assert torch.equal(load_model(saved).fc2.weight, weights["fc2.weight"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fc2.weight", torch.full((10, 16), 1e300, dtype=torch.float64)),  # infinite as float32
        ("fc2.weight", torch.ones(10, 16, dtype=torch.int32)),
        ("norm2.running_var", torch.full((8,), -1.0)),
        ("fc2.weight", torch.full((10, 16), torch.nan)),
    ],
)
def test_weights_that_the_network_cannot_hold_are_refused(saved, name, value):
    rewrite(saved, weights=torch.load(saved, weights_only=True)["weights"] | {name: value})
    with pytest.raises(CheckpointError, match=f"(Primeira diferença:|não finitos em) {name}"):
        load_model(saved)


def test_weights_that_overflow_in_use_are_told(saved):
    weights = torch.load(saved, weights_only=True)["weights"]
    large = {name: torch.full_like(weights[name], 3e38) for name in ("fc1.weight", "fc2.weight")}
    rewrite(saved, weights=weights | large)
    with pytest.raises(CheckpointError, match="respostas que não são números"):
        predict(load_model(saved), torch.full((2, 3, 32, 32), 200, dtype=torch.uint8))


def test_a_newer_format_is_refused(saved):
    rewrite(saved, format=safe.FORMAT + 1, info="of a kind this version does not know")
    with pytest.raises(CheckpointError, match="mais nova"):
        load_model(saved)


def test_an_older_format_is_refused_because_its_weights_would_answer_otherwise(saved):
    rewrite(saved, format=safe.FORMAT - 1)
    with pytest.raises(CheckpointError, match=r"versão anterior deste projeto.* Treine de novo "):
        load_model(saved)


def test_another_network_is_refused_and_named(saved):
    class Wider(CNN):
        def __init__(self, **architecture):
            super().__init__(**architecture)
            self.extra = nn.Linear(2, 2)

    with pytest.raises(CheckpointError, match="Wider.*extra"):
        load_model(saved, Wider)


def test_an_error_of_the_content_propagates_and_changes_nothing(saved):
    class Unsaveable:
        def __reduce__(self):
            raise ArithmeticError("cannot be saved")

    before = saved.read_bytes()
    with pytest.raises(ArithmeticError, match="cannot be saved"):
        safe.write_file(saved, safe.BEST, {"more": Unsaveable()})
    assert saved.read_bytes() == before
    assert files(saved.parent) == [saved.name]


def test_weights_saved_on_a_gpu_load_without_one(model, saved):
    with zipfile.ZipFile(saved) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0") if name.endswith(".pkl") else data)
    assert b"cuda:0" in saved.read_bytes()
    assert torch.equal(load_model(saved).fc1.weight, model.fc1.weight)


def test_a_symbolic_link_is_replaced_and_its_target_stays(model, tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "best_model.pth").symlink_to(tmp_path / "target")
    save_checkpoint(tmp_path / "best_model.pth", model, INFO)
    assert (tmp_path / "target").read_text() == "mine"
    load_model(tmp_path / "best_model.pth")


def test_the_first_difference_is_named(model, saved):
    content = torch.load(saved, weights_only=True)
    for change, words in (
        ({"fc2.bias": None}, "fc2.bias: na rede .10., no arquivo não tem"),
        ({"fc2.bias": torch.zeros(9)}, "fc2.bias: na rede .10., no arquivo .9."),
        ({"fc3.bias": torch.zeros(9)}, "fc3.bias: na rede não tem, no arquivo .9."),
    ):
        weights = content["weights"] | change
        rewrite(saved, weights={name: value for name, value in weights.items() if value is not None})
        with pytest.raises(CheckpointError, match=words):
            load_model(saved)


def test_a_file_of_before_still_loads_and_predicts_the_same():
    """Made once, on 30/11/2026, by save_checkpoint; it must never be made anew."""
    loaded = load_model(ROOT / "tests" / "fixtures" / "formato-3.pth")
    images = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).remainder(251).to(torch.uint8)
    expected = torch.tensor(
        [
            [-0.342747, 0.279409, 0.677300, 0.135580, -0.023053, -0.068975, 0.165309, -0.066704, -0.049652, -0.676256],
            [-0.336356, 0.288106, 0.686242, 0.132824, -0.027474, -0.070288, 0.161926, -0.065339, -0.041798, -0.682497],
        ]
    )
    assert torch.allclose(loaded(images), expected, atol=1e-5)
    assert isinstance(loaded, Symmetric)
    assert "rapido, época 1 de 1" in describe_checkpoint(loaded.info)


class WithArgument(CNN):
    """A student's class with an argument of its own, of any kind."""

    def __init__(self, extra=None):
        super().__init__(channels=(4, 8), hidden=16)


class Chance(CNN):
    """Answers otherwise each time, as with dropout that is left on in prediction."""

    def __init__(self):
        super().__init__(channels=(4, 8), hidden=16)

    def forward(self, images):
        return nn.functional.dropout(super().forward(images))


class Measuring(CNN):
    """Numbers are computed while it is made, which cannot be done without memory for them."""

    def __init__(self):
        super().__init__(channels=(4, 8), hidden=16)
        self.scale = float(self.fc2.weight.detach().abs().max())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(make_network, WithArgument, extra=nn.functional.relu), "não pode ser salva"),
        (partial(make_network, WithArgument, extra=[[1, 2], [3, 4]]), "não pode ser salva"),
        (partial(make_network, WithArgument, extra=10**6), "não pode ser salva"),
        (partial(make_network, WithArgument, extra="a\nb"), "não pode ser salva"),
        (Chance, r"F.dropout\(x, p, self.training\)"),
        (partial(make_network, Chance), "de outro modo cada vez"),
        (partial(make_network, Measuring), "não poderia ser aberta"),
    ],
    ids=["function", "nested", "huge", "two lines", "unknown", "chance", "measuring"],
)
def test_a_network_that_could_not_be_opened_is_told_before_it_is_trained(toy, small, tmp_path, make, words):
    model = make()
    model(toy.train.images[:2])  # as layer_table() does
    with pytest.raises(CheckpointError, match=words):
        train(small, toy, tmp_path / "best.pth", model)
    assert files(tmp_path) == []


def test_texts_none_and_truth_values_may_describe_a_network(saved):
    content = torch.load(saved, weights_only=True)
    described = content["info"]["architecture"] | {"activation": "relu", "bias": None, "residual": True}
    rewrite(saved, info=content["info"] | {"architecture": described})
    assert load_model(saved, lambda activation, bias, residual, **known: CNN(**known)).info.preset == "rapido"


def test_endless_names_and_missing_folders_are_one_line(tmp_path, model):
    for path in (tmp_path / ("x" * 300), tmp_path / "nada" / "m.pth"):
        with pytest.raises(CheckpointError, match="não existe"):
            load_model(path)
    (tmp_path / "file").write_text("")
    for folder in ("nada", "file"):
        with pytest.raises(WriteError, match="Não foi possível gravar"):
            save_checkpoint(tmp_path / folder / "m.pth", model, INFO)


def test_a_network_that_would_cost_much_is_not_asked_whether_it_answers_as_it_did():
    assert model_file._is_cheap(96, CNN((128, 192)).state_dict())
    for shape in ((10_000, 3, 1, 1), (64, 3, 500, 500)):
        assert not model_file._is_cheap(96, {"conv1.weight": torch.empty(shape, device="meta")})
