"""Downloads against a real server that breaks off, changes its mind, is slow or lies: what arrives is right."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engineroom import downloads
from engineroom.downloads import Fetched, Order, download
from engineroom.errors import RequestError

CONTENT = random.Random(4).randbytes(600_000)
OTHER = random.Random(5).randbytes(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CODE = Path(downloads.__file__).parents[1]


def order(path: Path, *sources: str, **facts: object) -> Order:
    """Return an order of CONTENT."""
    known = {"digests": {"sha256": SHA256}, "bytes": len(CONTENT), **facts}
    return Order(path, sources, **known)  # type: ignore[arg-type]


def one(asked: Order) -> Fetched | RequestError:
    [outcome] = download([asked], "fetching")
    return outcome


def fails(asked: Order) -> str:
    outcome = one(asked)
    assert isinstance(outcome, RequestError)
    assert not asked.path.exists()
    return str(outcome)


def arrives(asked: Order, source: str) -> None:
    outcome = one(asked)
    assert isinstance(outcome, Fetched), outcome
    assert outcome == Fetched(asked.path, SHA256, len(CONTENT), source, outcome.failures)
    assert asked.path.read_bytes() == CONTENT
    assert sorted(path.name for path in asked.path.parent.iterdir()) == [asked.path.name]


def test_a_file_arrives_and_nothing_else_is_left(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT)
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert server.asked == [("/model", None, 200)]


def test_a_broken_connection_goes_on_where_it_broke(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT, breaks=[100_000, 250_000, 400_000])
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert server.asked == [
        ("/model", None, 200),
        ("/model", "bytes=100000-", 206),
        ("/model", "bytes=250000-", 206),
        ("/model", "bytes=400000-", 206),
    ]


def test_a_later_call_goes_on_where_the_earlier_one_gave_up(server: Any, tmp_path: Path) -> None:
    file = server.add("/model", CONTENT, breaks=[300_000] * 20)
    asked = order(tmp_path / "model", server.url("/model"))
    assert "broke off" in fails(asked)
    assert asked.partial.read_bytes() == CONTENT[:300_000]
    file.breaks.clear()
    server.asked.clear()
    arrives(asked, server.url("/model"))
    assert server.asked == [("/model", "bytes=300000-", 206)]


@pytest.mark.parametrize("honest", [True, False])
def test_two_states_of_a_file_are_never_glued_together(server: Any, tmp_path: Path, honest: bool) -> None:
    server.add("/model", OTHER, breaks=[300_000] * 20)
    asked = order(tmp_path / "model", server.url("/model"), digests={}, bytes=None)
    fails(asked)
    server.add("/model", CONTENT, honest=honest)
    arrives(asked, server.url("/model"))


def test_without_ranges_the_whole_is_fetched_again(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT, breaks=[300_000, 300_000], ranges=False)
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert [status for _, _, status in server.asked] == [200, 200, 200]


@pytest.mark.parametrize("etag", ['W/"1"', ""])
def test_without_a_validator_a_published_checksum_makes_it_safe_to_go_on(
    server: Any, tmp_path: Path, etag: str
) -> None:
    server.add("/model", CONTENT, breaks=[200_000, 300_000], etag=etag)
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert [status for _, _, status in server.asked] == [200, 206, 206]


@pytest.mark.parametrize("etag", ['W/"1"', ""])
def test_without_validator_and_checksum_the_whole_is_fetched_again(server: Any, tmp_path: Path, etag: str) -> None:
    server.add("/model", CONTENT, breaks=[300_000, 300_000], etag=etag)
    asked = order(tmp_path / "model", server.url("/model"), digests={})
    arrives(asked, server.url("/model"))
    assert [status for _, _, status in server.asked] == [200, 200, 200]


def test_pieces_of_two_states_that_nothing_tells_apart_are_found_by_the_checksum(server: Any, tmp_path: Path) -> None:
    file = server.add("/model", OTHER, breaks=[300_000] * 20, etag="")
    asked = order(tmp_path / "model", server.url("/model"))
    fails(asked)
    file.content = CONTENT
    file.breaks.clear()
    server.asked.clear()
    arrives(asked, server.url("/model"))
    assert [status for _, _, status in server.asked] == [206, 200]


def test_a_server_that_breaks_off_at_the_same_place_for_ever_is_given_up(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT, ranges=False, breaks=[300_000] * 99)
    assert "broke off" in fails(order(tmp_path / "model", server.url("/model")))
    assert len(server.asked) == 1 + downloads.ATTEMPTS


def test_a_wrong_file_is_removed_and_both_sums_are_told(server: Any, tmp_path: Path) -> None:
    server.add("/model", OTHER)
    said = fails(order(tmp_path / "model", server.url("/model")))
    assert f"sha256 is {hashlib.sha256(OTHER).hexdigest()}, must be {SHA256}" in said
    assert list(tmp_path.iterdir()) == []


def test_md5_is_held_to_where_nothing_better_is_published(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT)
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    arrives(order(tmp_path / "model", server.url("/model"), digests={"md5": md5}), server.url("/model"))
    assert "md5 is" in fails(order(tmp_path / "other", server.url("/model"), digests={"md5": "0" * 32}))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "answered 404 Not Found"),
        ({"failures": [403, 403]}, "answered 403 Forbidden"),
        ({"content": CONTENT[:-1]}, "has 599,999 bytes, must be 600,000"),
        ({"media_type": "text/html; charset=utf-8"}, "sent a web page in place of the file"),
        ({"content": CONTENT[:-1], "length": False}, "599,999 bytes, must be 600,000"),
        ({"redirect": "/model"}, "redirects"),
        ({"redirect": "file:///etc/passwd"}, "No connection adapters"),
        ({"redirect": "/\xff"}, "redirects to an address that cannot be read"),
        ({"content": CONTENT + b"more", "length": False}, "bytes, must be 600,000"),
    ],
)
def test_the_next_mirror_is_tried_and_the_reason_is_told(
    server: Any, tmp_path: Path, file: dict[str, Any] | None, said: str
) -> None:
    if file:
        server.add("/model", **{"content": CONTENT, **file})
    assert said in fails(order(tmp_path / "alone", server.url("/model")))
    server.add("/mirror", CONTENT)
    folder = tmp_path / "folder"
    asked = order(folder / "model", server.url("/model"), server.url("/mirror"))
    outcome = one(asked)
    assert isinstance(outcome, Fetched) and (outcome.source, asked.path.read_bytes()) == (asked.sources[1], CONTENT)
    [failure] = outcome.failures
    assert failure.startswith(f"{asked.sources[0]}: ") and said in failure


def test_a_dead_server_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BACKOFF_S", 0.01)
    said = fails(order(tmp_path / "model", "http://127.0.0.1:9/model"))
    assert "http://127.0.0.1:9/model: Failed to establish a new connection: " in said  # not of which object
    assert "Connection refused" in said
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_starts_anew_what_another_began(server: Any, tmp_path: Path) -> None:
    server.add("/model", OTHER, breaks=[300_000] * 20)
    server.add("/mirror", CONTENT)
    arrives(order(tmp_path / "model", server.url("/model"), server.url("/mirror")), server.url("/mirror"))


def test_a_redirect_is_followed_and_its_rest_asked_for(server: Any, tmp_path: Path) -> None:
    server.add("/model", b"", redirect="/stored")
    server.add("/stored", CONTENT, breaks=[200_000])
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert server.asked[-1] == ("/stored", "bytes=200000-", 206)


def test_what_a_server_says_in_passing_is_asked_again(server: Any, tmp_path: Path) -> None:
    server.add("/model", CONTENT, failures=[503, 429])
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert [status for _, _, status in server.asked] == [503, 429, 200]


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "READ_S", 0.5)
    server.add("/slow", CONTENT, piece_s=0.1)  # longer than READ_S in all
    arrives(order(tmp_path / "slow", server.url("/slow")), server.url("/slow"))
    (tmp_path / "slow").unlink()
    server.add("/silent", CONTENT, piece_s=30)
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    assert "timed out" in fails(order(tmp_path / "silent", server.url("/silent"))).lower()


def test_a_server_that_takes_connections_and_says_nothing_is_soon_given_up(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "READ_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections; nobody answers them
        server.add("/mirror", CONTENT)
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/model"
        begin = time.monotonic()
        outcome = one(order(tmp_path / "model", source, server.url("/mirror")))
    assert time.monotonic() - begin < 0.2 * downloads.ATTEMPTS
    assert isinstance(outcome, Fetched) and outcome.failures == (f"{source}: Read timed out. (read timeout=0.2)",)


def test_several_files_come_at_once_and_each_outcome_is_told_in_order(server: Any, tmp_path: Path) -> None:
    for number in range(6):
        server.add(f"/{number}", CONTENT, piece_s=0.02)
    del server.files["/3"]
    orders = [order(tmp_path / str(number), server.url(f"/{number}")) for number in range(6)]
    begin = time.monotonic()
    outcomes = download(orders, "fetching")
    assert time.monotonic() - begin < 5 * 10 * 0.02 + 1
    assert [isinstance(outcome, Fetched) for outcome in outcomes] == [True, True, True, False, True, True]
    assert download([], "nothing") == []


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_written(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/model", CONTENT)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=599_999))
    said = fails(order(tmp_path / "model", server.url("/model"), bytes=None))
    assert "the disk is too small: 600 kB are still to come, 600 kB are free" in said


def test_ctrl_c_ends_at_once_and_the_rest_is_fetched_later(server: Any, tmp_path: Path) -> None:
    file = server.add("/model", CONTENT, piece_s=0.2)
    asked = order(tmp_path / "model", server.url("/model"))
    code = (
        "import sys; from pathlib import Path; from engineroom.downloads import Order, download\n"
        f"download([Order(Path(sys.argv[1]), [sys.argv[2]], {{}}, {len(CONTENT)})], 'fetching')"
    )
    environ = {**os.environ, "PYTHONPATH": str(CODE)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(asked.path), server.url("/model")], env=environ, stderr=subprocess.PIPE
    )
    while not (asked.partial.exists() and asked.partial.stat().st_size > 100_000):
        time.sleep(0.02)
        assert child.poll() is None
    file.piece_s = 60  # who waited for another piece would wait that long
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    arrived = asked.partial.stat().st_size
    assert asked.partial.read_bytes() == CONTENT[:arrived]
    file.piece_s = 0
    arrives(asked, server.url("/model"))
    assert server.asked[-1] == ("/model", f"bytes={arrived}-", 206)


@pytest.mark.parametrize("facts", [{}, {"digests": {}, "bytes": None}])
def test_a_server_that_sends_less_than_it_was_asked_for_is_asked_again(
    server: Any, tmp_path: Path, facts: dict[str, Any]
) -> None:
    server.add("/model", CONTENT, breaks=[100_000], at_most=200_000)
    arrives(order(tmp_path / "model", server.url("/model"), **facts), server.url("/model"))
    assert [asked for _, asked, _ in server.asked] == [None, "bytes=100000-", "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize("status", [503, 429])
def test_what_has_arrived_survives_a_server_that_is_busy(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    file = server.add("/model", CONTENT, breaks=[300_000] * 20)
    asked = order(tmp_path / "model", server.url("/model"))
    fails(asked)
    file.failures = [status] * downloads.ATTEMPTS
    assert f"answered {status}" in fails(asked)
    file.breaks.clear()
    server.asked.clear()
    arrives(asked, server.url("/model"))
    assert server.asked == [("/model", "bytes=300000-", 206)]


def test_what_is_packed_on_its_way_is_no_file_that_nobody_can_check(server: Any, tmp_path: Path) -> None:
    import gzip

    packed = {"content": gzip.compress(CONTENT), "headers": {"Content-Encoding": "gzip"}}
    server.add("/model", **packed)
    server.add("/set.tgz", **packed)
    unknown: dict[str, Any] = {"digests": {}, "bytes": None}
    said = fails(order(tmp_path / "model", server.url("/model"), **unknown))
    assert "sent it in the coding gzip, which was not asked for" in said
    assert "is not the right file" in fails(order(tmp_path / "model", server.url("/model"), bytes=None))
    assert isinstance(one(order(tmp_path / "set", server.url("/set.tgz"), **unknown)), Fetched)


def test_dates_that_cannot_be_compared_are_no_validator(server: Any, tmp_path: Path) -> None:
    date = {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 -0000"}  # no time zone, unlike Date
    server.add("/model", CONTENT, etag="", headers=date)
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))


def test_a_mistake_of_ours_is_not_kept_from_who_can_mend_it(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/model", CONTENT)
    monkeypatch.setattr(downloads, "_validator", lambda response: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one(order(tmp_path / "model", server.url("/model")))


@pytest.fixture
def secure(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of a server that speaks TLS, is trusted, and sends everybody on to `server`."""
    certificate = tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(certificate), "-out", str(tmp_path / "public.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    with certificate.open("a") as file:
        file.write((tmp_path / "public.pem").read_text())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "public.pem"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  (http.server's name)
            self.send_response(302)
            self.send_header("Location", server.url(self.path))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"https://localhost:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate")
def test_what_began_with_https_does_not_go_on_without(server: Any, secure: str, tmp_path: Path) -> None:
    server.add("/model", CONTENT)
    asked = order(tmp_path / "made" / "model", f"{secure}/model", digests={}, bytes=None)
    assert f"{secure}/model: redirects from https to {server.url('/model')}" in fails(asked)
    assert server.asked == []


def test_no_password_is_sent_in_the_clear(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.add("/model", b"", redirect=server.url("/stored").replace("127.0.0.1", "localhost"))
    server.add("/stored", CONTENT)
    assert isinstance(one(order(tmp_path / "model", server.url("/model"))), Fetched)
    assert server.passwords == []


def test_a_proxy_is_used_as_the_environment_says(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.add("http://models.example/model", CONTENT)  # what a proxy is asked for
    arrives(order(tmp_path / "model", "http://models.example/model"), "http://models.example/model")


def test_the_bar_says_what_is_known_and_whom_it_waits_for(server: Any, tmp_path: Path) -> None:
    known, unknown = order(tmp_path / "a", "x"), order(tmp_path / "b", "y", bytes=None)
    jobs = [downloads._Job(known, arrived=150_000, received=150_000)]
    assert downloads._progress(jobs, 1.0) == (0.25, "150 kB of 600 kB, 150 kB/s")
    jobs.append(downloads._Job(unknown, arrived=50_000, received=50_000, waits_for="slow.example"))
    assert downloads._progress(jobs, 1.0) == (0, "200 kB, 200 kB/s, waiting for slow.example")
