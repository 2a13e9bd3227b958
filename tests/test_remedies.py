"""What a message tells people to do works: the remedy is read from the message, and done."""

import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from classificador.apps import cli
from classificador.data import pictures
from classificador.files.model_file import save_checkpoint
from classificador.network.cnn import CNN, make_network
from conftest import INFO, ROOT, write_pictures


@pytest.fixture
def workplace(tmp_path, monkeypatch, quick):
    """A folder with pictures of two classes, one of them as a phone writes them, and a model of CIFAR-10."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "viagem" / "fotos", 12, céu="blue", mato="green")
    register_heif_opener()
    Image.new("RGB", (40, 50), "blue").save(tmp_path / "foto.heic", format="HEIF")
    save_checkpoint("best_model.pth", make_network(CNN, channels=(4, 8), hidden=16), INFO)
    return tmp_path


def run(command: str, capsys) -> tuple[int, str]:
    """The exit code of a command, and its error message."""
    capsys.readouterr()
    code = cli.main(shlex.split(command))
    return code, capsys.readouterr().err


DATA = "--dados viagem/fotos"
TRAIN = f"treinar {DATA} --epocas 1 --lote 8 --modelo meu.pth"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "wrong", "said", "right"),
    [
        ("", "dados --dados viagem", r"parecem estar em (\S+): dê esse caminho", "dados --dados {0}"),
        ("", f"treinar {DATA} --lado 50", r"precisa ser (\d+),", TRAIN + " --lado {0}"),
        ("", f"{TRAIN} --lote 5000", r"(--lote).*?como (\d+)", TRAIN + " {0} {1}"),
        ("", f"{TRAIN} --partir-de zero --lr 1e30", r"Use um lr menor", TRAIN + " --partir-de zero --lr 0.01"),
        ("", f"{TRAIN} --lr -1", r"(--lr): .* como ([\d.]+\d)", TRAIN + " {0} {1}"),
        ("", f"{TRAIN} --receita lenta", r"Use uma destas: (\w+)", TRAIN + " --receita {0}"),
        ("", f"{TRAIN} --retomar", r"no terminal, sem --retomar", TRAIN),
        ("", f"{TRAIN} --partir-de nada.pth", r"nada.pth não existe.*Confira", TRAIN + " --partir-de best_model.pth"),
        ("", f"{TRAIN} --partir-de ''", r'(--partir-de): .* ou "(\w+)"', TRAIN + " {0} {1}"),
        ("", f"{TRAIN} --dispositivo tpu", r'(--dispositivo): .*"(cpu)"', TRAIN + " {0} {1}"),
        ("", "prever foto.heic --csv --json", r"Use --csv ou (--json)", "prever foto.heic {0}"),
        ("", "prever foto.jpg", r"foto\.jpg não existe", "prever foto.heic"),
        (TRAIN, f"avaliar {DATA}", r"não conhece a classe céu, e sim Avião", f"avaliar {DATA} --modelo meu.pth"),
        (
            TRAIN,
            f"exportar {DATA} --modelo meu.pth --saida meu.pth",
            r"outro nome com (--saida)",
            f"exportar {DATA} --modelo meu.pth {{0}} outro.pth --formato pesos",
        ),
        (
            TRAIN,
            "exportar --modelo meu.pth --formato pesos --dados data",
            r"Dê as imagens dele: (--dados) PASTA",
            "exportar --modelo meu.pth --formato pesos {0} viagem/fotos",
        ),
    ],
)
def test_doing_what_the_message_says_works(workplace, toy_as_cifar10, capsys, before, wrong, said, right):
    if before:
        assert run(before, capsys)[0] == 0
    code, error = run(wrong, capsys)
    message = [line for line in error.splitlines() if line.startswith("erro: ")][-1]
    found = re.search(said, message)
    assert code == 1 and found, message
    code, error = run(right.format(*found.groups()), capsys)
    assert code == 0, error


def test_a_heic_photo_opens_once_the_package_named_is_there(workplace, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "FORMATS", [name for name in pictures.FORMATS if name != "HEIF"])
        patch.setitem(sys.modules, "pillow_heif", None)
        code, error = run("prever foto.heic", capsys)
        assert code == 1 and "python -m pip install pillow-heif" in error
    assert run("prever foto.heic", capsys)[0] == 0
    assert 'heic = ["pillow-heif' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_shipped_model_comes_back_as_the_message_says(workplace, capsys):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    git("init")
    git("add", "best_model.pth")
    git("commit", "-m", "model")
    (workplace / "best_model.pth").write_bytes(b"damaged")
    code, error = run("prever foto.heic", capsys)
    command = re.search(r"traga o original: `(git [^`]+)`", error).group(1)
    assert code == 1
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert run("prever foto.heic", capsys)[0] == 0


def texts() -> list[tuple[str, str]]:
    """The code and the pages that people read commands from."""
    files = [*(ROOT / "classificador").rglob("*.py"), *ROOT.glob("docs/*.md"), ROOT / "Pytorch.ipynb"]
    files += [ROOT / f"{name}.md" for name in ("README", "README.en", "CONTRIBUTING", "RESULTADOS")]
    return [(str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in files]


def test_every_command_that_is_named_exists():
    parser, seen = cli.build_parser(), 0
    for place, text in texts():
        for found in re.finditer(r"python -m classificador ([a-z]+)([^`#\n\"…|&]*)", text):
            options = [word for word in shlex.split(found[2].replace("'", "")) if word.startswith("--")]
            (action,) = (a for a in parser._actions if a.choices)
            assert found[1] in action.choices, (place, found[0])
            known = action.choices[found[1]]._option_string_actions
            assert set(options) <= set(known), (place, found[0])
            seen += 1
    assert seen > 20


def test_every_extra_that_is_named_exists():
    project = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]")[1]
    extras = re.findall(r"^(\w+) = \[", project.split("\n[")[0], re.MULTILINE)
    named = {(place, name) for place, text in texts() for name in re.findall(r"-e \\?[\"']?\.\[(\w+)\]", text)}
    assert {name for _, name in named} >= {"onnx", "pagina", "dev"}
    assert {(place, name) for place, name in named if name not in extras} == set()
