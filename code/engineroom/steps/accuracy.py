"""Scores an accuracy run from LoadGen's accuracy log alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from engineroom.benchmarks import Benchmark
from engineroom.errors import EngineError
from engineroom.paths import display, write_text
from engineroom.runs import AccuracyResult

LOG = "mlperf_log_accuracy.json"
PREDICTIONS = "predictions.txt"  # one answer a line, in the order of the samples


class Response(msgspec.Struct):
    """One line of LoadGen's accuracy log: the sample's index and the response in hex."""

    qsl_idx: int
    data: str


def score(benchmark: Benchmark, folder: Path, labels: Sequence[int]) -> AccuracyResult:
    """Return the score of the run in `folder`; write accuracy.txt as MLCommons' scorers word it, and predictions.txt.

    What makes it no result of the benchmark stands below the score.

    `labels` are the right answers, in the order of the samples.
    Raises EngineError if the log is missing, cut off, or does not answer every sample once.
    """
    answers = benchmark.answers(_responses(folder / LOG), len(labels))
    accuracy = benchmark.score(answers, labels)
    write_text(folder / PREDICTIONS, "".join(f"{answer}\n" for answer in answers))
    words = f"accuracy={accuracy.value:.3f}{accuracy.unit}, good={accuracy.good}, total={accuracy.total}"
    write_text(folder / "accuracy.txt", "".join(f"{line}\n" for line in (words, *benchmark.notes)))
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


def _responses(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        log = msgspec.json.decode(path.read_bytes(), type=list[Response])
        for response in log:
            yield response.qsl_idx, bytes.fromhex(response.data)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineError(f"is no complete accuracy log: {error}", where=display(path)) from None
