"""Scores an accuracy run from LoadGen's accuracy log alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from engineroom.benchmarks import Benchmark
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display, ensure_folder, write_text
from engineroom.runs import AccuracyResult

LOG = "mlperf_log_accuracy.json"
# One answer a line, in the order of the samples: what the model says, and what is right.
PREDICTIONS, LABELS = "predictions.txt", "labels.txt"
ACCURACY = "accuracy.txt"
RESCORED = "rescored"


class Response(msgspec.Struct):
    """One line of LoadGen's accuracy log: the sample's index and the response in hex."""

    qsl_idx: int
    data: str


def score(benchmark: Benchmark, folder: Path, labels: Sequence[int]) -> AccuracyResult:
    """Return the score of the run in `folder`; write accuracy.txt as MLCommons' scorers word it, and predictions.txt.

    What makes it no result of the benchmark stands below the score. `labels` are the right answers, in the order of the
    samples; they are kept in labels.txt, so that the run can be scored again without anything else.
    Raises EngineError if the log is missing, cut off, or does not answer every sample once.
    """
    _write_lines(folder / LABELS, labels)
    return _judge(benchmark, folder / LOG, labels, folder)


def score_again(benchmark: Benchmark, folder: Path) -> AccuracyResult:
    """Score a finished run from its log and its labels.txt; write what `score` writes into rescored/, beside the old.

    Raises RequestError if labels.txt is missing or holds something else, EngineError as `score` does.
    """
    again = ensure_folder(folder / RESCORED)
    return _judge(benchmark, folder / LOG, _read_labels(folder / LABELS), again)


def _judge(benchmark: Benchmark, log: Path, labels: Sequence[int], folder: Path) -> AccuracyResult:
    answers = benchmark.answers(_responses(log), len(labels))
    accuracy = benchmark.score(answers, labels)
    _write_lines(folder / PREDICTIONS, answers)
    words = f"accuracy={accuracy.value:.3f}{accuracy.unit}, good={accuracy.good}, total={accuracy.total}"
    _write_lines(folder / ACCURACY, (words, *benchmark.notes))
    return AccuracyResult(
        metric=accuracy.metric,
        unit=accuracy.unit,
        value=accuracy.value,
        target=benchmark.accuracy_target,
        reference=benchmark.reference_accuracy,
        good=accuracy.good,
        total=accuracy.total,
        met=accuracy.value >= benchmark.accuracy_target,
        golden=benchmark.compared(answers),
    )


def _write_lines(path: Path, lines: Iterable[object]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read_labels(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text(encoding="ascii").splitlines()]
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except ValueError:
        raise RequestError("holds something else than a whole number a line", where=display(path)) from None


def _responses(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        log = msgspec.json.decode(path.read_bytes(), type=list[Response])
        for response in log:
            yield response.qsl_idx, bytes.fromhex(response.data)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineError(f"is no complete accuracy log: {error}", where=display(path)) from None
