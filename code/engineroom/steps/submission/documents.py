"""What is written for a submission and not measured: measurements, README, calibration, sources."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engineroom import __version__, rounds, versions
from engineroom.benchmarks import Benchmark
from engineroom.config import RunConfig, fields
from engineroom.errors import RequestError
from engineroom.paths import CALIBRATION, ROOT, TEMPLATES, display, overlay_files, overlay_version, unpack_whole
from engineroom.rounds import Inferred
from engineroom.runs import PerformanceResult
from engineroom.steps.submission import inference
from engineroom.steps.submission.choose import Chosen, Overlay, Run
from engineroom.steps.submission.entry import FILE, NOTICE, REHEARSAL, UNKNOWN_HERE, Entry
from engineroom.steps.submission.layout import Place
from engineroom.steps.submission.privacy import Kind
from engineroom.terms import METRICS, Precision, Scenario, Weights

README_TEMPLATE = TEMPLATES / "submission_readme.md.j2"
ACCOUNT = "calibration.md"  # what calibrate writes beside the quantized model
SOURCES = (  # what a run is made of: all but tests, documents and what is generated
    *("code", "configs", "data_maps", "systems", "requirements"),
    *("Makefile", "tasks.py", "invoke.yaml", "pyproject.toml", "README.md", "LICENSE"),
)
GENERATED = ("__pycache__", "*.egg-info", ".*", "*.pyc")
TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # as MLPerf's results write them
SOURCES_PREFIX, OVERLAY_PREFIX = "engineroom-", "overlay-"
REPLACED = "## What was replaced\n\nPut words of your own in their place:"
PLACEHOLDERS = {
    Kind.KEY: "a key, which is secret",
    Kind.PATH: "a path on the machine that it ran on; put the path there at which you have the same",
    Kind.USER: "the name of a user",
    Kind.HOST: "the name of a machine",
    Kind.ADDRESS: "the address of a machine",
    Kind.MAIL: "a mail address",
}
TITLE = "# How the models were quantized"


def measurements(benchmark: Benchmark, config: RunConfig, entry: Entry) -> str:
    """Return measurements.json: what was done to the model. Fields: constants.py, SYSTEM_IMP_REQUIRED_FILES."""
    told = {
        "input_data_types": ", ".join(sorted({TYPES.get(spec.dtype, spec.dtype) for spec in benchmark.inputs})),
        "retraining": retraining(benchmark, entry),
        "starting_weights_filename": _starting_weights(benchmark),
        "weight_data_types": config.precision.value,
        "weight_transformations": _transformations(benchmark, config),
        **({REHEARSAL: NOTICE} if entry.rehearsal else {}),
    }
    return json.dumps(told, indent=2) + "\n"


def retraining(benchmark: Benchmark, entry: Entry) -> str:
    """Return whether the model was trained further. Raises RequestError where only its owner knows, and has not said.

    What the project has the weights of is as its authors published it.
    """
    if not benchmark.own_model:
        return "no"
    if entry.retraining:
        return entry.retraining
    if entry.rehearsal:
        return UNKNOWN_HERE
    raise RequestError(
        f"a submission must say whether {display(benchmark.own_model)} was trained further",
        where="retraining",
        mend=f"say it: --retraining=no or --retraining=yes, or `retraining: no` in configs/{FILE}",
    )


def _starting_weights(benchmark: Benchmark) -> str:
    if benchmark.own_model:
        return benchmark.own_model.name
    if benchmark.weights is Weights.SYNTHETIC:
        return f"{benchmark.model_file()[0].name} (seeded weights, made by Engineroom)"
    source = benchmark.model_source
    return source.sources[0] if source and source.sources else benchmark.model_file()[0].name


def _transformations(benchmark: Benchmark, config: RunConfig) -> str:
    if config.precision is Precision.FP32:
        return "no"
    if benchmark.came_quantized:
        return "no: the weights came quantized"
    if config.precision is Precision.INT8:
        return "post-training quantization to int8, one scale per output channel: documentation/calibration.md"
    return f"conversion to {config.precision} by the engine"


def commands(chosen: Chosen) -> list[str]:
    """Return the lines to type that run a result's tests again: performance, accuracy, audits."""
    tests = [command(run.config, test_mode=run.config.test_mode.value) for run in chosen.runs]
    return tests + [command(chosen.performance.config, f"run_audit_{test.lower()}") for test in chosen.audits]


