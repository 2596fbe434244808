"""RUN_ARGS is read strictly: every mistake is told at once, 0 and false count, and nothing reaches a shell."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.config import fields
from engineroom.errors import EngineroomError, Mistakes, RequestError
from engineroom.paths import ROOT
from engineroom.run_args import SWITCHES, Help, Request, flags, options, parse, split
from engineroom.terms import Scenario, TestMode


def _mistakes(argv: list[str]) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        parse(argv)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_nothing_asked_for_means_performance_and_accuracy() -> None:
    assert parse([]) == Request(test_modes=(TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY))


@given(st.lists(st.text()))
def test_quoted_words_come_through_as_they_are(words: list[str]) -> None:
    assert split(shlex.join(words)) == words


OVERRIDES = {
    "engine": "openvino",
    "precision": "fp32",
    "queue_delay_us": "0",
    "pin_workers": "false",
    "server_target_qps": "0.5",
    "max_duration": "none",
}
requests = st.builds(
    Request,
    benchmarks=st.sampled_from([(), ("digits",)]),
    scenarios=st.lists(st.sampled_from(Scenario), unique=True).map(tuple),
    test_modes=st.lists(st.sampled_from(TestMode), unique=True, min_size=1).map(tuple),
    overrides=st.sets(st.sampled_from(sorted(OVERRIDES))).map(lambda names: {name: OVERRIDES[name] for name in names}),
    **{name: st.booleans() for name in SWITCHES},
)


@given(requests, st.randoms(use_true_random=False))
def test_a_request_survives_every_spelling(request_: Request, chance: random.Random) -> None:
    lists = {"benchmarks": request_.benchmarks, "scenarios": request_.scenarios, "test_mode": request_.test_modes}
    given_flags = [(name, ",".join(items)) for name, items in lists.items() if items]
    given_flags += list(request_.overrides.items())
    words = [_spelt(name, value, chance) for name, value in given_flags]
    words += [
        [f"--{name}" if getattr(request_, name) else f"--{name}=false"]
        for name in SWITCHES
        if getattr(request_, name) or chance.random() < 0.5
    ]
    chance.shuffle(words)
    assert parse(split(shlex.join(word for group in words for word in group))) == request_


def _spelt(name: str, value: str, chance: random.Random) -> list[str]:
    flag = f"--{name.replace('_', chance.choice('_-'))}"
    value = chance.choice([value, value.lower(), value.upper()]) if name in ("scenarios", "test_mode") else value
    return [f"{flag}={value}"] if chance.random() < 0.5 else [flag, value]


def test_lists_forgive_blanks_and_doubles_and_know_all() -> None:
    request = parse(["--benchmarks=all", "--scenarios= offline, Server,offline ,"])
    assert {"digits", "mobilenet-v2", "resnet50"} <= set(request.benchmarks)
    assert request.scenarios == (Scenario.OFFLINE, Scenario.SERVER)
    assert parse(["--scenarios=all"]).scenarios == tuple(Scenario)
    assert parse(["--scenarios=Server,all"]).scenarios == tuple(Scenario)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--benchmrks=digits"], "RUN_ARGS: unknown flag --benchmrks\n  did you mean --benchmarks?"),
        (["--batch_sise=4"], "RUN_ARGS: unknown flag --batch_sise\n  did you mean --batch_size?"),
        (["--benchmarks=digit"], "RUN_ARGS: unknown benchmark 'digit'\n  did you mean digits?"),
        (["--benchmarks=resnet"], "RUN_ARGS: unknown benchmark 'resnet'\n  did you mean resnet50?"),
        (["--benchmarks=mobilenet"], "RUN_ARGS: unknown benchmark 'mobilenet'\n  did you mean mobilenet-v2?"),
        (["--scenarios=Ofline"], "RUN_ARGS: unknown scenario 'Ofline'\n  did you mean Offline?"),
        (["--test_mode=accuracy"], "RUN_ARGS: unknown test mode 'accuracy'\n  did you mean AccuracyOnly?"),
        (["--engine=openvin"], "RUN_ARGS: --engine: is 'openvin'; did you mean openvino?"),
        (["--engine=all"], "RUN_ARGS: --engine: is 'all'; "),
        (["--engine="], "RUN_ARGS: --engine: is ''; known: auto, "),
        (["--calibrator=$(rm)"], "RUN_ARGS: --calibrator: is '$(rm)'; known: "),
        (["--precision=int9"], "RUN_ARGS: --precision: is 'int9'; did you mean int8?"),
        (["--batch_size=0"], "RUN_ARGS: --batch_size: is '0', must be a whole number >= 1 (samples)"),
        (["--batch_size"], "RUN_ARGS: --batch_size: needs a value\n  --batch_size=VALUE"),
        (["--batch_size", "--force"], "RUN_ARGS: --batch_size: needs a value\n  --batch_size=VALUE"),
        (["--batch_size=none"], "RUN_ARGS: --batch_size: is 'none', must be a whole number (samples)"),
        (["--batch_size=1", "--batch-size=1"], "RUN_ARGS: --batch_size: is given twice"),
        (["--server_target_qps=nan"], "RUN_ARGS: --server_target_qps: is 'nan', must be a number > 0.0 (samples/s)"),
        (["--server_target_qps=inf"], "RUN_ARGS: --server_target_qps: is 'inf', must be a number <= 1000000000.0 "),
        (["--pin_workers=perhaps"], "RUN_ARGS: --pin_workers: is 'perhaps', must be true or false"),
        (["--force=perhaps"], "RUN_ARGS: --force: is 'perhaps', must be true or false"),
        (["--mode=AccuracyOnly"], "RUN_ARGS: unknown flag --mode\n  that is --test_mode here"),
        (["--benchmarks=all,digit"], "RUN_ARGS: unknown benchmark 'digit'\n  did you mean digits?"),
        (["--system="], "RUN_ARGS: --system: is empty\n  leave it out, or name a system"),
        (["--scenarios=,"], "RUN_ARGS: --scenarios: is empty\n  give a comma list of scenarios"),
        (["digits"], "RUN_ARGS: 'digits' is no flag\n  flags look like --name=value"),
        (["-v"], "RUN_ARGS: '-v' is no flag\n  flags look like --name=value"),
        (["--", "x"], "RUN_ARGS: '--' is no flag\n  flags look like --name=value"),
        (["--a\x1b[31m\nb"], r"RUN_ARGS: unknown flag '--a\x1b[31m\nb'"),
    ],
)
def test_a_mistake_says_what_is_wrong_and_what_is_near(argv: list[str], said: str) -> None:
    assert _mistakes(argv)[0].startswith(said)


def test_every_mistake_is_told_at_once() -> None:
    argv = split(
        "--engin=x --scenarios=Ofline,Server,Srver --batch_size=0 --min_duration=long word --force=3 --json --json"
    )
    assert len(_mistakes(argv)) == 8


def test_an_open_quote_is_told() -> None:
    with pytest.raises(RequestError, match="RUN_ARGS: cannot be split into flags: no closing quotation"):
        split("--engine='openvino")


@given(st.lists(st.text(max_size=30) | st.sampled_from([f"--{name}" for name in flags()]), max_size=6))
def test_no_words_end_in_a_traceback(argv: list[str]) -> None:
    try:
        request = parse(argv)
    except EngineroomError as error:
        assert all(line.isprintable() for line in str(error).splitlines())
    else:
        assert isinstance(request, Request)


@given(st.text() | st.text(alphabet="-=,'\"\\ \n\tabdeginrst$;`()"))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    try:
        parse(split(text))
    except EngineroomError as error:
        assert error.code == 2


def test_bytes_that_are_no_text_are_refused() -> None:
    """A byte that is not UTF-8 arrives from the environment as a lone surrogate."""
    for flag in ("batch_size", "server_target_qps", "engine", "calibrator", "pin_workers", "precision", "scenarios"):
        assert all(line.isprintable() for line in _mistakes([f"--{flag}=\udcff"])[0].splitlines())
    assert all(line.isprintable() for line in _mistakes(["--\udcff"])[0].splitlines())


def test_very_long_words_earn_short_messages() -> None:
    long = "x" * 100_000
    for argv in (
        [long],
        [f"--{long}"],
        [f"--engine={long}"],
        [f"--scenarios={long}"],
        [f"--batch_size={'9' * 100_000}"],
    ):
        assert len(_mistakes(argv)[0]) < 1000


def test_every_setting_but_the_runs_identity_is_a_flag_with_a_meaning() -> None:
    known = flags()
    assert set(fields.names()) - set(known) == {"benchmark", "scenario"}
    assert all(known.values())
    assert "[us]" in known["queue_delay_us"]


def test_options_of_other_tasks() -> None:
    known = {"force": "make it again", "extra=NAME": "what to add"}
    assert options(["--force", "--extra", "train"], known) == {"force": None, "extra": "train"}
    with pytest.raises(Mistakes) as caught:
        options(["--force=1", "--extra", "--extr=a", "--force"], known)
    assert str(caught.value).splitlines() == [
        "RUN_ARGS: --force: takes no value",
        "RUN_ARGS: --extra: needs a value: --extra=NAME",
        "RUN_ARGS: unknown flag --extr",
        "  did you mean --extra?",
        "RUN_ARGS: --force: is given twice",
    ]


def test_help_of_other_tasks_shows_their_flags() -> None:
    known = {"force": "make it again"}
    for argv in (["--help"], ["--nonsense", "--help"], ["--help=true"]):
        with pytest.raises(Help) as caught:
            options(argv, known)
        assert caught.value.flags == known


@pytest.mark.parametrize(
    ("argv", "value"),
    [(["--pin_workers"], "true"), (["--pin-workers", "--force"], "true"), (["--pin_workers", "false"], "false")],
)
def test_a_setting_that_is_true_or_false_is_a_switch_too(argv: list[str], value: str) -> None:
    assert parse(argv).overrides == {"pin_workers": value}


@pytest.mark.parametrize(
    "flag", ["--power_server=2", "--gpu_clock=1", "--benchmarks=llama2-70b", "--benchmarks=3D-UNet"]
)
def test_what_mlperf_has_and_this_version_not_is_said(flag: str) -> None:
    (said,) = _mistakes([flag])
    assert said.endswith(" is not in this version of Engineroom\n  see README, Scope")


def test_nothing_reaches_a_shell(tmp_path: Path) -> None:
    """Through the front door: what a shell would execute is only ever a wrong value."""
    trap = tmp_path / "trap"
    attack = (
        f"--engine='$(touch {trap})' --calibrator='`touch {trap}`' "
        f"--precision=';touch {trap};' --scenarios='|touch {trap}'"
    )
    environment = {**os.environ, "RUN_ARGS": attack, "PYTHONPATH": str(ROOT / "code")}
    command = [sys.executable, "-m", "invoke", "run_harness"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert not trap.exists()
    assert done.stderr.count("touch") == 4
    assert done.stderr.splitlines()[-1] == "exit code 2"
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("argv", "overrides", "note"),
    [
        (["--gpu_batch_size=64"], {"batch_size": "64"}, "--gpu_batch_size is --batch_size here"),
        (["--deque-timeout-usec", "0"], {"queue_delay_us": "0"}, "--deque_timeout_usec is --queue_delay_us here"),
        (["--fast", "--json"], {}, "--fast is --test_run here: a short run"),
        (["--config_ver=Default"], {}, "--config_ver=Default: that is what Engineroom does in any case"),
        (["--harness_type", "lwis"], {}, "--harness_type=lwis: the native harness always runs"),
        (["--accuracy_target=.99"], {}, "--accuracy_target=.99: that is what Engineroom does in any case"),
        (["--power_setting=MaxP"], {}, "--power_setting=MaxP: that is what Engineroom does in any case"),
    ],
)
def test_nvidias_flags_are_taken_and_say_for_what(argv: list[str], overrides: dict[str, str], note: str) -> None:
    found = parse(argv)
    assert found.overrides == overrides
    (said,) = found.notes
    assert said.startswith(note)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config_ver=maxq", "RUN_ARGS: --config_ver=maxq: power runs (PTDaemon, MaxQ) are not in this version"),
        (
            "--config_ver=high_acuracy",
            "RUN_ARGS: --config_ver=high_acuracy means nothing here\n  did you mean high_accuracy?",
        ),
        ("--harness_type=triton", "RUN_ARGS: --harness_type=triton: Triton is not in this version"),
        ("--accuracy_target=.999", "RUN_ARGS: --accuracy_target=.999: MLPerf's higher accuracy target is a benchmark"),
        ("--fast=3", "RUN_ARGS: --fast=3 means nothing here\n  leave the value out"),
        ("--config_ver", "RUN_ARGS: --config_ver means nothing here"),
        ("--action=run_harness", "RUN_ARGS: --action=run_harness: the action is the target: make run_harness"),
        ("--gpu_batch_size=0", "RUN_ARGS: --batch_size: is '0', must be a whole number >= 1"),
        (
            "--audit_test=TEST01",
            "RUN_ARGS: --audit_test=TEST01: audits have targets of their own: make run_audit_harness",
        ),
        ("--power_setting", "RUN_ARGS: --power_setting means nothing here"),
        ("--main_benchmark=x", "RUN_ARGS: --main_benchmark is not in this version"),
        ("--background_benchmarks=all", "RUN_ARGS: --background_benchmarks is not in this version"),
        ("--system_name=", "RUN_ARGS: --system: is empty\n  leave it out, or name a system"),
        ("--confg_ver=default", "RUN_ARGS: unknown flag --confg_ver\n  did you mean --config_ver?"),
    ],
)
def test_what_nvidias_flags_cannot_mean_here_is_refused(flag: str, said: str) -> None:
    (mistake,) = _mistakes([flag])
    assert mistake.startswith(said)


def test_nvidias_name_and_ours_together_are_a_mistake() -> None:
    assert _mistakes(["--gpu_batch_size=1", "--batch_size=2"]) == [
        "RUN_ARGS: --batch_size: is given twice\n  --gpu_batch_size and --batch_size say the same thing: leave one out"
    ]
    (said,) = _mistakes(["--test_run", "--fast"])
    assert said.endswith("  --test_run and --fast say the same thing: leave one out")


def test_the_environment_sets_fields_and_is_read_as_strictly() -> None:
    environ = {"ENGINEROOM_BATCH_SIZE": "64", "ENGINEROOM_ENGINE": "", "ENGINEROOM_PATH": "/x", "PATH": "/bin"}
    assert parse([], environ).environment == {"batch_size": "64"}
    with pytest.raises(Mistakes) as caught:
        parse([], {"ENGINEROOM_BATCH_SISE": "1", "ENGINEROOM_INSTANCES": "none", "ENGINEROOM_SYSTEM": "H200x8"})
    assert str(caught.value).splitlines() == [
        "environment: unknown variable ENGINEROOM_BATCH_SISE",
        "  did you mean ENGINEROOM_BATCH_SIZE?",
        "environment: unknown variable ENGINEROOM_SYSTEM",
        "  only a flag says that: --system",
        "ENGINEROOM_INSTANCES: is 'none', must be a whole number",
    ]
