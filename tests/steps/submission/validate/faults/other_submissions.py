"""What only other submissions have: other divisions, language models, systems of two categories."""

from __future__ import annotations

from faults import Faults, Sound

FAULTS = Faults()
add = FAULTS.add


def log_of(place: str) -> str:
    return f"{place}/performance/run_1/mlperf_log_detail.txt"


def summary_of(place: str) -> str:
    return f"{place}/performance/run_1/mlperf_log_summary.txt"


RACK, BOTH = "closed/Acme/results/rack/llama2-70b-99.9", "closed/Acme/results/both/stable-diffusion-xl"
FAR, MAPPED = "network/Acme/results/far/rgat/Offline", "open/Acme/results/mapped/own-net"
TTFT, TPOT = "result_first_token_99.00_percentile_latency_ns", "result_time_per_output_token_99.00_percentile_ns"
for scenario in ("Server", "Interactive"):
    for key in (TTFT, TPOT):
        add(
            f"{scenario}: {key}",
            lambda sound, s=scenario, k=key: sound.set(log_of(f"{RACK}/{s}"), k, 10**10),
            "token-latency",
        )
add(
    "no token latencies",
    lambda sound: sound.set(log_of(f"{RACK}/Server"), "requested_use_token_latencies", False),
    "token-latency",
)
add(
    "no token latencies in Offline",
    lambda sound: sound.set(log_of(f"{RACK}/Offline"), "requested_use_token_latencies", False),
    "token-latency",
)


def late_in_lower_case(sound: Sound) -> None:
    sound.set(log_of(f"{RACK}/Server"), TTFT, 10**10)
    sound.move(f"{RACK}/Server", f"{RACK}/server")
    for file in [name for name in sound.files if "/rack/llama2-70b-99.9/Server" in name]:  # up to v5.1
        sound.move(file, file.replace("/Server", "/server"))


add("late, in a folder in lower case", late_in_lower_case, "token-latency")
add(
    "Server's limits for Interactive",
    lambda sound: sound.swap_folders(f"{RACK}/Server", f"{RACK}/Offline"),
    "scenario-inferred",
)
add(
    "Server: no metric",
    lambda sound: sound.set(log_of(f"{RACK}/Server"), "result_completed_tokens_per_second", 0),
    "metric",
)
add("no Offline", lambda sound: sound.remove(f"{RACK}/Offline"), "scenario-missing")
add(
    "latency over its limit",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_99.00_percentile_latency_ns", 10**11),
    "latency-limit",
)
add(
    "another limit",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "effective_target_latency_ns", 10**11),
    "latency-limit",
)
add(
    "too many late",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_overlatency_query_count", 5000),
    "latency-limit",
)
add(
    "completed more than scheduled",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_completed_samples_per_sec", 500.0),
    "figures",
)
add(
    "late constraints",
    lambda sound: sound.set(log_of(f"{BOTH}/Server"), "result_perf_constraints_met", False),
    "validity",
)
add("no SUT in the network", lambda sound: sound.set(log_of(FAR), "sut_name", "near"), "network-sut-name")
add(
    "system not in the network",
    lambda sound: sound.json("network/Acme/systems/far.json", is_network="false"),
    "network-division",
)
add(
    "network without its fields",
    lambda sound: sound.json("network/Acme/systems/far.json", network_type=...),
    "network-division",
)
add(
    "mapping to nothing",
    lambda sound: sound.json("open/Acme/model_mapping.json", **{"own-net": "own"}),
    "model-mapping",
)
add(
    "mapping to a name that the checkers do not take",
    lambda sound: sound.json("open/Acme/model_mapping.json", **{"own-net": "resnet50"}),
    "model-mapping",
)


def one_run_for_two_models(sound: Sound) -> None:
    twins = {name.replace("own-net", "other-net"): data for name, data in sound.files.items() if "own-net" in name}
    sound.files.update(twins)
    sound.json("open/Acme/model_mapping.json", **{"other-net": "resnet"})


add(
    "a fixed latency too long for tokens",
    lambda sound: sound.set(log_of(f"{RACK}/Server"), "effective_target_latency_ns", 10**12),
    "latency-limit",
)
add("a run for two models", one_run_for_two_models, "result-duplicate")
add("mapping gone", lambda sound: sound.remove("open/Acme/model_mapping.json"), "benchmark-unknown")
add("mapping broken", lambda sound: sound.replace("open/Acme/model_mapping.json", "}", ""), "json-broken")
add(
    "inferred in the datacenter",
    lambda sound: sound.json("open/Acme/systems/mapped.json", system_type="datacenter"),
    "scenario-inferred",
)
add(
    "inferred from nothing",
    lambda sound: sound.set(log_of(f"{MAPPED}/MultiStream"), "early_stopping_latency_ms", 0),
    "metric",
)
add(
    "data set of another size",
    lambda sound: sound.set(f"{MAPPED}/Offline/accuracy/mlperf_log_detail.txt", "qsl_reported_total_count", 7),
    "accuracy-samples",
)
for before in ("First token check pass: True", "EOS check pass: True", "Sample length check pass: True"):
    add(
        f"TEST06: {before}",
        lambda sound, b=before: sound.replace(
            sound.of(f"{RACK}/Offline", "TEST06/verify_accuracy.txt"), b, b.replace("True", "False")
        ),
        "audit-verdict",
    )
add(
    "score below its target",
    lambda sound: sound.replace(f"{RACK}/Offline/accuracy/accuracy.txt", "rouge1:4", "rouge1:3"),
    "accuracy-target",
)
add(
    "score above its target",
    lambda sound: sound.replace(f"{BOTH}/Offline/accuracy/accuracy.txt", "CLIP_SCORE:3", "CLIP_SCORE:4"),
    "accuracy-target",
)
add(
    "one score of several",
    lambda sound: sound.replace(f"{RACK}/Offline/accuracy/accuracy.txt", "rouge2", "rouge"),
    "accuracy-missing",
)
add(
    "results of two benchmarks swapped",
    lambda sound: sound.swap_folders(f"{RACK}/Offline", f"{BOTH}/Offline"),
    "accuracy-samples",
)
# What only some tests say in their summaries
CONSTRAINTS, TOKENS = "  Performance constraints satisfied : Yes\n", "okens per second"
SUMMARIES = {
    "constraints not met": (f"{BOTH}/Server", "constraints satisfied : Yes", "constraints satisfied : NO"),
    "no word about constraints": (f"{BOTH}/Server", CONSTRAINTS, ""),
    "constraints where there are none": (f"{BOTH}/Offline", "  Min dur", f"{CONSTRAINTS}  Min dur"),
    "other tokens": (f"{RACK}/Server", f"{TOKENS}: 2", f"{TOKENS}: 3"),
    "other tokens the second time": (f"{RACK}/Server", f"{TOKENS}                 : 2", f"{TOKENS}  : 3"),
    "other tokens in Offline": (f"{RACK}/Offline", f"{TOKENS}: 3", f"{TOKENS}: 4"),
    "inferred tokens": (f"{RACK}/Offline", f"T{TOKENS}: ", f"T{TOKENS} (inferred): 5\nT{TOKENS}: "),
    "another time per token": (f"{RACK}/Server", "Token (ns)                : 11000000", "Token (ns) : 12000000"),
}
for name, (place, old, new) in SUMMARIES.items():
    rule = "summary-differs" if new else "summary-cut"
    add(f"summary: {name}", lambda sound, p=place, o=old, n=new: sound.replace(summary_of(p), o, n), rule)
