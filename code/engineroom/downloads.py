"""Downloads: several files at once, each from the first of its sources that has the right one.

What has arrived lies beside the file as `<name>.partial`, with what the server calls that state of it: a later call
asks for the rest of exactly that state (RFC 9110, section 13.1.5, If-Range), so that two are never glued together.
HTTP is the library requests': proxies, certificates and .netrc are taken as its users know them, but what began with
https never goes on without, and no password is sent in the clear.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import cycle
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from engineroom import terminal
from engineroom.errors import RequestError
from engineroom.paths import display, ensure_folder, not_writable

if TYPE_CHECKING:
    import requests

AT_ONCE = 4  # files; more would only compete for the same line
ATTEMPTS = 5  # without one more byte, before the next source is tried
CONNECT_ATTEMPTS = 2  # behind a firewall that swallows packets each lasts CONNECT_S, once per address of the server
BACKOFF_S = 1.0  # before the second attempt; then twice as long each time
ANSWER_ATTEMPTS = 2  # a server that takes connections and says nothing lasts READ_S each time
CONNECT_S, READ_S = 15.0, 30.0  # how long a server may be silent
CHUNK_BYTES = 1 << 20
LOOK_S = 0.1  # how often the bar is brought up to date
RETRIED = (408, 429, 500, 502, 503, 504)  # what a server may say in passing
_OBJECT = re.compile(r"^(<[^>]*>(\([^)]*\))?:? ?|\w+\([^)]*\): )")  # what has failed, as urllib3 begins its messages
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True)
class Order:
    """A file to be fetched to `path`. `digests` are its checksums in hex by hashlib's names, `bytes` its size."""

    path: Path
    sources: Sequence[str]
    digests: Mapping[str, str]
    bytes: int | None = None

    @property
    def partial(self) -> Path:
        """What has arrived so far."""
        return self.path.with_name(f"{self.path.name}.partial")

    @property
    def arrived_bytes(self) -> int:
        """How many bytes have arrived so far."""
        return self.partial.stat().st_size if self.partial.is_file() else 0


@dataclass(frozen=True)
class Fetched:
    """A file that has arrived whole: its SHA-256 in hex, its size, and the source that it came from.

    `failures` says why each source before that one was of no use.
    """

    path: Path
    sha256: str
    bytes: int
    source: str
    failures: tuple[str, ...] = ()


class State(msgspec.Struct, frozen=True):
    """Of which state of which source a partial file is.

    `validator` is an ETag or a date that If-Range may name; "" where the source gives none and a published checksum
    decides in the end whether the pieces are of one file.
    """

    source: str
    validator: str
    total: int | None


class _RefusedError(Exception):
    """A source that is not worth another attempt, and why."""


class _AgainError(Exception):
    """The partial file is of no use, so that the whole has to be asked for."""


def download(orders: Sequence[Order], title: str) -> list[Fetched | RequestError]:
    """Fetch all orders and return, in their order, what came of each. A file that is at an order's path is replaced.

    Ctrl-C ends it at once, and what has arrived stays for the next call. One process at a time may fetch a file.
    """
    jobs = [_Job(order) for order in orders]
    waiting: SimpleQueue[_Job] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = threading.Event()
    # Daemons: one that waits for a silent server must not hold up who has pressed Ctrl-C.
    threads = [
        threading.Thread(target=_work, args=(waiting, stop), daemon=True) for _ in range(min(AT_ONCE, len(jobs)))
    ]
    begin = time.monotonic()
    try:
        with terminal.progress(title, 1) as update:
            for thread in threads:
                thread.start()
            for thread in cycle(threads):
                thread.join(LOOK_S)
                update(*_progress(jobs, time.monotonic() - begin))
                if not any(thread.is_alive() for thread in threads):
                    break
    finally:
        stop.set()
    for job in jobs:
        if job.fault:
            raise job.fault
    return [job.outcome for job in jobs if job.outcome]


def _work(waiting: SimpleQueue[_Job], stop: threading.Event) -> None:
    with suppress(Empty):
        while not stop.is_set():
            waiting.get_nowait().run(stop)


def _progress(jobs: Sequence[_Job], seconds: float) -> tuple[float, str]:
    """Return the part that is done, 0 while nobody has said how much is to come, and what is said beside the bar."""
    done, total = sum(job.arrived for job in jobs), sum(job.total for job in jobs)
    if not all(job.total for job in jobs):
        total = 0
    rate = sum(job.received for job in jobs) / max(seconds, LOOK_S)
    of_all = f" of {terminal.size(total)}" if total else ""
    hosts = sorted({job.waits_for for job in jobs if job.waits_for})
    waits = f", waiting for {', '.join(hosts)}" if hosts else ""
    return done / max(total, 1) if total else 0, f"{terminal.size(done)}{of_all}, {terminal.size(rate)}/s{waits}"


