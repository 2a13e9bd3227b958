import pytest

from classificador.errors import SettingsError
from classificador.recipes import PRESETS, make_settings


def test_a_change_is_taken_and_none_keeps_the_recipes_value():
    assert make_settings("completo", epochs=None, lr=None) == PRESETS["completo"]
    assert make_settings("rapido", epochs=3).epochs == 3


IMPOSSIBLE = {
    "epochs": [0, 1.5, True, "3", 10_001],
    "batch_size": [0, 1],
    "lr": [0, -0.1, float("nan"), float("inf"), "alto"],
    "seed": [-1],
    "label_smoothing": [1.0],
    "shift": [32],
    "cutout": [7, 34],
    "weight_decay": [-1e-4],
    "pools": [(8, 5)],
    "channels": [(0, 8)],
    "device": [3],
    "mixup": [1.5],
    "teacher": [3],
    "symmetric": ["sim"],
    "start_from": ["", 3, True],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in IMPOSSIBLE for value in IMPOSSIBLE[field]])
def test_an_impossible_value_names_its_field(field, value):
    with pytest.raises(SettingsError, match=f"^{field}: ") as caught:
        make_settings("rapido", **{field: value})
    assert "\n" not in str(caught.value)


def test_what_is_unknown_is_named():
    with pytest.raises(SettingsError, match="rapido, completo, destilado\\."):
        make_settings("ligeiro")
    with pytest.raises(SettingsError, match="professor"):  # the recipe of another network
        make_settings("professor")
    with pytest.raises(SettingsError, match="^epocas: "):
        make_settings("rapido", epocas=3)
