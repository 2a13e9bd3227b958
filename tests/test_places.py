"""Where people are: drives of all kinds, paths as they are copied, processors and GPUs that are not wholly ours."""

import errno
import io
import os
import re
import stat
import subprocess
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from classificador import device, drives, gpu, load_data
from classificador.apps import cli, diagnostics
from classificador.apps.arguments import path_argument
from classificador.atomic import write_bytes
from classificador.data import pictures
from classificador.data.finding import find_classes, find_pictures
from classificador.errors import CheckpointError, ClassificadorError, DataError, ImageError, SettingsError, WriteError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.paths import as_path, plain_argument
from classificador.results.predict import predict_image
from classificador.training.history import ASLEEP, Clock
from conftest import INFO, ROOT, write_pictures


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "m.pth", make_network(CNN, channels=(4, 8), hidden=16), INFO)
    return load_model(tmp_path / "m.pth")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_reason_to_lose_a_file(tmp_path, monkeypatch, number):
    sync = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "x", b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole" and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_drive_that_cannot_sync_at_all_takes_files_and_one_that_fails_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.EINVAL, "x")))
    write_bytes(tmp_path / "x", b"whole")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "x")))
    with pytest.raises(WriteError, match="falhou"):
        write_bytes(tmp_path / "x", b"other")
    assert (tmp_path / "x").read_bytes() == b"whole" and [path.name for path in tmp_path.iterdir()] == ["x"]


