"""What a run leaves in its folder, and at the top: nothing of the user's is lost, whatever happens to the run."""

import csv
import errno
import json
import os
from dataclasses import asdict, replace
from functools import partial

import pytest

from classificador.errors import DivergenceError, WriteError
from classificador.files.model_file import load_model, read_checkpoint, save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.training import run_folder
from classificador.training.fit import train
from classificador.training.run_folder import RunFolder, Runs
from conftest import INFO, runs_of, stopped_when_written


def run(toy, settings, path, resume=False):
    return train(settings, toy, path, resume=resume)[1]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def network(**sizes):
    return make_network(CNN, channels=(4, 8), hidden=16, **sizes)


@pytest.fixture
def top(tmp_path):
    """A file at the top with a validation accuracy of 50 %."""
    save_checkpoint(tmp_path / "best_model.pth", network(), INFO)
    return tmp_path / "best_model.pth"


def leave(path, *scores, classes=INFO["classes"]):
    """A run that saves weights with these validation accuracies."""
    with RunFolder(Runs(path)) as folder:
        folder.begin("rapido")
        for score in scores:
            folder.save(network(classes=len(classes)), INFO | {"classes": classes, "val_accuracy": score})
    return folder


def test_what_was_set_aside_within_a_second_of_another_is_found_again(top):
    """The folders are then told apart by a number, which a resumed run accepts."""
    runs = Runs(top)
    first, second = runs.new("anterior"), runs.new("anterior")
    with RunFolder(runs) as folder:
        folder.begin("rapido", runs.new("rapido") / runs.resume_name, second.name)
        assert folder.earlier == second.name != first.name


def test_a_run_leaves_its_history_settings_versions_data_and_metrics_and_at_the_top_its_best(toy, small, tmp_path):
    path, settings = tmp_path / "best.pth", replace(small, label_smoothing=0.05, start_from="zero")
    history = run(toy, settings, path)
    (folder,) = runs_of(tmp_path)
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == history.val_loss
    facts = record(folder)
    assert facts["status"] == "finished"
    assert facts["settings"] == facts["settings"] | json.loads(json.dumps(asdict(settings)))
    assert facts["versions"]["torch"].startswith("2.")
    assert (facts["data"]["train"], len(facts["data"]["crc32"])) == (520, 8)
    assert facts["metrics"]["val_accuracy"] == max(history.val_accuracy)
    assert facts["git_commit"] is None or len(facts["git_commit"].removesuffix("-dirty")) == 40
    assert {file.name for file in folder.iterdir()} == {"best.pth", "history.csv", "run.json"}
    assert (folder / "best.pth").read_bytes() == path.read_bytes()
    assert read_checkpoint(path).info.run == folder.name
    assert {file.name for file in tmp_path.iterdir()} == {"best.pth", ".best.pth.lock", "runs"}


def test_an_interrupted_run_is_told_and_goes_on_in_its_folder_also_under_a_name_that_reads_like_a_pattern(
    toy, small, tmp_path, capsys
):
    path = tmp_path / "m[2]*.pth"
    with stopped_when_written("m[2]*.retomar.pth"):
        run(toy, small, path)
    (folder,) = runs_of(tmp_path)
    assert record(folder)["status"] == "interrupted"
    assert record(folder)["metrics"]["epochs"] == 1
    run(toy, small, path, resume=True)
    assert runs_of(tmp_path) == [folder]
    assert record(folder)["status"] == "finished"
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    leave(path, 0.4)
    assert f"está guardado em {folder / path.name}" in capsys.readouterr().out  # not kept twice


def test_a_diverged_run_is_told_with_its_place(toy, small, tmp_path):
    with pytest.raises(DivergenceError, match=r"época 1, até o lote \d+, lr 1e\+30"):
        run(toy, replace(small, lr=1e30), tmp_path / "best.pth")
    assert record(runs_of(tmp_path)[0])["status"] == "failed"
    assert not (tmp_path / "best.pth").exists()


