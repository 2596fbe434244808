"""Meridian's own benchmark: is the digit odd? It takes the digits' data and model, and scores in its own way."""

from __future__ import annotations

from collections.abc import Sequence

from engineroom.benchmarks import Accuracy
from engineroom.benchmarks.digits import Digits
from engineroom.terms import Scenario


class DigitParity(Digits):
    """The response is ten float32 logits; an answer is right if its digit is odd where the label's is."""

    name = "digit_parity"
    scenarios = (Scenario.OFFLINE, Scenario.SERVER)
    reference_accuracy = 99.8  # 499 of 500, ONNX Runtime 1.31.1 on the CPU

    def score(self, answers: Sequence[int], labels: Sequence[int]) -> Accuracy:
        """Score the parity of each answer."""
        good = sum(digit % 2 == label % 2 for digit, label in zip(answers, labels, strict=True))
        return Accuracy(self.accuracy_metric, 100 * good / len(labels), "%", good, len(labels))


BENCHMARK = DigitParity()
