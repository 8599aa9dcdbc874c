"""A mistake in any of several processes is printed once, and all of them leave with 2 before long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from distill.processes import report_once, without_launcher

ROOT = Path(__file__).resolve().parents[2]
PROCESS = """
import sys, time
from distill.errors import exit_on_user_error
from distill.processes import exit_with_others
from students.errors import UserError

@exit_on_user_error
def main(argv):
    exit_with_others()
    if argv[0] == "waits":
        time.sleep(300)
    if argv[0] == "errs":
        raise UserError("the folder\\nexists")
    return 0

sys.exit(main(sys.argv[1:]))
"""


def test_a_mistake_is_printed_once_and_ends_all() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {**os.environ, "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, does], cwd=ROOT, env={**environment, "RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank, does in enumerate(["waits", "errs", "errs"])
    ]  # fmt: skip
    started = time.monotonic()
    printed = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [2, 2, 2]
    assert "".join(printed) == "error: the folder exists\n"
    assert time.monotonic() - started < 100, "nobody waited for a time-out"


def test_a_single_process_just_tells(capsys: pytest.CaptureFixture[str]) -> None:
    report_once("error: no such folder")
    assert capsys.readouterr().err == "error: no such folder\n"


def test_a_store_that_is_not_there_keeps_no_mistake_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    report_once("error: no such folder")
    assert capsys.readouterr().err == "error: no such folder\n"


def test_a_launchers_variables_are_left_out() -> None:
    assert without_launcher({"RANK": "1", "MASTER_PORT": "2", "TORCHELASTIC_X": "3", "HOME": "/h"}) == {"HOME": "/h"}


def test_workers_of_an_unguarded_script_do_not_run_it_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing, sys
sys.path.insert(0, {str(ROOT)!r})
from distill.processes import without_main_module
print("started", flush=True)
with without_main_module():
    pool = multiprocessing.get_context("spawn").Pool(2)
with pool:
    print(pool.map(abs, [-1, 2]), __file__ == sys.argv[0])
""",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "started\n[1, 2] True\n"), done.stderr