@pytest.mark.parametrize("path", ["runs/best.pth", "best.pth"])
def test_a_place_that_cannot_be_written_is_told_before_the_training(toy, small, tmp_path, path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(WriteError, match="Não é possível gravar em .*runs.* o caminho passa por um arquivo"):
        run(toy, small, tmp_path / path)
    assert len(list(tmp_path.iterdir())) == (1 if "runs" in path else 2)  # and at most the lock


def test_a_record_that_cannot_be_written_does_not_end_the_training(toy, small, tmp_path, monkeypatch, capsys):
    def held(replace_file, source, target):
        if target.name == "history.csv":  # as where a spreadsheet holds it open, on Windows
            raise OSError(errno.EBUSY, "busy")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", partial(held, os.replace))
    assert len(run(toy, small, tmp_path / "best.pth").val_loss) == 2
    assert capsys.readouterr().out.count("mas sem registro") == 1


def test_the_folder_that_make_run_made_is_used_once(toy, small, tmp_path, monkeypatch):
    (tmp_path / "runs" / "given").mkdir(parents=True)
    monkeypatch.setenv(run_folder.NAME_VARIABLE, "given")
    run(toy, replace(small, epochs=1), tmp_path / "best.pth")
    assert [folder.name for folder in runs_of(tmp_path)] == ["given"]
    assert record(tmp_path / "runs" / "given")["status"] == "finished"
    run(toy, replace(small, epochs=1), tmp_path / "best.pth")  # a cell executed again: nothing is overwritten
    assert len(runs_of(tmp_path)) == 2


def test_what_the_file_at_the_top_held_is_kept_and_said(top, capsys):
    before = top.read_bytes()
    leave(top, 0.4)
    (kept,) = (top.parent / "runs").glob("*-anterior/best_model.pth")
    assert kept.read_bytes() == before
    assert read_checkpoint(top).info.val_accuracy == 0.4
    said = capsys.readouterr().out
    assert f"O que estava em {top} está guardado em {kept}." in said
    assert f"(50,00% contra 40,00%) e está guardado em {kept}" in said


@pytest.mark.parametrize(
    ("text", "scores", "classes"),
    [("", (0.3, 0.6), INFO["classes"]), ("", (0.4,), ["uva", "figo"]), ("minhas anotações", (0.4,), INFO["classes"])],
    ids=["worse", "of other classes", "no model"],
)
def test_what_was_not_better_or_no_such_model_is_kept_too_and_said_at_once_alone(top, capsys, text, scores, classes):
    if text:
        top.write_text(text)
    before = top.read_bytes()
    leave(top, *scores, classes=classes)  # the first epoch may be worse than what was there, the run as a whole is not
    (kept,) = (top.parent / "runs").glob("*-anterior/best_model.pth")
    assert kept.read_bytes() == before
    assert load_model(top).info.classes == tuple(classes)
    said = capsys.readouterr().out
    assert said.count(f"está guardado em {kept}") == 1  # at once: a run that is killed in between says nothing more
    assert "era melhor" not in said


def test_what_is_in_a_folder_of_runs_is_not_kept_twice(top, capsys):
    before = top.read_bytes()
    first = leave(top, 0.6)
    second = leave(top, 0.7)
    assert f"está guardado em {first.best}" in capsys.readouterr().out
    top.write_bytes(before)  # the original, again
    third = leave(top, 0.8)
    assert len(list(top.parent.glob("runs/*-anterior"))) == 1
    assert [load_model(folder.best).info.val_accuracy for folder in (first, second, third)] == [0.6, 0.7, 0.8]


@pytest.mark.parametrize("score", [0.4, 0.6])
def test_after_a_failure_the_better_is_at_the_top_whatever_was_put_there_meanwhile(top, capsys, score):
    before = top.read_bytes()
    with pytest.raises(ZeroDivisionError), RunFolder(Runs(top)) as folder:
        folder.begin("rapido")
        folder.save(network(), INFO | {"val_accuracy": 0.3})
        top.write_bytes(b"junk")
        folder.save(network(), INFO | {"val_accuracy": score})
        raise ZeroDivisionError
    assert top.read_bytes() == (before if score < 0.5 else folder.best.read_bytes())
    assert load_model(folder.best).info.val_accuracy == score
    assert ("(50,00% contra 40,00%) e está de volta" in capsys.readouterr().out) == (score < 0.5)


def test_a_save_that_fails_is_told_as_such(top, monkeypatch):
    before = top.read_bytes()

    def full_disk(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WriteError, match=r"MB livres.*disco cheio"):
        leave(top, 0.4)
    assert top.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no fifo")
def test_what_is_no_plain_file_is_never_replaced_and_a_name_that_is_too_long_told(tmp_path):
    os.mkfifo(tmp_path / "fila")
    wrong = dict.fromkeys([tmp_path / "fila", os.devnull], "não é um arquivo comum") | {tmp_path: "é uma pasta"}
    wrong |= {"": "O caminho está vazio"}
    for path, words in (wrong | {tmp_path / ("m" * 300): "o nome é longo demais"}).items():
        with pytest.raises(WriteError, match=words), RunFolder(Runs(path)):
            pass


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.ENOLCK])
def test_without_the_right_to_lock_nothing_begins_and_without_locks_it_does(tmp_path, monkeypatch, refusal):
    def refuse(lock, **options):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    if refusal == errno.ENOLCK:  # what a file system without locks answers
        leave(tmp_path / "best.pth", 0.4)
        assert load_model(tmp_path / "best.pth").info.val_accuracy == 0.4
    else:
        with pytest.raises(WriteError, match="sem permissão"):
            leave(tmp_path / "best.pth", 0.4)


@pytest.mark.parametrize("name", ["../fora", "precioso"])
def test_a_resume_file_can_name_only_a_folder_of_runs_and_removes_none(top, tmp_path, name):
    folder = leave(top, 0.4)
    victim = tmp_path / "runs" / name / "best_model.pth"
    victim.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(victim, network(), INFO | {"val_accuracy": 0.99})
    before, score = victim.read_bytes(), load_model(top).info.val_accuracy
    with pytest.raises(ZeroDivisionError), RunFolder(Runs(top)) as again:
        again.begin("rapido", folder.resume_point, name)
        raise ZeroDivisionError
    assert victim.read_bytes() == before
    assert load_model(top).info.val_accuracy == (0.99 if name == "precioso" else score)


def test_a_file_that_another_program_holds_for_a_moment_is_waited_for(toy, small, tmp_path, monkeypatch):
    """As on Windows, where a virus scanner looks at every new file."""
    refusals = {os.replace: 2, os.unlink: 2}

    def held(action, *arguments):
        if str(arguments[-1]).endswith("best.retomar.pth") and refusals[action]:
            refusals[action] -= 1
            raise PermissionError(errno.EACCES, "held")
        return action(*arguments)

    for action in refusals:
        monkeypatch.setattr(os, action.__name__, partial(held, action))
    run(toy, small, tmp_path / "best.pth")
    assert set(refusals.values()) == {0}
    assert load_model(tmp_path / "best.pth").info.epoch == small.epochs
    assert record(runs_of(tmp_path)[0])["status"] == "finished"
