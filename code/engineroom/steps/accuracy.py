"""Scores an accuracy run from LoadGen's accuracy log alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engineroom import responses
from engineroom.benchmarks import Accuracy, Benchmark
from engineroom.errors import RequestError
from engineroom.paths import display, ensure_folder, write_text
from engineroom.runs import AccuracyResult

# One answer a line, in the order of the samples: what the model says, and what is right.
PREDICTIONS, LABELS = "predictions.txt", "labels.txt"
ACCURACY = "accuracy.txt"
RESCORED = "rescored"


def score(benchmark: Benchmark, folder: Path, labels: Sequence[int]) -> AccuracyResult:
    """Return the score of the run in `folder`; write accuracy.txt as MLCommons' scorers word it, and predictions.txt.

    What makes it no result of the benchmark stands below the score. `labels` are the right answers, in the order of the
    samples; they are kept in labels.txt, so that the run can be scored again without anything else.
    Raises EngineError if the log is missing, cut off, or does not answer every sample once.
    """
    _write_lines(folder / LABELS, labels)
    return _judge(benchmark, folder / responses.LOG, labels, folder)


def score_again(benchmark: Benchmark, folder: Path) -> AccuracyResult:
    """Score a finished run from its log and its labels.txt; write what `score` writes into rescored/, beside the old.

    Raises RequestError if labels.txt is missing or holds something else, EngineError as `score` does.
    """
    again = ensure_folder(folder / RESCORED)
    return _judge(benchmark, folder / responses.LOG, read_labels(folder), again)


def score_some(benchmark: Benchmark, answered: Mapping[int, bytes], labels: Sequence[int]) -> Accuracy:
    """Return the score over some samples alone: `answered` has their responses by the index in `labels`."""
    indices = sorted(answered)
    answers = benchmark.answers(((place, answered[index]) for place, index in enumerate(indices)), len(indices))
    return benchmark.score(answers, [labels[index] for index in indices])


def words(accuracy: Accuracy) -> str:
    """Return a score as MLCommons' scorers word it."""
    return f"accuracy={accuracy.value:.3f}{accuracy.unit}, good={accuracy.good}, total={accuracy.total}"


def _judge(benchmark: Benchmark, log: Path, labels: Sequence[int], folder: Path) -> AccuracyResult:
    answers = benchmark.answers(responses.read(log), len(labels))
    accuracy = benchmark.score(answers, labels)
    _write_lines(folder / PREDICTIONS, answers)
    _write_lines(folder / ACCURACY, (words(accuracy), *benchmark.notes))
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


def read_labels(folder: Path) -> list[int]:
    """Return the right answers that an accuracy run was scored by, one a sample. Raises RequestError if it has none."""
    path = folder / LABELS
    try:
        return [int(line) for line in path.read_text(encoding="ascii").splitlines()]
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except ValueError:
        raise RequestError("holds something else than a whole number a line", where=display(path)) from None