def command(config: RunConfig, task: str = "run_harness", **more: str) -> str:
    """Return the line to type for a task, with `more` flags and every setting that has no default or another value."""
    defaults = fields.defaults()
    flags = {"benchmarks": config.benchmark, "scenarios": config.scenario.value, **more}
    for name in fields.settable():
        value, about = getattr(config, name), fields.about(name)
        if about.scenarios and config.scenario not in about.scenarios:
            continue
        if about.engines and config.engine not in about.engines:
            continue
        if value is not None and (name not in defaults or value != defaults[name] or name == "round"):
            flags[name] = _text(value)
    return f"make {task} RUN_ARGS={_run_args(flags)}"


def _run_args(flags: Mapping[str, str]) -> str:
    return shlex.quote(shlex.join(f"--{name}={value}" for name, value in flags.items()))


def _text(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if isinstance(plain, str) and Path(plain).is_relative_to(ROOT):
        return display(Path(plain))  # whoever types it has a checkout of their own
    if isinstance(plain, list | tuple):
        return ",".join(map(str, plain))
    return str(plain).lower() if isinstance(plain, bool) else f"{plain!r}" if isinstance(plain, float) else str(plain)


def readme(place: Place, chosen: Chosen, benchmark: Benchmark, entry: Entry) -> str:
    """Return the README.md of one result, with the commands that make it again."""
    import jinja2

    rules, run, scored = rounds.read(entry.round), chosen.performance, chosen.accuracy
    config, figure, score = run.config, run.result.performance, scored.result.accuracy
    assert figure and score  # what was chosen has both
    model = benchmark.model_file()[0]
    sha256 = next((sha for name, sha in run.result.checksums.items() if name == display(model)), "unknown")
    values = {
        "rehearsal": entry.rehearsal,
        "notice": NOTICE,
        "benchmark": place.benchmark,
        "scenario": place.scenario,
        "system": place.system,
        "round": entry.round,
        "division": entry.division,
        "category": entry.system_type,
        "submitter": entry.submitter,
        "result": result_in_words(chosen, place.scenario, rules.inferred),
        "inferred": _inferred(chosen, place.scenario, rules.inferred),
        "validity": _validity(figure),
        "accuracy": f"{score.metric} {score.value:.4f}{score.unit} ({score.good:,} of {score.total:,})",
        "engine": config.engine,
        "precision": config.precision.value,
        "model": model.name,
        "model_sha256": sha256,
        "dataset": config.dataset,
        "version": __version__,
        "revision": run.revision,
        "sources": f"{sources_name(run.revision)}",
        "notes": benchmark.notes,
        "overlays": [overlay_name(each) for each in run.overlays],
        "stands_for": benchmark.stands_for,
        "own_model": benchmark.own_model is not None,
        "audits": list(chosen.audits),
        "commands": [_prepare(benchmark, config), *commands(chosen)],
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    return environment.from_string(README_TEMPLATE.read_text(encoding="utf-8")).render(values)


def _prepare(benchmark: Benchmark, config: RunConfig) -> str:
    """Return the line to type that gets what the tests need. A model of one's own is nowhere to be had."""
    tasks = "download_data" if benchmark.own_model else "download_model download_data"
    flags = {"benchmarks": config.benchmark, "dataset": config.dataset, "weights": config.weights.value}
    return f"make {tasks} RUN_ARGS={_run_args(flags)}"


def result_in_words(chosen: Chosen, scenario: str, rules: Inferred) -> str:
    """Return the figure of a result as people read it: "p90 latency 1.234 ms"."""
    figure = chosen.performance.result.performance
    assert figure
    if chosen.inferred_from is None:  # LoadGen's 0: it could not estimate the percentile
        return f"{figure.metric} {f'{figure.value:.6g} {figure.unit}' if figure.value else 'too few queries'}"
    metric = METRICS[Scenario(scenario)]
    way = inference.way_of(chosen.inferred_from, scenario, rules)
    return f"{metric.name} {inference.value(way, chosen.performance.result.loadgen):.6g} {metric.unit}"


def _inferred(chosen: Chosen, scenario: str, rules: Inferred) -> str:
    source = chosen.inferred_from
    if source is None:
        return ""
    formula = inference.in_words(inference.way_of(source, scenario, rules))
    return f"from {source}, {formula}; the logs are those of {source}"


def _validity(figure: PerformanceResult) -> str:
    return "VALID" if figure.valid else f"INVALID: {'; '.join(figure.reasons)}"


# Calibration


def calibration(benchmark: Benchmark, runs: Sequence[Run], place: str) -> str:
    """Return how a benchmark's model was quantized on a system: calibration's own account where there was one.

    Raises RequestError if a model was calibrated and its account is gone.
    """
    told: dict[str, list[str]] = {}
    for run in runs:
        told.setdefault(_quantized(benchmark, run), []).append(run.config.scenario)
    parts = (f"{', '.join(dict.fromkeys(scenarios))}:{text}" for text, scenarios in told.items())
    return "\n".join([f"# {place}\n", *parts])


def _quantized(benchmark: Benchmark, run: Run) -> str:
    """Return how the model of a run was quantized, as it stands behind a colon."""
    key = run.result.made_from.get("calibration", "none")
    if run.config.precision is not Precision.INT8:
        return f" the model ran in {run.config.precision}; nothing was quantized or calibrated.\n"
    if key == "none":
        return " the model came in int8; nothing was calibrated here.\n"
    return f"\n\n{_account(benchmark, key, run)}"


def _account(benchmark: Benchmark, key: str, run: Run) -> str:
    path = CALIBRATION / benchmark.name / key / ACCOUNT
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise RequestError(
            f"is gone: it says how the model of {run.name} was quantized",
            where=display(path),
            mend=f"make it again: make calibrate RUN_ARGS='--benchmarks={benchmark.name}', then run the tests again",
        ) from None


def calibration_index(names: Sequence[str]) -> str:
    """Return documentation/calibration.md: which file tells of which benchmark and system."""
    lines = [f"- [{name.removesuffix('-calibration.md')}]({name})" for name in sorted(names)]
    about = "Of each benchmark on each system, by Engineroom itself, from what it did:"
    return "\n".join([TITLE, "", about, "", *lines, ""])


# Sources


def sources_name(revision: str) -> str:
    """Return the name of the folder that holds the code of a revision."""
    dirty = versions.DIRTY if revision.endswith(versions.DIRTY) else ""
    known = "" if revision == versions.UNKNOWN else f"-{revision[:12]}{dirty}"
    return f"{SOURCES_PREFIX}{__version__}{known}"


def write_sources(revision: str, folder: Path, root: Path = ROOT) -> None:
    """Copy the code that ran to `folder`: as git has it at `revision`, or, where git does not know it, as it lies here.

    Raises RequestError if git no longer has the revision.
    """
    folder.mkdir(parents=True)
    if not versions.is_known(revision):
        _copy_working_tree(folder, root)
        return
    archive = ["git", "-C", str(root), "archive", "--format=tar", revision, *SOURCES]
    made = subprocess.run(archive, capture_output=True, check=False)
    if made.returncode:
        raise RequestError(
            f"git has no revision {revision} any more: {made.stderr.decode(errors='replace').strip()}",
            where=display(root),
            mend="fetch it, or run the tests again with the code that is here",
        )
    unpack_whole(io.BytesIO(made.stdout), folder)
    _drop_hidden(folder)


def _copy_working_tree(folder: Path, root: Path) -> None:
    for name in SOURCES:
        source = root / name
        if source.is_dir():
            copy_tree(source, folder / name, shutil.copy, GENERATED)
        elif source.is_file():
            shutil.copyfile(source, folder / name)


def copy_tree(source: Path, target: Path, copy: Callable[[Path, Path], object], left_out: Sequence[str] = ()) -> None:
    """Copy a folder with `copy`, but for the names that are `left_out`.

    Raises the OSError of the first file that cannot be copied: shutil.copytree goes on, and tells errors in words only.
    """
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if any(path.match(pattern) for pattern in left_out):
            continue
        if path.is_dir():
            copy_tree(path, target / path.name, copy, left_out)
        else:
            copy(path, target / path.name)


def _drop_hidden(folder: Path) -> None:
    """Remove files whose name begins with a dot: MLCommons' repository_checks.sh refuses them."""
    for path in folder.rglob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def overlay_name(overlay: Overlay) -> str:
    """Return the name of the folder that holds an overlay, beside the code: its own may be nobody's business."""
    return f"{OVERLAY_PREFIX}{overlay.version}"


def write_overlay(overlay: Overlay, folder: Path) -> None:
    """Copy an overlay to `folder`. Raises RequestError if it is no longer what the run used."""
    if overlay_version(overlay.path) != overlay.version:
        raise RequestError(
            "this overlay is no longer what the run used",
            where=display(overlay.path),
            mend="bring it back, or run the tests again with it as it is",
        )
    for path in overlay_files(overlay.path):
        target = folder / path.relative_to(overlay.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def sources_readme(benchmark: str) -> str:
    """Return the README.md of a benchmark's folder among the sources."""
    return (
        f"# {benchmark}\n\nRun by Engineroom. The README.md beside each result's measurements names the folder, here\n"
        "or next to this one, that holds the code it was run with, and the commands that run it again.\n"
    )
