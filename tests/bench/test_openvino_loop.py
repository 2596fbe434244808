"""The bare loop of OpenVINO does the work that the engine does: same model, same samples, same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engineroom.bench import latency, loop, models, product
from engineroom.errors import EngineError
from engineroom.terms import Precision

pytestmark = pytest.mark.heavy  # each needs engines and a program that is compiled first


def test_the_loop_gives_the_engines_answers(tmp_path: Path) -> None:
    """Bit by bit, beside what LoadGen logged of the engine; two requests hold the first two batches."""
    loop.build()
    flags = ("--scenarios=Offline", "--test_mode=AccuracyOnly", "--engine=openvino", "--batch_size=64")
    with product.run_harness(*flags) as ran:
        run = ran.folders["accuracy"]
        recipe = json.loads((run / "recipe" / "harness.json").read_text(encoding="utf-8"))
        logged = json.loads((run / "mlperf_log_accuracy.json").read_text(encoding="utf-8"))
    answers = {entry["qsl_idx"]: bytes.fromhex(entry["data"]) for entry in logged}
    expected = b"".join(answers[index] for index in range(128))
    for mode in ("sync", "async"):
        file = tmp_path / mode
        rates = loop.measure(recipe, mode, 2, 0.2, f"--answers={file}")
        assert rates["samples_per_second"] > 1000
        assert ("p50_us" in rates) == (mode == "sync")
        assert np.array_equal(np.frombuffer(file.read_bytes(), "<f4"), np.frombuffer(expected, "<f4")), mode
    with pytest.raises(EngineError, match="holds no whole batch"):
        short = tmp_path / "short.npy"
        np.save(short, np.zeros((3, 1, 8, 8), np.float32))
        loop.measure({**recipe, "inputs": [{**recipe["inputs"][0], "path": str(short)}]}, "sync", 1, 0.1)


def test_latencies_are_loadgens_and_of_the_loops_size() -> None:
    brief = replace(models.DIGITS, seconds=1)
    p50, p90 = latency.figures(brief, Precision.FP32, pairs=1)
    assert 0 < p50.peer[0] <= p90.peer[0]
    assert 0 < p50.ours[0] <= p90.ours[0]
    assert p50.ours[0] < 10 * p50.peer[0], "both are microseconds"
    assert p50.limit == pytest.approx(0.02 * p50.peer[0] + 3, abs=0.001)