@dataclass
class _Job:
    """One order on its way. The numbers are read by the thread that draws the bar."""

    order: Order
    arrived: int = 0  # bytes in the partial file
    received: int = 0  # bytes that came over the line, the useless ones too
    total: int = 0  # 0: not known yet
    unsure: bool = False  # whether the rest was asked for without saying of which state
    waits_for: str = ""  # the server that has been asked and has not answered yet
    outcome: Fetched | RequestError | None = None
    fault: Exception | None = None  # a mistake of ours
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = self.order.bytes or 0

    def run(self, stop: threading.Event) -> None:
        """Try the sources in turn. Whatever happens becomes the outcome: nobody would see a thread's exception."""
        try:
            self.outcome = self._run(stop)
        except RequestError as error:
            self.outcome = error
        except OSError as error:
            self.outcome = not_writable(self.order.partial, error)
        except Exception as error:  # the thread that waits for this one raises it
            self.fault = error
        self.waits_for = ""

    def _run(self, stop: threading.Event) -> Fetched | RequestError:
        import requests
        import urllib3

        ensure_folder(self.order.path.parent)
        for source in self.order.sources:
            if stop.is_set():
                break
            try:
                with _session(source) as session:
                    return self._fetch(session, source, stop)
            except (_RefusedError, requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
                self.failures.append(f"{source}: {_reason(error)}")
        if self.order.partial.is_file() and not self.order.partial.stat().st_size:
            self.order.partial.unlink()
        tried = "\n    ".join(self.failures)
        return RequestError(f"could not be fetched:\n    {tried}", where=display(self.order.path))

    def _fetch(self, session: requests.Session, source: str, stop: threading.Event) -> Fetched:
        """Fetch from one source, going on where a broken connection left off as long as that helps."""
        import urllib3

        furthest, idle = 0, 0
        while True:
            try:
                return self._receive(session, source, stop)
            except (_AgainError, urllib3.exceptions.HTTPError) as error:
                furthest, idle = max(furthest, self.arrived), 0 if self.arrived > furthest else idle + 1
                if idle == ATTEMPTS:
                    raise _RefusedError(f"broke off {1 + idle} times, {_reason(error)}") from error
                stop.wait(BACKOFF_S * 2**idle if idle else 0)

    def _receive(self, session: requests.Session, source: str, stop: threading.Event) -> Fetched:
        """Ask once for what is missing, and return the whole if that makes it whole."""
        partial = self.order.partial
        state = _state(partial, source)
        with partial.open("ab") as file:
            have = file.tell() if state else 0
            asking = {"Range": f"bytes={have}-"} if have else {}
            if asking and state and state.validator:
                asking["If-Range"] = state.validator
            self.unsure = bool(asking) and "If-Range" not in asking
            self.waits_for = urlsplit(source).hostname or source
            response = session.get(source, headers=asking, stream=True, timeout=(CONNECT_S, READ_S))
            with response:
                if response.status_code == 206 and asking:
                    promised: int | None = self._check_range(response, have, state)
                elif response.status_code == 200:
                    have, promised = 0, _length(response)
                else:
                    if asking and response.status_code not in RETRIED:
                        _forget(partial)
                        raise _AgainError("the rest was refused")
                    raise _RefusedError(f"answered {response.status_code} {response.reason}".rstrip())
                self._begin(file, response, source, have, promised)
                return self._stream(file, response, source, promised, stop)

    def _check_range(self, response: requests.Response, have: int, state: State | None) -> int:
        """Return how long the whole is. A server that overlooks If-Range sends the rest of another state: it shows."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = state and (
            self.unsure or state.validator in (response.headers.get("ETag", state.validator), _date(response))
        )
        if not (found and same and int(found[1]) == have and state and int(found[2]) == (state.total or int(found[2]))):
            _forget(self.order.partial)
            raise _AgainError("the file has changed at its source")
        return int(found[2])

    def _begin(self, file: BinaryIO, response: requests.Response, source: str, have: int, promised: int | None) -> None:
        """Look at what the response promises, the whole's length too, and get the partial file ready for it."""
        if "html" in response.headers.get("Content-Type", "").lower():
            raise _RefusedError("sent a web page in place of the file")
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity" and not self.order.digests and not urlsplit(source).path.endswith("gz"):
            raise _RefusedError(f"sent it in the coding {coding}, which was not asked for")
        if self.order.bytes and promised and promised != self.order.bytes:
            raise _RefusedError(f"has {promised:,} bytes, must be {self.order.bytes:,}")
        self.total = promised or self.total
        free = shutil.disk_usage(self.order.path.parent).free
        if self.total - have > free:
            missing = f"{terminal.size(self.total - have)} are still to come, {terminal.size(free)} are free"
            raise RequestError(f"the disk is too small: {missing}", where=display(self.order.path))
        if not have:
            _forget(self.order.partial)
            file.truncate(0)
            if (validator := _validator(response)) or self.order.digests:
                state = msgspec.json.encode(State(source, validator or "", promised))
                _state_file(self.order.partial).write_bytes(state)

    def _stream(
        self, file: BinaryIO, response: requests.Response, source: str, promised: int | None, stop: threading.Event
    ) -> Fetched:
        """Write what comes, hash all of it, and put the file into its place if it is the right one."""
        partial = self.order.partial
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("sha256", *self.order.digests)}
        with partial.open("rb") as earlier:
            while chunk := earlier.read(CHUNK_BYTES):
                for each in hashes.values():
                    each.update(chunk)
        self.arrived = partial.stat().st_size
        # The bytes as they lie on the server: requests would unpack what is sent as `Content-Encoding: gzip`.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            self.waits_for = ""
            file.write(chunk)
            file.flush()
            for each in hashes.values():
                each.update(chunk)
            self.arrived += len(chunk)
            self.received += len(chunk)
            if stop.is_set():
                raise _RefusedError("interrupted")
            if self.order.bytes and self.arrived > self.order.bytes:
                break  # an endless one would fill the disk
        if promised and self.arrived < promised:
            raise _AgainError(f"sent {self.arrived:,} of {promised:,} bytes")
        self.total = self.arrived
        os.fsync(file.fileno())
        self._verify({name: each.hexdigest() for name, each in hashes.items()})
        partial.replace(self.order.path)
        _forget(partial)
        return Fetched(self.order.path, hashes["sha256"].hexdigest(), self.arrived, source, tuple(self.failures))

    def _verify(self, found: Mapping[str, str]) -> None:
        wrong = [
            f"{name} is {found[name]}, must be {right}"
            for name, right in self.order.digests.items()
            if found[name] != right
        ]
        if self.order.bytes and self.arrived != self.order.bytes:
            wrong.append(f"{self.arrived:,} bytes, must be {self.order.bytes:,}")
        if wrong:
            _forget(self.order.partial)
            self.order.partial.unlink(missing_ok=True)
            self.arrived = 0
            if self.unsure:
                raise _AgainError(f"the pieces were not of one file: {'; '.join(wrong)}")
            raise _RefusedError(f"is not the right file, and was removed: {'; '.join(wrong)}")


