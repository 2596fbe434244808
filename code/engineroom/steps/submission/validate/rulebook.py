"""Every rule of the validator. docs/validator.md is made from this list; an id never changes its meaning.

Figures stand in the file of the round (code/engineroom/rounds/), each beside its source. Abbreviations in `source`:
`round` is that file and its section, `checker` MLCommons' submission checker, `policies` submission_rules.adoc, `rules`
inference_rules.adoc, `LoadGen` the file of its sources that writes what is looked at, `own` a rule of ours: what is
stated twice must agree, and a figure must be possible.
"""

from __future__ import annotations

from engineroom.steps.submission.validate.findings import Level, Rule

RULES: dict[str, Rule] = {}


def as_markdown() -> str:
    """Return the table of docs/validator.md."""
    rows = [
        f"| `{rule.id}` | {rule.level} | {_cell(rule.checks)} | {_cell(rule.source)} | {_cell(rule.mend)} |"
        for rule in RULES.values()
    ]
    return "\n".join(["| Rule | Level | What is checked | Source | To mend |", "|---|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


RUN_AGAIN = "run the test again and submit what LoadGen wrote, unchanged"
RESTORE = "put back the file that LoadGen wrote"
STAGE = "stage the result again from its runs"
AUDIT_AGAIN = "run the audit again, and its verification script on these logs"


def _rule(id: str, checks: str, source: str, mend: str, level: Level = Level.ERROR) -> Rule:
    assert id not in RULES
    RULES[id] = Rule(id=id, checks=checks, source=source, mend=mend, level=level)
    return RULES[id]


def _doubt(id: str, checks: str, source: str, mend: str) -> Rule:
    return _rule(id, checks, source, mend, Level.WARNING)


# The tree: names, kinds and places of files
LINK = _rule(
    "tree-link", "no file or folder is a link", "checker, repository_checks.sh", "replace the link by what it points to"
)
SPECIAL = _rule("tree-special", "everything is a plain file or a folder", "own", "remove it")
UNREADABLE = _rule(
    "tree-unreadable", "every file and folder can be read", "own", "mend its permissions: chmod -R u+rwX"
)
NAME = _rule(
    "tree-name",
    "no name begins with a dot, or holds a space, a control character or broken Unicode",
    "checker, repository_checks.sh",
    "rename it",
)
TOO_LARGE = _rule(
    "tree-large-file", "no file is larger than a repository takes", "round, limits", "leave it out, or cut it short"
)
TOO_DEEP = _rule(
    "tree-deep", "folders are nested less than 40 deep and hold less than a million files", "own", "remove it"
)
NO_RESULT = _rule(
    "tree-no-result",
    "the tree holds a division, a submitter and a result",
    "policies, Directory structure",
    "name the folder that holds closed, open or network",
)
FOREIGN = _rule(
    "tree-unknown-folder",
    "beside the divisions, and in a division, nothing else lies that looks like results",
    "policies, Directory structure",
    "move it to where it belongs, or leave it out",
)
UNKNOWN_ENTRY = _doubt(
    "tree-unknown-entry",
    "a submitter's folder holds what the layout names, and documents",
    "policies, Directory structure",
    "leave it out unless the results need it",
)
MISPLACED = _rule(
    "tree-misplaced",
    "logs, verdicts, measurements and settings lie where the layout has them",
    "round, layout",
    "move it to where it belongs, or leave it out",
)
UNEXPECTED = _rule(
    "tree-unexpected-file",
    "the folders of a result hold no other files than the layout names",
    "round, layout; checker, constants.py, REQUIRED_.. and OPTIONAL_..",
    "leave it out",
)
BESIDE = _doubt(
    "tree-extra-document",
    "beside the results lies nothing but what the layout names",
    "round, layout",
    "leave it out unless somebody needs it to reproduce the result",
)
MISSING = _rule("tree-missing-file", "every file that the layout asks for is there", "round, layout", STAGE)
EMPTY = _rule("tree-empty-file", "no file of a result is empty", "checker, checks/measurements_checks.py; own", STAGE)
LAYOUT = _rule(
    "tree-other-layout",
    "the folders are those of the round's layout",
    "round, layout",
    "move them to where the round has them, or name the round: --round=ROUND",
)
CODE = _rule("tree-code", "the sources are there", "checker, checks/measurements_checks.py; policies", "add them")
CALIBRATION = _rule(
    "tree-calibration", "calibration is documented, outside of the open division", "round, layout", "write it"
)
ROUND = _doubt("round-unclear", "the seeds in the logs tell the round", "round, seeds", "name the round: --round=ROUND")
REHEARSED = _rule("tree-rehearsal", "nothing of a rehearsal is submitted", "own", "stage real runs: make stage_results")

# Benchmarks and scenarios
BENCHMARK = _rule(
    "benchmark-unknown",
    "the round has the benchmark; the open division may map another name to one",
    "round, benchmarks; checker, get_mlperf_model",
    "rename its folders, or in the open division name the benchmark in model_mapping.json",
)
GUESSED = _doubt(
    "benchmark-guessed",
    "a model of another name is mapped to its benchmark",
    "checker, get_mlperf_model, which guesses",
    "name the benchmark in model_mapping.json",
)
MAPPING = _rule(
    "model-mapping",
    "model_mapping.json maps names of models to benchmarks of the round, as the checkers call them",
    "checker, get_mlperf_model; round, benchmarks",
    "write one JSON object: name of the folder to the checkers' name of the benchmark (of resnet50: resnet)",
)
SCENARIO = _rule(
    "scenario-unknown",
    "the benchmark has the scenario in the system's category",
    "round, benchmarks",
    "leave it out, or correct the name of the folder or system_type",
)
SCENARIO_MISSING = _rule(
    "scenario-missing",
    "every scenario that the category asks for is there, outside of the open division",
    "round, benchmarks",
    "run it, or move the benchmark to the open division",
)
SPELLED = _doubt(
    "scenario-spelled",
    "the folder of a scenario is spelled as the scenario",
    "policies, Directory structure; checker, SCENARIO_MAPPING",
    "rename it",
)
INFERRED = _rule(
    "scenario-inferred",
    "a log of another scenario stands only where the rules let the result follow from it",
    "round, inferred",
    "run the scenario itself",
)
ORPHAN = _rule(
    "result-orphan",
    "measurements and audits belong to a result",
    "round, layout; checker, check of all systems",
    "add the result, or leave them out",
)
DUPLICATE = _rule(
    "result-duplicate",
    "no run stands for two systems or two benchmarks",
    "own; rules, Definitions (result)",
    "submit each system's own runs",
)

# Descriptions of systems
SYSTEM_MISSING = _rule("system-missing", "every system with results is described", "round, layout", "write its JSON")
SYSTEM_UNUSED = _rule(
    "system-unused",
    "every system that is described has results",
    "checker, check of all systems; own",
    "add its results, or remove the description",
)
JSON = _rule("json-broken", "a JSON file is one complete object", "own", "write it again")
JSON_REPEATED = _rule("json-repeated-key", "no key stands twice in an object", "own", "keep one of them")
FIELD_MISSING = _rule("system-field-missing", "every field is there", "round, system_description", "add the field")
FIELD_EMPTY = _rule(
    "system-field-empty", "the fields that must say something do", "round, system_description", "fill it in"
)
FIELD_TYPE = _rule(
    "system-field-type", "a field is one text", "round, system_description", "write it in quotation marks"
)
FIELD_NUMBER_TYPE = _doubt(
    "system-field-number",
    "a field is a text, also where it is a number",
    "round, system_description",
    "write it in quotation marks",
)
FIELD_VALUE = _rule(
    "system-field-value",
    "division, status, category and counts are possible",
    "round, system_description; policies",
    "correct it",
)
FIELD_FOLDER = _rule(
    "system-field-folder",
    "division and submitter are those of the folders",
    "checker, checks/system_check.py",
    "correct the field or the folder",
)
FIELD_UNKNOWN = _doubt(
    "system-field-unknown", "a field is one that the round knows", "round, system_description", "correct or remove it"
)
ACCELERATORS = _rule(
    "system-accelerators",
    "accelerators_per_node and accelerator_model_name agree",
    "own; round, system_description",
    "say both, or N/A and 0",
)
NETWORK = _rule(
    "network-division",
    "is_network is true in the network division, with its fields, and not in the closed one",
    "checker, checks/system_check.py, network_check",
    "correct is_network or the division",
)
SUT_NAME = _rule(
    "network-sut-name",
    "the SUT's name says so in the network division",
    "round, system_description, network_sut_name",
    "name the SUT as the rules ask, and run again",
)
SUT_NAME_CLOSED = _doubt(
    "network-sut-closed",
    "the SUT's name speaks of no network in the closed division",
    "round, system_description, network_sut_name",
    "name the SUT otherwise, or submit to the network division",
)

# Measurements and settings
MEASURED = _rule(
    "measurements-field",
    "the fields of the measurements are there and say something",
    "round, measurements",
    "fill it in",
)
MEASURED_TYPE = _doubt(
    "measurements-type", "the fields of the measurements are texts", "round, measurements", "write a text"
)
MEASURED_UNUSUAL = _doubt(
    "measurements-unusual",
    "retraining and data types are words that are usual",
    "round, measurements, usual",
    "correct it",
)
RETRAINED = _rule(
    "measurements-retrained",
    "nothing is retrained in the closed division",
    "rules, Closed division",
    "move it to the open division",
)
README = _rule(
    "readme-blank",
    "README.md says something",
    "round, layout, measurements_files",
    "write how the result is reproduced",
)
CONF_LINE = _rule(
    "user-conf-line",
    "a line of user.conf is model.scenario.key = value",
    "LoadGen, test_settings_internal.cc",
    "correct it",
)
CONF_KEY = _rule(
    "user-conf-unknown-key",
    "LoadGen reads the keys in user.conf; it ignores all others, seeds among them",
    "round, user_conf",
    "remove it",
)
CONF_IDLE = _doubt(
    "user-conf-idle-key",
    "no key in user.conf is without effect, even if another one sets the same",
    "round, user_conf",
    "remove it",
)
CONF_CLOSED = _rule(
    "user-conf-open-key",
    "what changes the benchmark is set in the open division only",
    "round, user_conf, open_only",
    "remove it, or submit to the open division",
)
CONF_VALUE = _rule(
    "user-conf-value", "a value in user.conf is a possible number", "LoadGen, test_settings_internal.cc", "correct it"
)
CONF_REPEATED = _rule(
    "user-conf-repeated", "no key stands twice with two values in user.conf", "own", "keep one of them"
)
CONF_OTHER = _rule(
    "user-conf-other",
    "user.conf is that of the benchmark and the scenario",
    "LoadGen, test_settings_internal.cc: it reads the lines of one model and one scenario",
    "put the right file there",
)
CONF_USED = _rule(
    "user-conf-not-used",
    "what user.conf sets is what LoadGen's log says was asked for",
    "own; LoadGen, test_settings_internal.cc",
    "put the user.conf of this run there",
)
CONF_TUNED = _doubt(
    "user-conf-not-tuned",
    "rates and counts in user.conf are those that LoadGen's log says were asked for",
    "own; LoadGen, test_settings_internal.cc",
    "put the user.conf of this run there",
)

# LoadGen's logs
LOG_BROKEN = _rule("log-line-broken", "every line of a detail log is a whole record", "LoadGen, logging.cc", RESTORE)
LOG_BINARY = _rule("log-binary", "a log is a text", "own", RESTORE)
LOG_CUT = _rule(
    "log-cut",
    "a log is whole: it begins and ends as LoadGen begins and ends it",
    "LoadGen, loadgen.cc and results.cc",
    RESTORE,
)
LOG_REPEATED = _rule(
    "log-repeated-key", "what LoadGen says once stands there once", "LoadGen, test_settings_internal.cc", RESTORE
)
LOG_MISSING = _rule(
    "log-missing-key", "what LoadGen always says is there", "LoadGen, test_settings_internal.cc and results.cc", RESTORE
)
LOG_TYPE = _rule("log-type", "a value has the type that LoadGen writes", "LoadGen, results.cc", RESTORE)
LOG_TIME = _rule("log-time", "a log's times and dates fit together", "own; LoadGen, logging.cc", RESTORE)
LOG_ERROR = _rule("log-error", "LoadGen's log holds no error", "checker, loadgen_errors_check", RUN_AGAIN)
LOG_ERRORS = _rule(
    "log-num-errors", "num_errors is the number of errors in the log", "own; LoadGen, logging.cc", RESTORE
)
LOG_BUILD = _doubt(
    "log-build",
    "LoadGen was built from a clean, known revision",
    "checker, ignore_uncommited; rules, LoadGen unmodified",
    "build LoadGen from a clean checkout, and run again",
)
LOADGEN_MIXED = _doubt(
    "loadgen-mixed", "all logs of a result are of one LoadGen", "own", "run all tests of a result with one LoadGen"
)
MODE = _rule("test-mode", "a log is of the mode that its folder says", "LoadGen, test_settings.h; policies", RUN_AGAIN)
SCENARIO_LOG = _rule(
    "scenario-log", "all logs of a result are of its scenario", "checker, inferred_check; own", RUN_AGAIN
)
REQUESTED = _rule(
    "requested-effective",
    "what was asked for and what was in effect agree",
    "own; LoadGen, test_settings_internal.cc",
    RESTORE,
)
SEEDS = _rule(
    "seeds",
    "the seeds are those of the round",
    "round, seeds; checker, seeds_check",
    "run with a LoadGen of this round",
)
MIN_DURATION = _rule("min-duration", "the test was to last as long as the round asks", "round, duration", RUN_AGAIN)
LASTED = _rule(
    "duration",
    "the test lasted as long as it had to, by its own figures",
    "round, duration; LoadGen, results.cc",
    RUN_AGAIN,
)
SAMPLE_COUNT = _rule(
    "performance-sample-count",
    "the test used at least the benchmark's number of samples",
    "round, benchmarks",
    RUN_AGAIN,
)
LOADED = _rule("loaded-samples", "as many samples were loaded as the log says", "own; LoadGen, loadgen.cc", RESTORE)
QUERY_COUNT = _rule(
    "query-count",
    "there were as many queries and samples as the scenario asks",
    "round, early_stopping and benchmarks; LoadGen, results.cc",
    RUN_AGAIN,
)
PERCENTILE = _rule("percentile", "the percentile is that of the scenario", "round, percentiles", RUN_AGAIN)
PER_QUERY = _rule(
    "samples-per-query", "a query has as many samples as the scenario asks", "round, samples_per_query", RUN_AGAIN
)
LATENCY = _rule(
    "latency-limit", "the latency keeps the benchmark's limit", "round, benchmarks; checker, latency_check", RUN_AGAIN
)
TOKEN_LATENCY = _rule(
    "token-latency",
    "the times to the first and per further token keep their limits",
    "round, benchmarks; checker, llm_check",
    RUN_AGAIN,
)
VALID = _rule(
    "validity",
    "LoadGen calls the run VALID, and each of its conditions is met",
    "LoadGen, results.cc; rules, Validity",
    RUN_AGAIN,
)
METRIC = _rule("metric", "the metric is there and possible", "round, results; own", RUN_AGAIN)
FIGURES = _rule("figures", "the figures of a run follow from each other", "own; LoadGen, results.cc", RESTORE)
ISSUE_MODE = _rule(
    "issue-mode",
    "nothing but an audit chooses its samples or logs answers in a performance test",
    "round, audits, usual",
    RUN_AGAIN,
)
SUMMARY_OTHER = _rule(
    "summary-differs", "the summary says what the detail log says", "own; LoadGen, results.cc", RESTORE
)
SUMMARY_CUT = _rule("summary-cut", "the summary is whole", "LoadGen, results.cc", RESTORE)
ANSWERS_LOGGED = _rule(
    "performance-answers",
    "a performance test logs no answers",
    "LoadGen, issue_query_controller.cc; round, audits, usual",
    RUN_AGAIN,
)
SYSTEM_FILES = _rule(
    "power-files", "a power result has the files of its measurement", "checker, checks/power_check.py", "add them"
)
POWER_SAMPLES = _rule(
    "power-samples",
    "power was measured between power_begin and power_end",
    "checker, checks/power_check.py, get_power_metric_check",
    "measure it again, with the clocks of both machines set alike",
)

# Accuracy
SCORE_MISSING = _rule(
    "accuracy-missing",
    "accuracy.txt tells each score of the benchmark",
    "round, metrics and benchmarks",
    "score the accuracy run, and write what the scorer says",
)
SCORE_TWICE = _rule(
    "accuracy-contradiction",
    "accuracy.txt tells one score, and its counts agree with it",
    "own",
    "keep what the scorer said of this run",
)
SCORE_LOW = _rule(
    "accuracy-target",
    "the score meets its target in the closed division",
    "round, benchmarks, accuracy",
    "use a better precision, or submit to the open division",
)
SCORE_OTHER = _rule("accuracy-recomputed", "the score is what a whole log gives", "own", "score the accuracy run again")
HASH_MISSING = _rule(
    "accuracy-hash-missing",
    "accuracy.txt tells the hash of the whole log",
    "checker, accuracy_result_check; truncate_accuracy_log.py",
    "cut the log short again: make truncate_results",
)
HASH_WRONG = _rule(
    "accuracy-hash-wrong",
    "the hash is a SHA-256, that of the whole log, and told once",
    "truncate_accuracy_log.py",
    "cut the whole log short again: make truncate_results",
)
NOT_CUT = _rule("accuracy-log-long", "accuracy logs are cut short", "round, limits", "make truncate_results")
ANSWERS = _rule(
    "accuracy-log-broken",
    "an accuracy log is one list of answers, or its first and last 4 KB",
    "truncate_accuracy_log.py; LoadGen, logging.cc",
    "restore the whole log, and cut it short: make truncate_results",
)
ANSWERS_SAMPLES = _rule(
    "accuracy-log-samples",
    "the answers are those of the data set's samples, counted without a gap",
    "own; LoadGen, logging.cc",
    "run the accuracy test again",
)
DATA_SET = _rule(
    "accuracy-samples",
    "the accuracy run covered the data set",
    "round, benchmarks; checker, dataset_check",
    "run the accuracy test on the whole data set",
)
EXTRA_FILES = _rule(
    "accuracy-extra-files",
    "the files that a benchmark's accuracy run must show are there",
    "round, layout, extra_accuracy_files",
    "add them",
)

# Audits
AUDIT_MISSING = _rule(
    "audit-missing", "every audit of the benchmark is there", "round, audits", "run it: make run_audit_harness"
)
AUDIT_UNKNOWN = _doubt(
    "audit-unknown", "an audit is one that the round asks of the benchmark", "round, audits", "leave it out"
)
AUDIT_SETTINGS = _rule("audit-settings", "the audit ran with its own settings", "round, audits", AUDIT_AGAIN)
AUDIT_VERDICT = _rule(
    "audit-verdict",
    "the verdict says that the audit passed",
    "round, audits; checker, checks/compliance_check.py",
    AUDIT_AGAIN,
)
AUDIT_SCORES = _rule("audit-scores", "the scores in verify_performance.txt are those of the logs", "own", AUDIT_AGAIN)
AUDIT_BAND = _rule(
    "audit-band", "the audit's score is within its band of the performance run's", "round, audits, band", AUDIT_AGAIN
)
AUDIT_ANSWERS = _rule(
    "audit-answers",
    "the counts in verify_accuracy.txt agree with the verdict and the logs",
    "own; compliance/TEST01/verify_accuracy.py",
    AUDIT_AGAIN,
)
AUDIT_FALLBACK = _rule(
    "audit-fallback",
    "where answers differ, the scores over the audit's samples are near enough",
    "round, benchmarks, audit_delta_percent",
    AUDIT_AGAIN,
)
AUDIT_SAME = _rule("audit-same-run", "an audit is a run of its own", "own", AUDIT_AGAIN)
AUDIT_SAMPLE = _doubt(
    "audit-answers-differ",
    "answers that both logs show are the same where the audit says so",
    "own; compliance/TEST01/verify_accuracy.py",
    AUDIT_AGAIN,
)

# The validator itself
UNCHECKED = _doubt(
    "endpoints-unchecked",
    "results of MLPerf Endpoints are not checked here",
    "own",
    "let MLCommons' checker judge them: --official=PATH",
)
BROKEN = _rule(
    "validator-failed",
    "the validator could judge the result",
    "own",
    "report it, with the tree: this is a fault of the validator",
)