def turned(path: Path) -> Path:
    """A photo as a phone writes it: lying, with a note that it is to be turned."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[274] = 6
    image.save(path, "PNG", exif=exif)
    return path


def test_any_picture_object_is_answered_as_its_file_is(model, tmp_path):
    path = turned(tmp_path / "foto.png")
    expected = predict_image(model, path)
    upright = np.asarray(pictures.open_image(path))
    objects = [str(path), Image.open(path), path.read_bytes(), io.BytesIO(path.read_bytes())]
    objects += [
        memoryview(path.read_bytes()),
        Image.fromarray(upright),
        upright,
        torch.from_numpy(upright.copy()).permute(2, 0, 1),
    ]
    for one in objects:
        assert predict_image(model, one) == expected, type(one)
    with path.open("rb") as file:
        assert predict_image(model, file) == expected
    grey = np.random.default_rng(0).integers(0, 256, (40, 40, 1), dtype=np.uint8)
    assert predict_image(model, grey) == predict_image(model, grey[..., 0])
    with Image.open(path) as closed:
        pass
    with pytest.raises(ImageError, match=r"fechada .*Dê o caminho do arquivo\.$"):
        predict_image(model, closed)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_in_any_mode_are_answered_as_their_file_is(model, tmp_path, mode):
    image = Image.linear_gradient("L").resize((64, 48))
    image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "x.tif")
    assert predict_image(model, image) == predict_image(model, tmp_path / "x.tif")


@pytest.mark.parametrize(
    "given",
    [
        *([], ["foto.jpg"], None, 7, b"x", io.StringIO("x"), io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x81"))),
        *(np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((3, 40, 40), np.uint8), np.zeros(9, np.uint8)),
        torch.zeros(3, 4, 4),
    ],
)
def test_what_is_no_picture_is_one_line_in_portuguese(model, given):
    with pytest.raises(ImageError) as caught:
        predict_image(model, given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("number", [errno.EIO, errno.ETIMEDOUT, errno.ESTALE])
def test_a_picture_that_fails_to_read_once_is_read_again(tmp_path, monkeypatch, number):
    path, failures = turned(tmp_path / "x.png"), [OSError(number, "once")]
    monkeypatch.setattr(drives, "HICCUPS", (0.0, 0.0))
    opened = open

    def failing(file, mode="r"):
        if failures:
            raise failures.pop()
        return opened(file, mode)

    monkeypatch.setattr(pictures, "open", failing, raising=False)
    assert pictures.open_image(path).size == (60, 90)
    failures += [OSError(number, "always")] * 3
    with pytest.raises(ImageError, match="não pôde ser lido: o disco"):
        pictures.open_image(path)
    assert failures == []
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: failing_once(failures) or listed(folder))
    failures.append(OSError(number, "once"))
    assert [picture.name for picture in find_pictures(tmp_path)] == ["x.png"]


def failing_once(failures):
    if failures:
        raise failures.pop()


@pytest.mark.parametrize("quoted", ['"{}"', "'{}'", "“{}”", ' "{}" ', '{}"'])
def test_quotes_around_a_path_are_taken_off(tmp_path, quoted):
    assert as_path(quoted.format(tmp_path / "fotos")) == tmp_path / "fotos"
    odd = tmp_path / "'quoted'"
    odd.mkdir()
    assert as_path(str(odd)) == odd  # there is one called so


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("C:\frutas", r"C:\frutas"),
        ("C:\temp\novas", r"C:\temp\novas"),
        ("D:\bia", r"D:\bia"),
        ("C:\0_x", r"C:\0_x"),
        ("C:\1fotos", r"C:\1fotos"),
    ],
)
def test_backslashes_that_python_took_are_shown_with_the_remedy(written, shown):
    with pytest.raises(DataError) as caught:
        as_path(written)
    assert f'Escreva r"{shown}" ou "{shown.replace(chr(92), "/")}".' in str(caught.value)
    with pytest.raises(CheckpointError, match="sinais que não são letras"):
        load_model(written)
    with pytest.raises(DataError, match="sinais que não são letras"):
        as_path("D:\2024\\gato")  # a sign of its own, in whose place no letter can be shown
    with pytest.raises(DataError, match="O caminho está vazio"):
        as_path("")


def test_hyphens_and_quotes_of_a_text_processor_are_understood(model, tmp_path, capsys):
    texts = {"–dados": "--dados", "—dados": "--dados", "--dados": "--dados", "“fru tas”": "fru tas", "−h": "-h"}
    texts |= {"–-dados": "--dados", "‑‑dados": "--dados", "——dados=x": "--dados=x", "–h": "-h", "”x”": "x", "„x“": "x"}
    texts |= {"--da–dos": "--da-dos", "–da—dos=–x": "--da-dos=–x"}
    texts |= {text: text for text in ("–", "-7", "a–b", "'x'", "–7", "-h", "— a")}
    texts |= {text: text for text in ("-foto.jpg", "–Banana", "--titulo")}  # no options
    known = {"--dados", "--da-dos", "-h"}
    assert {text: plain_argument(text, known) for text in texts} == texts
    folder = write_pictures(tmp_path / "cores", 4, a=(0, 0, 200), b=(0, 200, 0))
    assert cli.main(["dados", "—dados", f"“{folder}”"]) == 0
    assert "2 classes: a (4), b (4)." in capsys.readouterr().out
    for cut in ("“minhas", "fotos”"):  # by the space between them
        assert cli.main(["prever", cut, "--modelo", str(tmp_path / "m.pth")]) == 1
        assert f"O caminho {cut} tem aspas de um texto copiado. Escreva as retas" in capsys.readouterr().err


def test_a_file_as_a_browser_shows_it_is_that_file(tmp_path):
    (tmp_path / "a b.png").touch()
    for address in (
        (tmp_path / "a b.png").as_uri(),
        f"file:{tmp_path}/a%20b.png",
        f"file://localhost{tmp_path}/a%20b.png",
    ):
        assert as_path(address) == tmp_path / "a b.png"


def test_a_name_may_end_in_a_quote(tmp_path, monkeypatch):
    (tmp_path / "foto de “Bia”").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (f'"{tmp_path}/foto de “Bia”"', "~/foto de “Bia”"):
        assert as_path(written) == tmp_path / "foto de “Bia”"


def test_links_are_followed_in_both_ways_alike_and_never_in_circles(tmp_path, capsys):
    write_pictures(tmp_path / "cores", 2, a=(0, 0, 200), b=(0, 200, 0))
    write_pictures(tmp_path / "fora", 3, c=(200, 0, 0))
    (tmp_path / "cores" / "a" / "mais").symlink_to(tmp_path / "fora" / "c")
    (tmp_path / "fora" / "c" / "volta").symlink_to(tmp_path / "cores" / "a")
    (tmp_path / "cores" / "a" / "cima").symlink_to(tmp_path / "cores")
    assert len(find_classes(tmp_path / "cores")["train"]["a"]) == 5
    assert len(find_pictures(tmp_path / "cores" / "a")) == 5
    assert len(find_pictures(tmp_path / "cores")) == 7
    (tmp_path / "só").mkdir()
    (tmp_path / "só" / "link").symlink_to(tmp_path / "fora" / "c")
    assert len(find_pictures(tmp_path / "só")) == 7  # by the link back to a, and from there up, also those of b


def test_the_hours_in_which_a_laptop_slept_do_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    for seconds in (1.0, 30_000.0, 2.0, ASLEEP):
        now[0] += seconds
        clock.tick()
    assert clock.seconds == pytest.approx(3 + ASLEEP)
    state = clock.state_dict()
    now[0] += 50_000
    clock.load_state_dict(state)
    now[0] += 4
    clock.tick()
    assert clock.seconds == pytest.approx(7 + ASLEEP)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, 0),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0),
        ({"cpu.max": "odd"}, 0),
        ({}, 0),
    ],
)
def test_a_containers_quota_and_what_a_process_is_bound_to_are_its_cores(tmp_path, monkeypatch, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(device, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert device._quota() == quota
    assert device.own_cores() == {1.5: 2, 0: 3, 4: 3}[quota]
    given = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    device.use_own_cores.__wrapped__()
    assert given == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    device.use_own_cores.__wrapped__()
    assert given == [device.own_cores()]


def test_a_gpu_that_torch_cannot_use_is_told_with_the_remedy(tmp_path, monkeypatch, capsys):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho NVIDIA GeForce RTX 3050\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cuda, said in ((None, "é o só de CPU; instale o de CUDA"), ("13.0", "não alcança; atualize o driver")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        gpu.unused_gpu.cache_clear()
        device.tell_once.cache_clear()
        assert device.choose_device("auto").type == device.choose_device("auto").type == "cpu"
        told = capsys.readouterr().out
        assert told.count("A GPU não será usada: há uma NVIDIA GeForce RTX 3050") == 1 and said in told
        cli.main(["diagnostico", "--modelo", str(tmp_path / "m.pth")])
        assert f"{said}" in next(line for line in capsys.readouterr().out.splitlines() if "✗ dispositivo" in line)
    with pytest.raises(SettingsError, match=r"não tem 'cuda' disponível: há uma NVIDIA .* atualize o driver"):
        device.choose_device("cuda")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", Mock(side_effect=subprocess.TimeoutExpired("nvidia-smi", 10)))
        gpu.unused_gpu.cache_clear()
        assert "não responde" in gpu.unused_gpu()
    for script, said in (
        ("echo failed to communicate; exit 9", "o driver da NVIDIA não responde"),
        ("echo No devices were found", ""),
        ("echo Failed to initialize NVML: Driver/library version mismatch; exit 18", "reinicie, e se não bastar"),
        ("exit 1", ""),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        gpu.unused_gpu.cache_clear()
        assert said in gpu.unused_gpu() and bool(said) == bool(gpu.unused_gpu())
    program.write_text("#!/bin/sh\necho NVIDIA T4\n")
    for hidden in ("", "-1", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        gpu.unused_gpu.cache_clear()
        assert bool(gpu.unused_gpu()) == (hidden == "0")
    gpu.unused_gpu.cache_clear()


@pytest.mark.parametrize(
    ("error", "batch", "said"),
    [
        (torch.OutOfMemoryError("x"), 128, "lotes de 128. Tente 64."),
        (RuntimeError("CUDA error: out of memory"), 128, "lotes de 128. Tente 64."),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"), 128, "lotes de 128. Tente 64."),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), 128, "lotes de 128. Tente 64."),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), 128, "lotes de 128. Tente 64."),
        (torch.OutOfMemoryError("x"), 2, "lotes de 2. Menores não há: use outro dispositivo."),
    ],
)
def test_a_full_memory_names_what_is_left_to_try(error, batch, said):
    with pytest.raises(SettingsError, match=said), gpu.explain_out_of_memory(batch):
        raise error
    with pytest.raises(RuntimeError, match="another"), gpu.explain_out_of_memory(batch):
        raise RuntimeError("another")


def test_where_there_are_no_batches_a_full_memory_names_none(monkeypatch):
    said = "^a memória do dispositivo não basta. Feche outros programas, ou use menos imagens.$"
    with pytest.raises(SettingsError, match=said), gpu.explain_out_of_memory():
        raise MemoryError


def test_memory_of_a_gpu_that_others_hold_is_told_as_theirs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 16 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 3 * 2**30)
    said = r"outros programas \(talvez outro caderno aberto\) ocupam 12,0 dos 16,0 GB dela\. Tente 64, ou feche"
    with pytest.raises(SettingsError, match=said), gpu.explain_out_of_memory(128):
        raise torch.OutOfMemoryError("x")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 15 * 2**30)
    with pytest.raises(SettingsError, match=r"lotes de 128\. Tente 64\."), gpu.explain_out_of_memory(128):
        raise torch.OutOfMemoryError("x")


def test_the_diagnosis_sees_a_folder_too_long_for_windows_and_a_second_openmp(monkeypatch):
    long = Path("/" + "x" * 97)
    monkeypatch.setattr(diagnostics, "SNAP", Path("/nowhere"))
    home = Path("/home/ana")
    assert diagnostics._folder(long, "posix", home)[1] == "" == diagnostics._folder(Path("/" + "x" * 96), "nt", home)[1]
    assert "mude-a para uma de até 97 letras" in diagnostics._folder(long, "nt", home)[1]
    assert "duas cópias do OpenMP da Intel" in diagnostics._second_openmp({"/a/libiomp5.so", "/b/libiomp5.so"})
    assert diagnostics._second_openmp({"/a/libiomp5.so", "/b/libgomp.so"}) == ""
    assert os.name == "nt" or any("python" in path or "libc" in path for path in diagnostics._libraries())


def test_the_line_for_git_pull_after_a_training_keeps_both_models(tmp_path, monkeypatch):
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "x")
        monkeypatch.setenv(f"{name}_EMAIL", "x@example.org")
    monkeypatch.delenv("GIT_DIR", raising=False)  # within a commit's hook it names another repository
    project, own = tmp_path / "project", tmp_path / "own"

    def git(command: str, folder: Path) -> int:
        return subprocess.run(["git", *command.split()], cwd=folder, capture_output=True).returncode

    def change(folder: Path, text: str) -> None:
        for name in ("best_model.pth", "Pytorch.ipynb", "new.py"):
            (folder / name).write_bytes(text.encode() + bytes(99))

    project.mkdir()
    change(project, "old")
    assert [git(command, project) for command in ("init -q", "add .", "commit -q -m x")] == [0, 0, 0]
    assert git(f"clone -q {project} {own}", tmp_path) == 0
    change(project, "new")
    assert git("commit -q -a -m x", project) == 0
    for name in ("best_model.pth", "Pytorch.ipynb"):
        (own / name).write_text("trained")
    assert git("pull", own) != 0
    row = next(line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("| `git pull`"))
    _, *commands, _ = re.findall("`git ([^`]*)`", row)
    assert [git(command, own) for command in commands[:2]] == [0, 0]
    assert all((own / name).read_bytes()[:3] == b"new" for name in ("best_model.pth", "Pytorch.ipynb", "new.py"))
    assert [git(command, own) for command in commands[2:]] == [0]
    assert (own / "best_model.pth").read_text() == "trained"
    assert all((own / name).read_bytes()[:3] == b"new" for name in ("Pytorch.ipynb", "new.py"))
    assert git("checkout best_model.pth", own) == 0  # which the README promises to bring the project's back
    assert (own / "best_model.pth").read_bytes()[:3] == b"new"


@pytest.mark.parametrize(("folder", "reached"), [("/home/ana/p", True), ("/tmp/p", False), ("/home/ana/.p/q", False)])
def test_the_diagnosis_says_where_browsers_of_snap_read_nothing(tmp_path, monkeypatch, folder, reached):
    monkeypatch.setattr(diagnostics, "SNAP", tmp_path)
    (tmp_path / "firefox").touch()
    assert ("que o snap instalou" in diagnostics._folder(Path(folder), "posix", Path("/home/ana"))[1]) is not reached


def test_every_path_of_every_command_is_taken_as_people_write_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (commands,) = (action.choices for action in cli.build_parser()._actions if action.choices)
    checked = set()
    for name, parser in commands.items():
        for action in parser._actions:
            if action.metavar in ("PASTA", "ARQUIVO", "CAMINHO") and action.dest != "start_from":
                assert action.type is path_argument, (name, action.option_strings)
                checked.add((name, action.dest))
    assert {("dados", "dados"), ("prever", "separar"), ("avulso", "saida"), ("exemplo", "pasta")} <= checked
    for written, meant in (("'C:/fotos'", "C:/fotos"), ('"a b"', "a b"), ("~/x", f"{tmp_path}/x"), ("a/", "a")):
        assert path_argument(written) == meant


def test_an_address_is_told_as_one_wherever_a_path_may_stand(model, tmp_path, capsys):
    for address in ("https://x.org/a.zip", "http://x.org/a.zip", "ftp://x.org/a.zip", "www.x.org/a.jpg"):
        for load in (load_data, load_model, partial(predict_image, model)):
            with pytest.raises(ClassificadorError, match=f"^{address} é um endereço, e não um arquivo daqui. Salve"):
                load(Path(address) if load is load_model else address)
        with pytest.raises(SystemExit):
            cli.main(["treinar", "--dados", address])
        assert f"--dados: {address} é um endereço, e não um arquivo daqui. Salve" in capsys.readouterr().err
        assert cli.main(["prever", address, "--modelo", str(tmp_path / "m.pth")]) == 1
        assert f"{address} é um endereço, e não um arquivo daqui. Salve" in capsys.readouterr().err
