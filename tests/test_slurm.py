"""The script for SLURM, run with stand-ins for its programs: what each process is given, when the job is requeued."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.processes import MISTAKE
from distill.training.stopping import STOPPED
from tests.test_docs import check

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "howto" / "slurm.sbatch"
PROGRAMS = {
    "scontrol": """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode9\\n'; else echo "$@" >> "$HERE/requests"; fi
""",
    "srun": """#!/bin/bash
shift
for task in 0 1 2 3; do SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) "$@" || code=$?; done
exit "${code:-0}"
""",
    "python": f"""#!{sys.executable}
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
with open(os.environ["HERE"] + "/begun", "a") as file:
    file.write(json.dumps([sys.argv[1:], {{name: os.environ[name] for name in names}}]) + "\\n")
sys.exit(int(os.environ["CODE"]))
""",
}
"""Stand-ins: two machines with two tasks each."""
JOB = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7,9]", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}


def submit(code: int, here: Path) -> tuple[int, list[Any], str]:
    """Run the script; gives its exit code, the environment of each process, and the requests to SLURM."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    for name, source in PROGRAMS.items():
        (here / name).write_text(source, encoding="utf-8")
        (here / name).chmod(0o755)
    paths = f"{here}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, str(SCRIPT)], env={**JOB, "PATH": paths, "HERE": str(here), "CODE": str(code)}, timeout=60, check=False
    )
    begun = [json.loads(line) for line in (here / "begun").read_text(encoding="utf-8").splitlines()]
    requests = here / "requests"
    return done.returncode, begun, requests.read_text(encoding="utf-8") if requests.exists() else ""


@pytest.mark.parametrize("code", [0, 1, MISTAKE, 137])
def test_a_job_that_is_over_or_failed_stays_so(code: int, tmp_path: Path) -> None:
    ended, _, requests = submit(code, tmp_path)
    assert (ended, requests) == (code, "")


@pytest.mark.parametrize("code", [STOPPED, 128 + 10, 128 + 15])
def test_a_job_that_was_asked_to_stop_comes_back(code: int, tmp_path: Path) -> None:
    ended, _, requests = submit(code, tmp_path)
    assert (ended, requests) == (code, "requeue 123456\n")


def test_each_process_knows_its_rank_and_its_command_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, begun, _ = submit(0, tmp_path)
    assert [environment["RANK"] + environment["LOCAL_RANK"] for _, environment in begun] == ["00", "11", "20", "31"]
    for command, environment in begun:
        assert command[-2:] == ["--resume", "auto"]
        assert (environment["WORLD_SIZE"], environment["LOCAL_WORLD_SIZE"]) == ("4", "2")
        assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("node7", "23456")
    check(["python", *begun[0][0]], tmp_path, monkeypatch)


def test_what_it_asks_slurm_for_is_said_before_anything_runs() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    asked = [shlex.split(line.removeprefix("#SBATCH"))[0] for line in lines if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append", "--signal=USR1@300"} <= set(asked)
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])
