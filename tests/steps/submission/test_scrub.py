"""What must not be published is found and replaced, and what only looks like it is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.actions import submission as action
from engineroom.errors import Mistakes
from engineroom.steps.submission.scrub import Kind, Of, Private, Scrubber, scrub
from engineroom.terms import Scenario, TestMode

if TYPE_CHECKING:
    from conftest import Runs

PRIVATE = Private("jdoe", "/home/jdoe", ("crunch7.acme.example", "crunch7"), "/home/jdoe/engineroom")
AWS = "AKIA" + "IOSFODNN7EXAMPLE"  # in two parts, so that no scanner takes this file for a leak
GITHUB = "ghp_" + "a1B2" * 9


def found(text: str, of: Of = Of.DOCUMENT) -> list[tuple[Kind, str]]:
    return [(hit.kind, hit.value) for hit in Scrubber(PRIVATE).hits(text, of)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("model: /home/jdoe/engineroom/build/m.onnx", Kind.PATH, "/home/jdoe/engineroom/build/m.onnx"),
        ("--model_path=/home/alice/m.onnx", Kind.PATH, "/home/alice/m.onnx"),
        ("from /scratch/team/m.onnx on", Kind.PATH, "/scratch/team/m.onnx"),
        ("run by jdoe on Monday", Kind.USER, "jdoe"),
        ("on crunch7:", Kind.HOST, "crunch7"),
        ("at crunch7.acme.example", Kind.HOST, "crunch7.acme.example"),
        ("node12.cluster.local", Kind.HOST, "node12.cluster.local"),
        ("on ip-10-20-30-40.ec2", Kind.HOST, "ip-10-20-30-40.ec2"),
        ("http://10.20.30.40/x", Kind.ADDRESS, "10.20.30.40"),
        ('"host_ip": "192.168.1.7"', Kind.ADDRESS, "192.168.1.7"),
        ("listening on 172.16.0.9:8000", Kind.ADDRESS, "172.16.0.9"),
        ("ssh 203.0.113.9", Kind.ADDRESS, "203.0.113.9"),
        ("inet6 fe80:0:0:0:1c2b:3d4e:5f60:7182 up", Kind.ADDRESS, "fe80:0:0:0:1c2b:3d4e:5f60:7182"),
        ("link 2001:db8::8a2e:370:7334 up", Kind.ADDRESS, "2001:db8::8a2e:370:7334"),
        ("eth0 52:54:00:12:34:56", Kind.ADDRESS, "52:54:00:12:34:56"),
        (f"key {AWS}", Kind.KEY, AWS),
        (f"token {GITHUB}", Kind.KEY, GITHUB),
        ("-----BEGIN RSA PRIVATE KEY-----", Kind.KEY, "-----BEGIN RSA PRIVATE KEY-----"),
        ("https://bob:s3cretword@git.example/x", Kind.KEY, "bob:s3cretword"),
        ('password = "hunter2hunter2"', Kind.KEY, 'password = "hunter2hunter2'),
    ],
)
def test_what_is_private_is_found(text: str, kind: Kind, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "TensorRT 10.8.0.43, CUDA 12.4, driver 550.54.15",
        '"loadgen_version": "5.1.0 @ 3cebd5ee48", "version": "10.3.0.26"',
        "nvidia-cublas-cu12==12.1.3.1",
        "nvidia_cudnn-9.1.0.70-py3-none-manylinux.whl",
        "OpenVINO 2026.1.0.20123",
        "v1.2.3.4 and v10.0.0.1",
        "bound to 127.0.0.1:8000 and 0.0.0.0",
        "section 1.2.3.4.5",
        '{"/.clang-format":"012aad77e5206c89d50718c46c119d1f3cb056b2","/docs/src/README.md":"e85013"}',
        "| `/layer1/layer1.0/conv1/Conv_output_0` | -1.5 | 2.5 |",
        "std::vector<int> a::b::c; 12:34:56",
        "in /usr/lib/python3 and /proc/cpuinfo",
        "jdoester and crunch77",
        "token = tokenizer.next(); secret_sharing = True",
        ":::MLLOG mlperf::logging",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_name_that_says_nothing_of_anybody_is_left_alone() -> None:
    scrubber = Scrubber(Private("root", "/root", ("localhost",), "/root/engineroom"))
    assert [hit.value for hit in scrubber.hits("root runs on localhost, in /root/engineroom", Of.DOCUMENT)] == [
        "/root/engineroom"
    ]


def test_the_same_thing_has_the_same_placeholder_everywhere_and_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("jdoe on crunch7\n")
    (tmp_path / "b.json").write_text('{"who": "jdoe", "from": "10.1.2.3"}\n')
    scrubber = Scrubber(PRIVATE)
    told = scrub(tmp_path, tmp_path / "src", scrubber)
    assert [(each.path, each.line, each.value, each.placeholder) for each in told] == [
        ("a.md", 1, "jdoe", "<user-1>"),
        ("a.md", 1, "crunch7", "<host-1>"),
        ("b.json", 1, "jdoe", "<user-1>"),
        ("b.json", 1, "10.1.2.3", "<address-1>"),
    ]
    assert (tmp_path / "b.json").read_text() == '{"who": "<user-1>", "from": "<address-1>"}\n'
    assert scrub(tmp_path, tmp_path / "src", scrubber) == []
    (tmp_path / "c.md").write_text("10.9.9.9 and 10.1.2.3, from jdoe\n")
    again = Scrubber(PRIVATE, placeholders=dict(scrubber.placeholders))
    scrub(tmp_path, tmp_path / "src", again)
    assert (tmp_path / "c.md").read_text() == "<address-2> and <address-1>, from <user-1>\n"


def test_what_may_be_published_is_said_by_a_word() -> None:
    assert Scrubber(PRIVATE, frozenset({"crunch7"})).hits("on crunch7", Of.DOCUMENT) == []


def test_logs_and_code_are_never_changed(tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_detail.txt").write_text("made on crunch7\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(f"KEY = '{AWS}'  # jdoe is a word here\n")
    told = scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    assert [(each.kind, each.value, each.placeholder) for each in told] == [
        (Kind.HOST, "crunch7", ""),
        (Kind.KEY, AWS, ""),
    ]
    assert (tmp_path / "mlperf_log_detail.txt").read_text() == "made on crunch7\n"


def test_a_submission_is_cleaned_or_refused(made: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = ["--submitter=Acme", "--division=open", "--benchmarks=resnet50"]
    conf = {"recipe/user.conf": "# by jdoe\nresnet50.SingleStream.min_duration = 600000\n"}
    made.add(Scenario.SINGLE_STREAM, text=conf)
    made.add(Scenario.SINGLE_STREAM, TestMode.ACCURACY_ONLY)
    action.stage_results(who)
    staged = tmp_path / "submission/v6.1/open/Acme/results/bench/resnet50/SingleStream"
    assert (staged / "user.conf").read_text().startswith("# by <user-1>\n")
    assert "replaced jdoe by <user-1>" in capsys.readouterr().out
    made.add(Scenario.SINGLE_STREAM, log={"sut_name": "crunch7", "early_stopping_latency_ss": 1_000_000})
    with pytest.raises(Mistakes, match=r"mlperf_log_detail.txt:2: holds a host: crunch7(.|\n)*must not be published"):
        action.stage_results(who)
    assert action.stage_results([*who, "--public=crunch7"]) == 0