def _session(source: str) -> requests.Session:
    """Return a session for one source: it retries what a server says in passing, and waits as long as it asks for."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    class Session(requests.Session):
        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            """Send a request, of a redirect too."""
            if not str(request.url).lower().startswith("https:"):
                if source.startswith("https:"):
                    raise _RefusedError(f"redirects from https to {request.url}")
                request.headers.pop("Authorization", None)  # of .netrc, whose `default` fits every server
            return super().send(request, **options)

    retry = Retry(
        total=ATTEMPTS - 1,
        connect=CONNECT_ATTEMPTS - 1,
        read=ANSWER_ATTEMPTS - 1,
        backoff_factor=BACKOFF_S,
        backoff_max=30,
        status_forcelist=RETRIED,
        raise_on_status=False,
        retry_after_max=120,
    )
    session = Session()
    session.headers.update({"User-Agent": "engineroom", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.state")


def _state(partial: Path, source: str) -> State | None:
    """Return of which state the partial file is, if it is one of this source."""
    try:
        state = msgspec.json.decode(_state_file(partial).read_bytes(), type=State)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None
    return state if state.source == source else None


def _forget(partial: Path) -> None:
    _state_file(partial).unlink(missing_ok=True)


def _validator(response: requests.Response) -> str | None:
    """Return what If-Range may name: a strong ETag, or a date that was not of the same second (RFC 9110, 8.8.2.2)."""
    tag = response.headers.get("ETag", "")
    if tag:
        return None if tag.startswith("W/") else tag
    changed, sent = _date(response), response.headers.get("Date", "")
    try:
        settled = parsedate_to_datetime(sent) - parsedate_to_datetime(changed) >= timedelta(seconds=1)
    except (ValueError, TypeError):  # no dates, or one with a time zone and one without
        return None
    return changed if settled else None


def _length(response: requests.Response) -> int | None:
    """Return how many bytes a response says that it has."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def _date(response: requests.Response) -> str:
    return response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    """Return the innermost cause in one line: requests and urllib3 wrap it several times."""
    if isinstance(error, UnicodeError):
        return "redirects to an address that cannot be read"
    while isinstance(inner := getattr(error, "reason", None) or (error.args[:1] or (None,))[0], Exception):
        error = inner
    words = " ".join(str(error.args[-1] if len(error.args) > 1 else error).split())
    return _OBJECT.sub("", words) or type(error).__name__
