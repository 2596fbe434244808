"""What stands beside a result: measurements, user.conf and README.md."""

from __future__ import annotations

from faults import Faults, Sound

FAULTS = Faults()
add, bytes_of = FAULTS.add, FAULTS.bytes_of


for name in (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
):
    add(
        f"measurements: without {name}",
        lambda sound, n=name: sound.json(sound.measured, **{n: ...}),
        "measurements-field",
    )
    add(
        f"measurements: empty {name}", lambda sound, n=name: sound.json(sound.measured, **{n: ""}), "measurements-field"
    )
add(
    "measurements: a number",
    lambda sound: sound.json(sound.measured, weight_data_types=8),
    "measurements-type",
    doubtful=True,
)
add(
    "measurements: unusual",
    lambda sound: sound.json(sound.measured, weight_data_types="int7"),
    "measurements-unusual",
    doubtful=True,
)
add("measurements: retrained", lambda sound: sound.json(sound.measured, retraining="yes"), "measurements-retrained")
add("measurements: gone", lambda sound: sound.remove(sound.measured), "tree-missing-file")
bytes_of("measurements: broken", lambda sound: sound.measured, lambda data: data[:-1], "json-broken")
bytes_of("measurements: a list", lambda sound: sound.measured, lambda data: b"[1]", "json-broken")
bytes_of("measurements: empty", lambda sound: sound.measured, lambda data: b"", "tree-empty-file")
bytes_of(
    "measurements: a key twice",
    lambda sound: sound.measured,
    lambda data: data.replace(b"{", b'{"retraining": "no",', 1),
    "json-repeated-key",
)
CONF = {
    "unknown key": ("resnet50.SingleStream.target_latencies = 5", "user-conf-unknown-key"),
    "seed": ("*.*.qsl_rng_seed = 5", "user-conf-unknown-key"),
    "percentile": ("*.SingleStream.target_latency_percentile = 50", "user-conf-open-key"),
    "samples per query": ("*.SingleStream.samples_per_query = 4", "user-conf-open-key"),
    "no number": ("resnet50.SingleStream.target_latency = fast", "user-conf-value"),
    "negative": ("resnet50.SingleStream.max_duration = -4", "user-conf-value"),
    "no key": ("target_latency = 5", "user-conf-line"),
    "no value": ("resnet50.SingleStream.target_latency =", "user-conf-line"),
    "no scenario": ("resnet50.SinglStream.target_latency = 4", "user-conf-line"),
    "twice": ("resnet50.SingleStream.target_latency = 4", "user-conf-repeated"),
    "another duration": ("resnet50.SingleStream.max_duration = 660000", "user-conf-not-used"),
}
for name, (line, rule) in CONF.items():
    bytes_of(
        f"user.conf: {name}",
        lambda sound: f"{sound.beside}/user.conf",
        lambda data, n=line: data + n.encode() + b"\n",
        rule,
    )
bytes_of(
    "user.conf: another number of queries",
    lambda sound: f"{sound.beside}/user.conf",
    lambda data: data + b"resnet50.SingleStream.min_query_count = 5\n",
    "user-conf-not-tuned",
    doubtful=True,
)


def another_rate(sound: Sound) -> None:
    sound.scenario = "Offline"
    sound.replace(f"{sound.beside}/user.conf", "target_qps = 100", "target_qps = 90")


add("user.conf: another rate", another_rate, "user-conf-not-tuned", doubtful=True)
bytes_of("user.conf: empty", lambda sound: f"{sound.beside}/user.conf", lambda data: b"", "tree-empty-file")
bytes_of(
    "user.conf: of another scenario",
    lambda sound: f"{sound.beside}/user.conf",
    lambda data: data.replace(b"SingleStream", b"Offline"),
    "user-conf-other",
)
bytes_of(
    "user.conf: of another model",
    lambda sound: f"{sound.beside}/user.conf",
    lambda data: data.replace(b"resnet50", b"bert"),
    "user-conf-other",
)
bytes_of("user.conf: binary", lambda sound: f"{sound.beside}/user.conf", lambda data: b"\xff\xfe" + data, "log-binary")
bytes_of("README.md: empty", lambda sound: f"{sound.beside}/README.md", lambda data: b"", "tree-empty-file")
bytes_of("README.md: blank", lambda sound: f"{sound.beside}/README.md", lambda data: b" \n\n", "readme-blank")
