"""Downloads against a real server that breaks off, changes its mind, is slow or lies: what arrives is right."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
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
    assert one(asked) == Fetched(asked.path, SHA256, len(CONTENT), source)
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


@pytest.mark.parametrize("file", [{"ranges": False}, {"etag": 'W/"1"'}, {"etag": ""}])
def test_without_ranges_or_a_validator_the_whole_is_fetched_again(
    server: Any, tmp_path: Path, file: dict[str, object]
) -> None:
    server.add("/model", CONTENT, breaks=[300_000, 300_000], **file)  # type: ignore[arg-type]
    arrives(order(tmp_path / "model", server.url("/model")), server.url("/model"))
    assert [status for _, _, status in server.asked] == [200, 200, 200]


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
    arrives(order(folder / "model", server.url("/model"), server.url("/mirror")), server.url("/mirror"))


def test_a_dead_server_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BACKOFF_S", 0.01)
    said = fails(order(tmp_path / "model", "http://127.0.0.1:9/model"))
    assert "http://127.0.0.1:9/model: " in said
    assert "Connection refused" in said


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
    child.send_signal(signal.SIGINT)
    begin = time.monotonic()
    child.communicate()
    assert time.monotonic() - begin < 1.0
    arrived = asked.partial.stat().st_size
    assert asked.partial.read_bytes() == CONTENT[:arrived]
    file.piece_s = 0
    arrives(asked, server.url("/model"))
    assert server.asked[-1] == ("/model", f"bytes={arrived}-", 206)
