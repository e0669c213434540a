# Everything by name: `make help`. Deeper levels are playbooks (docs/operations.md) and tools/*.py --help.
INVENTORY ?= inventories/aio
SCENARIO ?= default
COUNT ?= 2
PYTHON := .venv/bin/python
BIN := $(abspath .venv/bin)
export PATH := $(BIN):$(PATH)

.PHONY: help venv cloud destroy clean test test-all lint unit molecule bench tempest lock changes upgrades faults

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile
	@echo; echo "INVENTORY=$(INVENTORY)  SCENARIO=$(SCENARIO)"

venv:  ## install what this machine needs, and the tools into .venv
	@tools/setup.sh

cloud: venv  ## start the hosts of INVENTORY as containers, deploy the cloud on them and verify it
	@$(PYTHON) tools/cloud.py $(INVENTORY)

destroy: venv  ## remove the hosts of INVENTORY without a trace; downloads stay in .cache/
	@$(PYTHON) tools/lab.py destroy $(INVENTORY)

clean: venv  ## remove .cache/: images and downloads
	@$(PYTHON) tools/lab.py clean

test: venv  ## lint, unit tests, and the scenario default: a whole cloud
	@$(PYTHON) tools/check.py lint unit molecule

test-all: venv  ## the same with all scenarios, which takes much longer
	@$(PYTHON) tools/check.py lint unit molecule --scenario default,three_node,block,object,ha,upgrade,upgrade_ha

lint: venv  ## ansible-lint, ruff and mypy
	@$(PYTHON) tools/check.py lint

unit: venv  ## the unit tests
	@$(PYTHON) tools/check.py unit

molecule: venv  ## the molecule scenario SCENARIO
	@$(PYTHON) tools/check.py molecule --scenario $(SCENARIO)

tempest: venv  ## judge the cloud of INVENTORY by the set SET of Tempest (smoke, identity, image, network, object_storage, compute)
	@$(BIN)/ansible-playbook -i $(INVENTORY) playbooks/tempest.yml -e tempest_set=$(or $(SET),smoke)

bench: venv  ## measure into .lab/bench.json; destroys the lab of INVENTORY first, unless ONLY= names other parts
	@$(PYTHON) tools/bench.py $(INVENTORY) $(if $(ONLY),--only $(ONLY))

upgrades: venv  ## take INVENTORY's lab from release FORMER to its own or RELEASE, back, and to the end, or by STEPS
	@$(PYTHON) tools/upgrades.py $(INVENTORY) $(if $(FORMER),--former $(FORMER)) $(if $(RELEASE),--release $(RELEASE)) \
		$(if $(STEPS),--steps $(STEPS))

faults: venv  ## kill COUNT deploys and COUNT changes of INVENTORY's lab, made anew, and break its hosts; SEED repeats
	@$(PYTHON) tools/faults.py $(INVENTORY) --count $(COUNT) $(if $(SEED),--seed $(SEED)) $(if $(KINDS),--kinds $(KINDS))

lock: venv  ## make the hash locks and schemas of RELEASE anew, from CONSTRAINTS (a path or a URL)
	@$(PYTHON) tools/locks.py $(RELEASE) --constraints $(CONSTRAINTS)
	@$(PYTHON) tools/schemas.py $(RELEASE)

changes: venv  ## list what changed in programs, applications, upgrade checks and options between releases OLD and NEW
	@$(PYTHON) tools/release_changes.py $(OLD) $(NEW)
