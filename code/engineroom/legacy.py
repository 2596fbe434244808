"""What users of NVIDIA's closed-division code type and write, and what it is here.

bootstrap.py reads TARGETS before there is a venv, so nothing of ours is imported, and an old Python can read it.
"""

from typing import Dict, Optional, Tuple  # noqa: F401  (in comments: an old Python has no annotations of variables)

# NVIDIA's names of settings that are fields here under another name, in the same unit.
FIELDS = {
    "gpu_batch_size": "batch_size",
    "deque_timeout_usec": "queue_delay_us",
    "performance_sample_count_override": "performance_sample_count",
    "system_name": "system",
    "workspace_size": "workspace_bytes",
}

_NO_POWER = "power runs (PTDaemon, MaxQ) are not in this version of Engineroom"
_NO_TRITON = "Triton is not in this version of Engineroom: the native harness runs"
_AUDITS = "audits have targets of their own: make run_audit_harness, run_audit_test01, run_audit_test04"
_NO_AUDIT = "this audit is not in this version of Engineroom, which has TEST01 and TEST04"
_NO_HETERO = "heterogeneous MIG runs are not in this version of Engineroom"
_HIGHER = "MLPerf's higher accuracy target is a benchmark of its own (bert-99.9): name it in --benchmarks"
_AS_ALWAYS = "that is what Engineroom does in any case"

# NVIDIA's flags that are no settings here: for each value (lower case; "*": any, "": none) the flags that it stands
# for, or None if it cannot be served, and the words to say.
FLAGS = {  # type: Dict[str, Dict[str, Tuple[Optional[Tuple[str, ...]], str]]]
    "config_ver": {
        "default": ((), _AS_ALWAYS),
        "high_accuracy": (None, _HIGHER),
        "triton": (None, _NO_TRITON),
        "high_accuracy_triton": (None, _NO_TRITON),
        "hetero": (None, _NO_HETERO),
        "maxq": (None, _NO_POWER),
    },
    "harness_type": {
        "auto": ((), _AS_ALWAYS),
        "lwis": ((), "the native harness always runs"),
        "custom": ((), "the native harness always runs"),
        "triton": (None, _NO_TRITON),
        "hetero": (None, _NO_HETERO),
    },
    "accuracy_target": {".99": ((), _AS_ALWAYS), "0.99": ((), _AS_ALWAYS), "*": (None, _HIGHER)},
    "power_setting": {"maxp": ((), _AS_ALWAYS), "*": (None, _NO_POWER)},
    "power_limit": {"*": (None, _NO_POWER)},
    "fast": {"": (("--test_run",), "a short run")},
    "force_calibration": {"": (("--force",), "with make calibrate")},
    "gpu_only": {"": ((), "nothing here runs on a DLA; --engine says where it runs")},
    "dryrun": {"": (("--plan",), "it says what would be done, and does nothing")},
    "action": {"*": (None, "the action is the target: make run_harness, make generate_engines, ...")},
    "audit_test": {"*": (None, _AUDITS)},
    "no_audit_verify": {"": (None, "an audit is verified as part of its run")},
    "log_dir": {"*": (None, "every run has a folder of its own in build/runs")},
    "numa_config": {
        "*": (None, "workers run near their GPU unasked; --cpus=0-3,8 names CPUs, --pin_workers gives each its own")
    },
    "input_dtype": {"*": (None, "follows from the benchmark and --precision")},
    "input_format": {"*": (None, "follows from the model")},
    "gpu_inference_streams": {"*": (None, "counts for each GPU; --instances counts for the whole machine")},
    "dla_batch_size": {"*": (None, "no engine here runs on a DLA")},
}

_NO_DOCKER = "nothing here needs Docker: make run_harness sets up build/venv by itself"

# NVIDIA's targets that are none here, with what to do instead.
TARGETS = {
    "run_harness_power": _NO_POWER,
    "build_plugins": "there are no plug-ins of TensorRT to compile: make build compiles LoadGen and the harness",
    "build_triton": _NO_TRITON,
    "generate_conf_files": "make run_harness renders user.conf for each run, into the run's own folder (recipe/)",
    "link_dirs": "there is nothing to link: everything generated lies in build/",
    "prebuild": _NO_DOCKER,
    "build_docker": _NO_DOCKER,
    "attach_docker": _NO_DOCKER,
    "launch_docker": _NO_DOCKER,
    "docker_add_user": _NO_DOCKER,
    "configure_mig": "Engineroom does not change MIG: set it up with nvidia-smi mig; make info shows the slices",
    "teardown_mig": "Engineroom does not change MIG: take it down with nvidia-smi mig; make info shows the slices",
    "autotune": "tuning is not in this version of Engineroom: give settings as flags or in configs/<system>/",
    "copy_profiles": "there are no profiles to copy",
    "run_audit_test06": _NO_AUDIT,
    "run_audit_test07": _NO_AUDIT,
    "run_audit_test08": _NO_AUDIT,
    "run_audit_test09": _NO_AUDIT,
    "run_audit_verification": "make run_audit_harness verifies each audit as part of its run",
    "stage_compliance": "make stage_results stages the audits with the results that they belong to",
}
