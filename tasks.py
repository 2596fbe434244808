"""Invoke's tasks: one short function per target of the Makefile, which calls one action with RUN_ARGS."""

from __future__ import annotations

import os
import sys
from typing import Any

from invoke import task


def _act(module: str, name: str) -> None:
    """Call the action `name` of `module` with RUN_ARGS and leave with its exit code."""
    # Imported here, so that `inv --list` and `--help` stay as quick as Invoke itself.
    from engineroom import actions, run_args

    sys.exit(actions.act(module, name, lambda: run_args.split(os.environ.get("RUN_ARGS", ""))))


@task
def run_harness(context: Any) -> None:
    """Set up and build what is missing, run LoadGen, score, and print one table."""
    _act("run", "run_harness")


@task
def generate_engines(context: Any) -> None:
    """Build the engine of each benchmark and scenario; what is unchanged is reused."""
    _act("engines", "generate_engines")


@task
def run(context: Any) -> None:
    """generate_engines, then run_harness."""
    _act("run", "run")


@task
def score(context: Any) -> None:
    """Score accuracy runs again from their logs, and compare with what was recorded."""
    _act("score", "score")


@task
def run_audit_harness(context: Any) -> None:
    """Run the audits that the round's rules ask for, and verify them."""
    _act("audits", "run_audit_harness")


@task
def run_audit_test01(context: Any) -> None:
    """Run TEST01: what is answered in performance mode is what was answered in accuracy mode."""
    _act("audits", "run_audit_test01")


@task
def run_audit_test04(context: Any) -> None:
    """Run TEST04: answers to the same sample are not kept and used again."""
    _act("audits", "run_audit_test04")


@task
def calibrate(context: Any) -> None:
    """Write the quantized model of each benchmark and its ranges."""
    _act("engines", "calibrate")


@task
def config(context: Any) -> None:
    """Print the merged settings of each run, each with its origin."""
    _act("settings", "config")


@task
def explain(context: Any) -> None:
    """Say what a setting means, who uses it, and where it is set now."""
    _act("settings", "explain")


@task
def schemas(context: Any) -> None:
    """Write the JSON Schemas by which editors check the YAML files."""
    _act("settings", "schemas")


@task
def import_nvidia_config(context: Any) -> None:
    """Carry NVIDIA's own configuration files over into configs/; they are read, never run."""
    _act("import_config", "import_nvidia_config")


@task
def download_model(context: Any) -> None:
    """Fetch the models and check them."""
    _act("engines", "download_model")


@task
def download_data(context: Any) -> None:
    """Fetch the data sets and check them."""
    _act("engines", "download_data")


@task
def preprocess_data(context: Any) -> None:
    """Turn data sets into the arrays that the harness maps into memory."""
    _act("engines", "preprocess_data")


@task
def submission(context: Any) -> None:
    """Run what is missing for a submission, stage, cut the logs short, check and pack."""
    _act("submission", "submission")


@task
def stage_results(context: Any) -> None:
    """Choose the best runs that belong together, and lay them out as a submission."""
    _act("submission", "stage_results")


@task
def truncate_results(context: Any) -> None:
    """Cut accuracy logs short, with the hash of the whole; keep the whole ones beside."""
    _act("submission", "truncate_results")


@task
def pack_submission(context: Any) -> None:
    """Check what is staged, and pack it into an archive."""
    _act("submission", "pack_submission")


@task
def export_submission(context: Any) -> None:
    """Check what is staged, and copy it to where it is handed in."""
    _act("submission", "export_submission")


@task
def check_submission(context: Any) -> None:
    """Judge a submission, anybody's: every fault at once, each with its rule and its remedy."""
    _act("validator", "check_submission")


@task
def summarize_results(context: Any) -> None:
    """Show what is staged, also per accelerator or core; as a table, CSV or JSON."""
    _act("published", "summarize_results")


@task
def import_submission(context: Any) -> None:
    """Read published results of the rounds since v2.0."""
    _act("published", "import_submission")


@task
def info(context: Any) -> None:
    """Show every component with its version, its path and how it was found."""
    _act("health", "info")


@task
def doctor(context: Any) -> None:
    """Check what a run needs and what makes its figures steadier; each finding with its remedy."""
    _act("health", "doctor")


@task
def add_system(context: Any) -> None:
    """Write systems/<id>.yaml, by which this machine is recognised."""
    _act("machine", "add_system")


@task
def describe_system(context: Any) -> None:
    """Show MLPerf's system description of this machine, and how each field is known."""
    _act("machine", "describe_system")


@task
def build(context: Any) -> None:
    """Compile everything native: LoadGen and the harness."""
    _act("house", "build")


@task
def builds(context: Any) -> None:
    """Show each build, whether it has ever run, and when that was verified."""
    _act("verify", "builds")


@task
def build_loadgen(context: Any) -> None:
    """Fetch and compile LoadGen."""
    _act("house", "build_loadgen")


@task
def build_harness(context: Any) -> None:
    """Compile the native harness and its Python module."""
    _act("house", "build_harness")


@task
def install(context: Any) -> None:
    """Add an extra to build/venv by name."""
    _act("house", "install")


@task
def wheelhouse(context: Any) -> None:
    """Collect in build/wheelhouse what an installation without a network needs."""
    _act("house", "wheelhouse")


@task
def shell(context: Any) -> None:
    """Open a shell with build/venv active."""
    _act("house", "shell")


@task
def clean(context: Any) -> None:
    """Remove everything that can be made again, build/venv too."""
    _act("house", "clean")


@task
def clean_shallow(context: Any) -> None:
    """Remove the compiled libraries."""
    _act("house", "clean_shallow")


@task
def lint(context: Any) -> None:
    """Run ruff, mypy --strict and the layer check."""
    _act("house", "lint")


@task
def test(context: Any) -> None:
    """Lint, then run the tests."""
    _act("house", "test")


@task
def test_all(context: Any) -> None:
    """Run the long and heavy tests, which `test` leaves out."""
    _act("house", "test_all")


@task
def compare_engine(context: Any) -> None:
    """Hold an engine's outputs against ONNX Runtime's in fp32, sample by sample."""
    _act("compare", "compare_engine")


@task
def verify_tensorrt(context: Any) -> None:
    """Build plans, compare them, run all scenarios, and write a block for docs/verified.md."""
    _act("verify", "verify_tensorrt")


@task
def test_gpu(context: Any) -> None:
    """Run the tests that need an NVIDIA GPU."""
    _act("verify", "test_gpu")


@task
def bench(context: Any) -> None:
    """Measure the overheads and throughputs that the README states."""
    _act("house", "bench")
