# Makefile: the front door. Each target makes build/venv if need be and hands over to the Invoke task of its name (tasks.py).
# `make` alone prints the help, which is made from the comments that start with `#-`.

ifeq ($(wildcard code/engineroom/bootstrap.py),)
$(error run make in the folder that holds this Makefile, or name that folder: make -C FOLDER)
endif

# Any other variable would be passed over without a word: RUN_ARG="--force", or BENCHMARKS="a b" as NVIDIA's targets take.
unknown := $(foreach name,$(filter-out RUN_ARGS PYTHON,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
ifneq ($(strip $(unknown)),)
$(error $(firstword $(unknown))= means nothing here; flags stand in RUN_ARGS: make TARGET RUN_ARGS="--benchmarks=a,b")
endif

PYTHON ?= python3
INV     = @build/venv/bin/inv $@

# RUN_ARGS reaches Python as the environment variable it is: never expanded by make, never pasted into a shell line.
override RUN_ARGS := $(value RUN_ARGS)
export RUN_ARGS
# What belongs to the caller's own Python or to this make must not reach ours, nor make's job server reach ninja.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV MAKEFLAGS MFLAGS MAKEOVERRIDES
.NOTPARALLEL:

#- make TARGET [RUN_ARGS="--flag=value ..."]; all flags of a run: make run RUN_ARGS=--help
help: ; @awk '/^#- /{print "\n" substr($$0, 4)} /^[a-z0-9_]+:.*#- /{n=$$1; sub(/:$$/, "", n); sub(/.*#- /, ""); printf "  %-20s %s\n", n, $$0}' Makefile  #- print this help

#- Run benchmarks, for example: make run_harness RUN_ARGS="--benchmarks=digits --scenarios=Offline,Server"
run_harness:      venv ; $(INV)  #- set up and build what is missing, run LoadGen, score, print one table
generate_engines: venv ; $(INV)  #- build the engines of the benchmarks; what is unchanged is reused
run:              venv ; $(INV)  #- generate_engines, then run_harness
score:            venv ; $(INV)  #- score accuracy runs again from their logs: RUN_ARGS="build/runs/FOLDER"
calibrate:        venv ; $(INV)  #- write the quantized model of each benchmark and its ranges

#- Audit results: MLPerf's compliance tests, each compared with the performance and the accuracy run
run_audit_harness: venv ; $(INV)  #- run the audits that the round's rules ask for, and verify them
run_audit_test01: venv ; $(INV)  #- TEST01: what is answered in performance mode is what was answered in accuracy mode
run_audit_test04: venv ; $(INV)  #- TEST04: answers to the same sample are not kept and used again

#- From runs to a submission, for example: make submission RUN_ARGS="--benchmarks=resnet50 --division=open --category=edge --submitter=NAME"
submission:       venv ; $(INV)  #- run what is missing, stage, cut logs short, check, pack; --plan, --rehearsal
stage_results:    venv ; $(INV)  #- choose the best runs that belong together, and lay them out as a submission
truncate_results: venv ; $(INV)  #- cut accuracy logs short, with the hash of the whole; --restore puts them back
pack_submission:  venv ; $(INV)  #- check what is staged, and pack it into an archive
export_submission: venv ; $(INV)  #- check what is staged, and copy it to where it is handed in: RUN_ARGS="--to=PATH"
check_submission: venv ; $(INV)  #- judge a submission, anybody's: every fault at once: RUN_ARGS="PATH --round=v6.1"
summarize_results: venv ; $(INV)  #- show what is staged, also per accelerator or core; as a table, CSV or JSON
import_submission: venv ; $(INV)  #- read published results of v2.0 and later: RUN_ARGS="PATH"

#- Know the machine
info:             venv ; $(INV)  #- show every component with version and path; --diff A B compares two runs or machines
doctor:           venv ; $(INV)  #- check what a run needs and what makes it steadier; each finding with its remedy
add_system:       venv ; $(INV)  #- write systems/<id>.yaml, by which this machine is recognised
describe_system:  venv ; $(INV)  #- show MLPerf's system description of this machine, and how each field is known

#- Understand settings, for example: make explain RUN_ARGS="batch_size"
config:           venv ; $(INV)  #- print the merged settings of each run, each with its origin
explain:          venv ; $(INV)  #- say what a setting means, who uses it, and where it is set now
schemas:          venv ; $(INV)  #- write the JSON Schemas by which editors check the YAML files
import_nvidia_config: venv ; $(INV)  #- carry NVIDIA's own configuration files over into configs/; they are read, never run

#- Fetch and prepare
download_data:    venv ; $(INV)  #- fetch the data sets and check them
download_model:   venv ; $(INV)  #- fetch the models and check them
preprocess_data:  venv ; $(INV)  #- turn data sets into the arrays that the harness maps into memory

#- Build and install
build:            venv ; $(INV)  #- compile everything native: LoadGen and the harness
builds:           venv ; $(INV)  #- show each build, whether it has ever run, and when that was verified
build_loadgen:    venv ; $(INV)  #- fetch and compile LoadGen
build_harness:    venv ; $(INV)  #- compile the native harness and its Python module
install:          venv ; $(INV)  #- add an extra, for example: make install RUN_ARGS="--engine=torch"
wheelhouse:       venv ; $(INV)  #- collect in build/wheelhouse what an installation without a network needs
shell:            venv ; $(INV)  #- open a shell with build/venv active

#- Check and measure
test:             venv ; $(INV)  #- lint, then the tests (a few minutes)
test_all:         venv ; $(INV)  #- the long and heavy tests, which `make test` leaves out
test_gpu:         venv ; $(INV)  #- the tests that need an NVIDIA GPU, on a machine that has one
lint:             venv ; $(INV)  #- ruff, mypy --strict and the layers
compare_engine:   venv ; $(INV)  #- hold an engine's outputs against ONNX Runtime's in fp32, sample by sample
verify_tensorrt:  venv ; $(INV)  #- with a GPU: build plans, compare, run all scenarios, write a block for docs/verified.md
bench:            venv ; $(INV)  #- measure the overheads and throughputs that the README states

#- Tidy up; runs, submissions, data and models stay unless RUN_ARGS says --results or --data
clean:            venv ; $(INV)  #- remove everything that can be made again, build/venv too
clean_shallow:    venv ; $(INV)  #- remove the compiled libraries

# build/venv is remade when it moved with its folder or its python is gone: then `checkout` points elsewhere.
.PHONY: venv FORCE
venv: build/venv/ready
build/venv/ready: code/engineroom/bootstrap.py requirements/base.lock $(if $(realpath build/venv/bin/python),,FORCE)
	@command -v "$(PYTHON)" >/dev/null || { printf '%s\n' 'error: $(PYTHON): not found' '  install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3' 'exit code 2' >&2; exit 2; }
	@"$(PYTHON)" -I code/engineroom/bootstrap.py
ifneq ($(realpath build/venv/checkout),$(realpath .))
build/venv/ready: FORCE
endif

.DEFAULT: ; @"$(PYTHON)" -I code/engineroom/bootstrap.py --unknown-target '$(subst ','\'',$@)'
