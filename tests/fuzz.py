"""Throws damaged and hostile files at the loaders: `python -m tests.fuzz --minutos 3 [--semente 1]`; not on Windows.

A loader may return a result or raise its own error; anything else is a find: another exception, a crash, more than
MEMORY, more than SECONDS. The files of the finds stay in the folder that is printed. What was found so far has become
a test in test_hostile.py or test_pictures.py.
"""

import argparse
import io
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import torch
from PIL import Image

from classificador.data.pictures import FORMATS, open_image, to_tensor
from classificador.errors import ClassificadorError
from classificador.files.model_file import load_model, pack
from classificador.files.model_info import describe_checkpoint
from classificador.files.safe import BEST, FORMAT
from classificador.network.cnn import CNN, make_network
from tests.conftest import INFO

MEMORY, SECONDS = 2**30, 10  # bytes beyond what the process has at its start; for one file


def checkpoint_seeds() -> list[bytes]:
    """A small sound checkpoint, and the weights of its network alone."""
    model, seeds = make_network(CNN, channels=(2, 2), hidden=2), []
    for content in ({"format": FORMAT, "kind": BEST} | pack(model, INFO).to_dict(), {"state_dict": model.state_dict()}):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        seeds.append(buffer.getvalue())
    return seeds


def picture_seeds() -> list[bytes]:
    """A small sound picture in every format, and in every mode that the format can hold."""
    seeds = []
    for form in FORMATS:
        for mode in ("RGB", "L", "P", "RGBA", "LA", "I;16", "CMYK", "1", "F"):
            buffer = io.BytesIO()
            try:
                Image.effect_noise((20, 12), 90).convert(mode).save(buffer, form)
            except (OSError, ValueError, KeyError):
                continue
            seeds.append(buffer.getvalue())
    return seeds


def mutate(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled, or set to a value at the edge of what a field can hold."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, length = draw.randrange(len(changed) or 1), draw.choice((1, 2, 4, 8, 64))
        kind = draw.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            changed[at : at + length] = draw.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        else:
            other = draw.randrange(len(changed) or 1)
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def mutate_inside(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint whose pickle is damaged but whose check sums hold, as a hostile writer would make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, mutate(content, draw) if entry.filename.endswith(".pkl") else content)
    return buffer.getvalue()


def from_want_of_memory(error: BaseException | None) -> bool:
    """Whether what was raised, or anything that led to it, was that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


def work(folder: Path, seed: int, report) -> None:
    """Try files without end; the file being tried lies in `folder`/now, so that it is there after a crash."""
    warnings.simplefilter("ignore")
    draw, now = random.Random(seed), folder / "now"
    checkpoints, pictures = checkpoint_seeds(), picture_seeds()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    torch.set_num_threads(1)
    while True:
        is_picture = draw.random() < 0.5
        if is_picture:
            data = mutate(draw.choice(pictures), draw)
        else:
            data = (mutate_inside if draw.random() < 0.8 else mutate)(draw.choice(checkpoints), draw)
        now.write_bytes(data)
        report.put(("begin", ""))
        try:
            if is_picture:
                to_tensor(open_image(now))
            else:
                model = load_model(now)
                describe_checkpoint(model.info)
                model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        except ClassificadorError as error:
            kind, text = "find" if from_want_of_memory(error) else "refused", traceback.format_exc(limit=-4)
        except Exception:
            kind, text = "find", traceback.format_exc(limit=-4)
        else:
            kind, text = "accepted", ""
        if kind == "find":
            (folder / f"find-{seed}-{time.time_ns()}").write_bytes(data)
        report.put((kind, text))


def main() -> int:
    """Fuzz for the given time; print each find and how many files were tried; exit code 1 if there are finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutos", type=float, default=3)
    parser.add_argument("--semente", type=int, default=0)
    options = parser.parse_args()
    folder, counts = Path(tempfile.mkdtemp(prefix="fuzz-")), {"refused": 0, "accepted": 0, "find": 0}
    fork, seed, end = multiprocessing.get_context("fork"), options.semente, time.monotonic() + 60 * options.minutos
    worker = None
    while time.monotonic() < end:
        if worker is None:
            report = fork.Queue()
            worker = fork.Process(target=work, args=(folder, seed, report), daemon=True)
            worker.start()
            seed += 1
        try:
            kind, text = report.get(timeout=SECONDS + 5)
        except Exception:  # queue.Empty: it hangs, or it died
            kind, text = "find", f"no answer for {SECONDS} s" if worker.is_alive() else f"exit code {worker.exitcode}"
            (folder / "now").rename(folder / f"find-{seed}-{time.time_ns()}")
            worker.kill()
            worker = None
        if kind != "begin":
            counts[kind] += 1
        if kind == "find":
            print(text, flush=True)
    if worker:
        worker.kill()
    print(f"{counts['refused']} refused, {counts['accepted']} accepted, {counts['find']} finds, in {folder}")
    return int(counts["find"] > 0)


if __name__ == "__main__":
    sys.exit(main())
