# make demo: from a bare machine to a calibrated posterior. `make help` lists the rest.
# On a cluster: module load ...; make setup MPICC=$(which mpicc) HDF5_DIR=/path/of/parallel/hdf5

SHELL := /bin/bash
READY := .venv/mpi.env
RANKS ?= 2
JOBS ?= 2
ARGS ?=

# One BLAS thread a rank, since the ranks fill the cores. Open MPI (4 and 5) refuses more ranks than cores, and
# root (containers), unless told; other MPIs do not look at these.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
export OMPI_MCA_rmaps_base_oversubscribe ?= 1
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

.PHONY: help setup demo test test-slurm test-schedulers test-fresh faults soak trust docs reference lint clean distclean

help:
	@echo "make setup      install what is missing and make .venv (once)"
	@echo "make demo       calibrate the embedded model against its own synthetic truth (RANKS=2)"
	@echo "make test       the whole test suite, JOBS=2 tests at a time (ARGS=\"-m 'not mpi'\" for pytest)"
	@echo "make faults     every fault in every stage, ten minutes; writes the table in docs/faults.md"
	@echo "make soak       50 random kills of one run, ten minutes"
	@echo "make trust      is the posterior right? 40 calibrations with random truths, and the verdict's errors"
	@echo "make test-slurm the job scripts in a real Slurm on this machine (root, Debian; installs it)"
	@echo "make test-schedulers the same under Slurm, PBS (qsub) and none, and members as jobs (quiet machine)"
	@echo "make docs       the documentation as a site, build/site/index.html"
	@echo "make test-fresh the commands of the README on new Debian systems (root, Debian; docs/fresh.md)"
	@echo "make reference  write docs/reference.md from the classes that it describes"
	@echo "make lint       ruff and mypy"
	@echo "make clean      remove caches and builds; make distclean: .venv too"

setup: $(READY)

$(READY): setup.cfg machines/setup.sh machines/constraints.txt
	@machines/setup.sh

demo: $(READY)
	@. $(READY) && "$${MPIRUN:?there is no mpirun}" -n $(RANKS) .venv/bin/python -m fatescal $(ARGS)

test: $(READY)
	@. $(READY) && export MPIRUN && .venv/bin/python -m pytest -n $(JOBS) --dist worksteal --durations=15 $(ARGS)

faults: $(READY)
	@. $(READY) && export MPIRUN && FATESCAL_FAULTS=docs/faults.md .venv/bin/python -m pytest tests/system/test_faults.py $(ARGS)

soak: $(READY)
	@. $(READY) && export MPIRUN && FATESCAL_SOAK=50 .venv/bin/python -m pytest tests/system/test_faults.py -s -k random_kills

trust: $(READY)
	@. $(READY) && .venv/bin/python benchmarks/trust.py $(ARGS)
	@. $(READY) && .venv/bin/python benchmarks/verdict.py

test-slurm: $(READY)
	@{ command -v slurmctld && command -v qsub; } >/dev/null || (apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends slurm-wlm munge slurm-wlm-torque) >.venv/slurm.log 2>&1 || tail -n 5 .venv/slurm.log
	@. $(READY) && export MPIRUN && FATESCAL_SLURM=1 .venv/bin/python -m pytest -rs tests/system/test_slurm.py $(ARGS)

test-schedulers: $(READY)
	@. $(READY) && export MPIRUN && FATESCAL_SLURM=1 .venv/bin/python -m pytest -rs tests/system/test_schedulers.py tests/system/test_member_jobs.py $(ARGS)

docs: $(READY)
	@.venv/bin/python -c "import mkdocs" 2>/dev/null || .venv/bin/python -m pip install -q "mkdocs <2"
	@.venv/bin/python docs/make_site.py

test-fresh:
	@tests/fresh.sh $(ARGS)

reference: $(READY)
	@. $(READY) && .venv/bin/python docs/make_reference.py

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy fatescal tests

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
