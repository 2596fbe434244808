"""What must not be published is found and replaced, and what only looks like it is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.actions import submission as action
from engineroom.errors import Mistakes
from engineroom.paths import ROOT
from engineroom.steps.submission import stage
from engineroom.steps.submission.privacy import Kind, Of, Private
from engineroom.steps.submission.scrub import Scrubber, scrub
from engineroom.terms import Scenario, TestMode

if TYPE_CHECKING:
    from conftest import Runs

PRIVATE = Private("jdoe", "/home/jdoe", ("crunch7.acme.example", "crunch7"), "/home/jdoe/engineroom")
AWS = "AKIA" + "IOSFODNN7EXAMPLE"  # in two parts, so that no scanner takes this file for a leak
GITHUB = "ghp_" + "a1B2" * 9
DOCKER = "dckr_pat_" + "a1B2" * 7
RANDOM = "q7Xw" * 6
SECRET = "wJal/rXUt" + "K7MDENG+bPxRfi" * 2
PEM = "-----BEGIN PRIVATE " + "KEY-----\nMIIB+a1/=\n-----END PRIVATE KEY-----"


def found(text: str, of: Of = Of.DOCUMENT) -> list[tuple[Kind, str]]:
    return [(hit.kind, hit.value) for hit in Scrubber(PRIVATE).hits(text, of)]


FOUND = [
    # paths
    ("model: /home/jdoe/engineroom/build/m.onnx", Kind.PATH, "/home/jdoe/engineroom/build/m.onnx"),
    ("--model_path=/home/alice/m.onnx", Kind.PATH, "/home/alice/m.onnx"),
    ("../../home/alice/m.onnx", Kind.PATH, "/home/alice/m.onnx"),
    ("from /scratch/team/m.onnx on", Kind.PATH, "/scratch/team/m.onnx"),
    ("-v /opt/nvidia:/scratch/team", Kind.PATH, "/scratch/team"),
    ("file:///data/team/m.onnx", Kind.PATH, "/data/team/m.onnx"),
    ("in /opt/alice/models/m.onnx", Kind.PATH, "/opt/alice/models/m.onnx"),
    ("in /tmp/alice-work/m.onnx", Kind.PATH, "/tmp/alice-work/m.onnx"),
    ("in /var/tmp/m.onnx", Kind.PATH, "/var/tmp/m.onnx"),
    ("in /var/home/alice/m.onnx", Kind.PATH, "/var/home/alice/m.onnx"),
    ("in /run/user/1000/m.onnx", Kind.PATH, "/run/user/1000/m.onnx"),
    ("in /run/media/alice/disk", Kind.PATH, "/run/media/alice/disk"),
    ("in /mnt/c/Users/Alice/m.onnx", Kind.PATH, "/mnt/c/Users/Alice/m.onnx"),
    (r"in C:\Users\Alice\m.onnx", Kind.PATH, r"C:\Users\Alice\m.onnx"),
    (r'"path": "c:\\users\\alice\\m.onnx"', Kind.PATH, r"c:\\users\\alice\\m.onnx"),
    (r"in C:\Users\Jane Doe\m.onnx now", Kind.PATH, r"C:\Users\Jane Doe\m.onnx"),
    ("in D:/Users/Alice/m.onnx", Kind.PATH, "D:/Users/Alice/m.onnx"),
    ("in ~alice/models/m.onnx", Kind.PATH, "~alice/models/m.onnx"),
    (r"in \\nas7\models\alice now", Kind.PATH, r"\\nas7\models\alice"),
    (r'"path": "\\\\nas7\\models\\alice"', Kind.PATH, r"\\\\nas7\\models\\alice"),
    (r"--model_path=\\nas7.acme.example\share$\m.onnx", Kind.PATH, r"\\nas7.acme.example\share$\m.onnx"),
    # names
    ("run by jdoe on Monday", Kind.USER, "jdoe"),
    ("run by JDoe", Kind.USER, "JDoe"),
    ("try-jdoe_2", Kind.USER, "jdoe"),
    ("~jdoe", Kind.USER, "jdoe"),
    ("on crunch7:", Kind.HOST, "crunch7"),
    ("CRUNCH7-eth0 and crunch7_gpu", Kind.HOST, "CRUNCH7"),
    ("at crunch7.acme.example", Kind.HOST, "crunch7.acme.example"),
    ("at login2.acme.example", Kind.HOST, "login2.acme.example"),
    ("node12.cluster.local", Kind.HOST, "node12.cluster.local"),
    ("on nas.local", Kind.HOST, "nas.local"),
    ("fileserver.corp", Kind.HOST, "fileserver.corp"),
    ("http://buildbox:8000/x", Kind.HOST, "buildbox"),
    ("ssh -p 22 alice@login", Kind.HOST, "alice@login"),
    ("made on alice@buildbox, by hand", Kind.HOST, "alice@buildbox"),
    ("alice@buildbox:~/engineroom$ make test", Kind.HOST, "alice@buildbox"),
    ("[alice@login2 engineroom]$ make test", Kind.HOST, "alice@login2"),
    ("Alice Doe <alice@buildbox>", Kind.HOST, "alice@buildbox"),
    ("root@crunch9", Kind.HOST, "root@crunch9"),
    ("ssh://alice@buildbox/models", Kind.HOST, "alice@buildbox"),
    ("on ip-10-20-30-40.ec2", Kind.HOST, "ip-10-20-30-40.ec2"),
    ("ask Alice.Doe+x@mail.acme.example.", Kind.MAIL, "Alice.Doe+x@mail.acme.example"),
    # addresses
    ("http://10.20.30.40/x", Kind.ADDRESS, "10.20.30.40"),
    ('"host_ip": "192.168.1.7"', Kind.ADDRESS, "192.168.1.7"),
    ("listening on 172.16.0.9:8000", Kind.ADDRESS, "172.16.0.9"),
    ("box 192.168.1.7", Kind.ADDRESS, "192.168.1.7"),
    ("nodes: 10.1.2.3 and 10.1.2.4", Kind.ADDRESS, "10.1.2.4"),
    ("CUDA 12.4 on 10.1.2.3", Kind.ADDRESS, "10.1.2.3"),
    ("ssh 203.0.113.9", Kind.ADDRESS, "203.0.113.9"),
    ("::ffff:10.20.30.40", Kind.ADDRESS, "10.20.30.40"),
    ("inet6 fe80:0:0:0:1c2b:3d4e:5f60:7182 up", Kind.ADDRESS, "fe80:0:0:0:1c2b:3d4e:5f60:7182"),
    ("link 2001:db8::8a2e:370:7334 up", Kind.ADDRESS, "2001:db8::8a2e:370:7334"),
    ("link fe80::1%eth0 up", Kind.ADDRESS, "fe80::1%eth0"),
    ("is fe80::1c2b:3d4e:5f60:7182%enp3s0.", Kind.ADDRESS, "fe80::1c2b:3d4e:5f60:7182%enp3s0"),
    ("[fd12:3456::9]:8000", Kind.ADDRESS, "fd12:3456::9"),
    ("eth0 52:54:00:12:34:56", Kind.ADDRESS, "52:54:00:12:34:56"),
    # keys
    (f"key {AWS}", Kind.KEY, AWS),
    (f"token {GITHUB}", Kind.KEY, GITHUB),
    (f"docker login -p {DOCKER}", Kind.KEY, DOCKER),
    (f"Authorization: Bearer {RANDOM}", Kind.KEY, RANDOM),
    (f"-H 'authorization: bearer {RANDOM}'", Kind.KEY, RANDOM),
    ("Authorization: Basic amRvZTpwYXNz", Kind.KEY, "amRvZTpwYXNz"),
    (f"AWS_SECRET_ACCESS_KEY={SECRET}", Kind.KEY, SECRET),
    (f"export HF_TOKEN='{RANDOM}'", Kind.KEY, RANDOM),
    (f"token: {RANDOM}", Kind.KEY, RANDOM),
    (f'"accessToken": "{RANDOM}"', Kind.KEY, RANDOM),
    (f"--api-key {RANDOM}", Kind.KEY, RANDOM),
    ('password = "hunter2hunter2"', Kind.KEY, "hunter2hunter2"),
    ("Password: hunter2!", Kind.KEY, "hunter2!"),
    ("https://bob:s3cretword@git.example/x", Kind.KEY, "bob:s3cretword"),
    ("-----BEGIN RSA PRIVATE KEY-----", Kind.KEY, "-----BEGIN RSA PRIVATE KEY-----"),
    (f"{PEM} rest", Kind.KEY, PEM),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_what_is_private_is_found(text: str, kind: Kind, value: str) -> None:
    assert (kind, value) in found(text)


ORDINARY = [
    "TensorRT 10.8.0.43, CUDA 12.4, driver 550.54.15",
    '"loadgen_version": "5.1.0 @ 3cebd5ee48", "version": "10.3.0.26"',
    "nvidia-cublas-cu12==12.1.3.1",
    "TensorRT's own bindings, 10.16.1.11 and 11.4.0.106, and TensorRT\n10.8.0.43",
    "nvidia_cudnn-9.1.0.70-py3-none-manylinux.whl",
    "OpenVINO 2026.1.0.20123",
    "v1.2.3.4 and v10.0.0.1",
    "bound to 127.0.0.1:8000, 0.0.0.0, ::1 and http://localhost:8000/x",
    "section 1.2.3.4.5",
    "the private networks 192.168.0.0/16 and 10.0.0.0/8",
    '{"/.clang-format":"012aad77e5206c89d50718c46c119d1f3cb056b2","/docs/src/README.md":"e85013"}',
    "| `/layer1/layer1.0/conv1/Conv_output_0` | -1.5 | 2.5 |",
    "std::vector<int> a::b::c; c10::d x[1::2]; 12:34:56",
    "in /usr/lib/python3, /proc/cpuinfo, /opt/nvidia/nsight, /var/lib/docker/x, /var/log/syslog, /run/systemd/private",
    "jdoester and crunch77",
    "token = tokenizer.next(); secret_sharing = True; password = settings.key1; secret = load_secret1(x)",
    'tokens_per_sample: 294.45, "token_count" : 0, eos_token: 128009, "token_data": "0F1A2B3C4D5E6F"',
    "token: llama-3.1-8b",
    "private_key: /etc/ssl/key1.pem; access_key: ${KEY1}; token: <key-1>",
    "Authorization: required; the bearer of 20240101",
    ":::MLLOG mlperf::logging",
    ':::MLLOG {"key": "effective_sample_index_rng_seed", "value": 2747215439041700203, "time_ms": 0.002113}',
    '{ "seq_id" : 12, "qsl_idx" : 3, "data" : "0000803F0000803F", "token_count" : 0 },',
    "99.90 percentile latency (ns)   : 9238126978",
    "resnet50.SingleStream.min_duration = 600000",
    "accuracy=76.456%, good=38228, total=50000",
    "hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "import threading.local, google.protobuf.internal, settings.local.yaml, self.private(3)",
    "git@github.com:mlcommons/inference.git, https://github.com/a/b, resnet50@int8, torch@2.1.0, docker://ubuntu:22.04",
    "pkg@1.2, pkg@latest, torch@nightly, actions/checkout@v4, @scope/pkg@next, inference@b66003e1, x@sha256:0a1b2c",
    "@decorator, @pytest.mark.heavy, mAP@0.5, mAP@IoU, recall@top10, precision@k, a @ b, root@localhost, 700 W @ 2 GHz",
    "git@gitlab:group/project, ssh://git@github.com/mlcommons/inference, https://github.com/mlcommons/inference@main",
    r"stage\d+\.conv \bword\b, \\bword\\b, \\d+\\w+, \frac{a}{b}, a\\b, C:\\temp",
    "about ~5 ms, ~/models, ~=2.0, a~b/c, x:/y",
    "NVIDIA H100 80GB HBM3, 2x Intel(R) Xeon(R) Platinum 8592+, 8x 64 GB DDR5-5600, 400 Gb/s",
]


@pytest.mark.parametrize("text", ORDINARY)
@pytest.mark.parametrize("of", list(Of))
def test_what_only_looks_like_it_is_left_alone(text: str, of: Of) -> None:
    assert found(text, of) == []


@pytest.mark.parametrize("name", ["max", "count", "Target", "H100"])
def test_a_user_called_like_a_setting_breaks_no_setting(name: str) -> None:
    scrubber = Scrubber(Private(name, f"/home/{name}", (name,)))
    text = "resnet50.Server.max_query_count = 5, target_qps = 3, H100\n"
    assert scrubber.hits(text, Of.DOCUMENT) == []
    own = f"/home/{name}/x"
    assert scrubber.replaced(own, scrubber.hits(own, Of.DOCUMENT)) == "<path-1>"


def test_only_the_secret_of_a_line_is_replaced_so_that_it_can_still_be_parsed() -> None:
    scrubber = Scrubber(PRIVATE)
    text = json.dumps({"password": "hunter2hunter2", "by": "JDOE", "and": "jdoe"})
    done = scrubber.replaced(text, scrubber.hits(text, Of.DOCUMENT))
    assert json.loads(done) == {"password": "<key-1>", "by": "<user-1>", "and": "<user-1>"}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16"])
def test_a_file_in_another_encoding_is_looked_through_and_the_rest_of_it_stays(tmp_path: Path, encoding: str) -> None:
    text = "größer, von {} auf {}\r\n"
    (tmp_path / "a.md").write_bytes(text.format("jdoe", "crunch7").encode(encoding))
    (tmp_path / "b.md").write_bytes(text.format("x", "y").encode(encoding))
    scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    assert (tmp_path / "a.md").read_bytes() == text.format("<user-1>", "<host-1>").encode(encoding)
    assert (tmp_path / "b.md").read_bytes() == text.format("x", "y").encode(encoding)


def test_what_is_no_text_is_never_changed_and_told(tmp_path: Path) -> None:
    data = b"\x89PNG\0\xff by jdoe \0"
    (tmp_path / "a.png").write_bytes(data)
    told = scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    assert [(each.kind, each.placeholder) for each in told] == [(Kind.USER, "")]
    assert (tmp_path / "a.png").read_bytes() == data


def test_settings_among_the_sources_are_what_people_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "engineroom-1"
    for name in ("configs/bench/resnet50.yaml", "systems/bench.yaml", "code/engineroom/systems/files.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("model_path: /scratch/team/m.onnx  # ask jdoe\n")
    told = scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    assert {each.path.partition("/engineroom-1/")[2] for each in told} == {
        "configs/bench/resnet50.yaml",
        "systems/bench.yaml",
    }
    assert (folder / "systems/bench.yaml").read_text() == "model_path: <path-1>  # ask <user-1>\n"


def test_nothing_of_this_projects_own_settings_and_code_is_taken_for_private(tmp_path: Path) -> None:
    """Ordinary text by the hundred thousand lines: what every submission publishes in src/."""
    for name in ("configs", "systems", "code/engineroom"):
        shutil.copytree(ROOT / name, tmp_path / "src" / "engineroom-1" / name, ignore=shutil.ignore_patterns("*.pyc"))
    assert [str(each) for each in scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE), change=False)] == []


def test_a_key_is_not_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "verify_performance.txt").write_text(f"HF_TOKEN={RANDOM}\n")
    (told,) = scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    with pytest.raises(Mistakes) as raised:
        stage.refuse([told])
    assert RANDOM not in str(raised.value) and f"holds a key: {RANDOM[:4]}..." in str(raised.value)


def test_a_hosts_name_in_the_id_of_a_system_is_public() -> None:
    scrubber = Scrubber(PRIVATE, frozenset({"crunch7-h100"}))
    found = scrubber.hits("systems/crunch7-h100.json of Crunch7-H100 on crunch7", Of.DOCUMENT)
    assert [(hit.begin, hit.value) for hit in found] == [(45, "crunch7")]


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


def test_the_code_of_an_overlay_is_the_users_own_and_never_changed(tmp_path: Path) -> None:
    folder = tmp_path / "src/overlay-0123abc/engines"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("# by jdoe, ask Alice.Doe@mail.acme.example\n")
    told = scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE))
    assert {(each.kind, each.placeholder) for each in told} == {(Kind.USER, ""), (Kind.MAIL, "")}
    assert (folder / "mine.py").read_text().startswith("# by jdoe")
    assert (
        scrub(tmp_path, tmp_path / "src", Scrubber(PRIVATE, frozenset({"jdoe", "alice.doe@mail.acme.example"}))) == []
    )


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
    with pytest.raises(Mistakes, match=r"mlperf_log_detail.txt:9: holds a host: crunch7(.|\n)*must not be published"):
        action.stage_results(who)
    assert action.stage_results([*who, "--public=crunch7"]) == 0


def test_an_account_in_what_is_never_changed_is_one_only_beside_words_that_say_so() -> None:
    """A log that holds one refuses the submission; code that multiplies matrices does not."""
    assert found("built by alice@buildbox\nalice@login2:/scratch$ make", Of.LOG)[0] == (Kind.HOST, "alice@buildbox")
    assert (Kind.HOST, "alice@login2") in found("built by me\nalice@login2:~/x$ make", Of.LOG)
    assert found("scores = weights@inputs + bias@ones", Of.LOG) == []
