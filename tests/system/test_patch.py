"""Hosts are drained and patched by the controller under running guests, and nothing is half done when it does not go well."""
import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from conftest import LAB_RUN_DIR, wait_until

CONTROLLER = LAB_RUN_DIR / "controller"
# Longer than anything in these runs takes between two records: then the run is at its end.
JOURNAL_RESTS_S = 20


class Patching:
    """A lab with a controller, memory guests and plan files."""

    def __init__(self, lab, hosts):
        self.lab = lab
        self.hosts = [f"h{number}" for number in range(1, hosts + 1)]
        lab.up(hosts=hosts)

    def memory_guest(self, name, host, memory="64M", dirty_rate="1M"):
        path = self.lab.tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "memory"\nmemory = "{memory}"\n[memory]\ndirty_rate = "{dirty_rate}"\n')
        self.lab.json("guest", "start", path, "--on", host)
        self.lab.guests.append(name)

    def places(self):
        return {guest["name"]: guest["host"] for guest in self.lab.json("guests")["guests"]}

    def version(self, host):
        return (LAB_RUN_DIR / host / "disk/version").read_text().strip()

    def boot_id(self, host):
        return (LAB_RUN_DIR / host / "boot_id").read_text().strip()

    def hook(self, where, name, body):
        path = LAB_RUN_DIR / "hooks" / where / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def plan(self, hosts, *, expected="2", hooks="", more=""):
        path = self.lab.tmp_path / "plan.toml"
        path.write_text(
            f'name = "test"\nhosts = {json.dumps(hosts)}\n{more}\n'
            '[hooks]\n' + (hooks or 'silence = { name = "silence", on = "controller" }\npatch = "patch"\nrollback = "rollback"\n'
                           'version = { name = "version", idempotent = true }\n'
                           'unsilence = { name = "unsilence", on = "controller" }\n')
            + (f'[expect]\nversion = "{expected}"\n' if expected else "")
            + '[reboot]\ntimeout_s = 60\n[refill]\ngate_s = 0\n[soak]\nseconds = 0\ngoodput_ratio_min = 0\n')
        return path

    def in_service(self, host):
        hosts = {each["name"]: each for each in self.lab.json("hosts")["hosts"]}
        return not hosts[host]["cordoned_by"] and not hosts[host]["quarantined"]

    def runs(self):
        return self.lab.json("patch", "list")["runs"]

    def refused(self, *arguments, words):
        """One line, status 1, and no run."""
        before = len(self.runs())
        result = self.lab.sluice(*arguments)
        assert result.returncode == 1, result.stdout + result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        for word in words:
            assert word in result.stderr, f"{word} in {result.stderr}"
        assert len(self.runs()) == before
        assert all(self.in_service(host) for host in self.hosts)

    def controller_pid(self):
        return int((CONTROLLER / "controller.pid").read_text())

    def reconfigure(self, pattern, replacement):
        config = CONTROLLER / "controller.toml"
        config.write_text(re.sub(pattern, replacement, config.read_text()))
        self.kill_controller()
        self.lab.script("start", "controller")
        wait_until(lambda: self.lab.sluice("patch", "list").returncode == 0, 30, "the controller")

    def kill_controller(self):
        pid = self.controller_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), 10, "the controller's end")


def journal_records():
    with contextlib.closing(sqlite3.connect(f"file:{CONTROLLER}/journal.db?mode=ro", uri=True)) as journal:
        return journal.execute("SELECT COUNT(*) FROM journal").fetchone()[0]


@pytest.fixture
def patching(lab):
    return lambda hosts=3: Patching(lab, hosts)


def test_patches_every_host_under_running_guests(lab, patching):
    cluster = patching(3)
    console = lab.start_guest("linux", host="h1", memory="128M", rate="2M")
    for number, host in enumerate(cluster.hosts):
        cluster.memory_guest(f"m{number}", host)
    (lab.tmp_path / "canary.toml").write_text('name = "canary"\ndriver = "memory"\nmemory = "16M"\n')
    homes = cluster.places()
    boot_ids = {host: cluster.boot_id(host) for host in cluster.hosts}
    plan = cluster.plan(cluster.hosts)
    plan.write_text(plan.read_text() + '[canary]\nguest_file = "canary.toml"\n')

    status = lab.json("patch", "run", plan, "--watch", timeout=400)

    assert status["status"] == "done"
    assert {host["state"] for host in status["hosts"]} == {"done"}
    for host in cluster.hosts:
        assert cluster.version(host) == "2", "the patch ran more or less than once"
        assert cluster.boot_id(host) != boot_ids[host]
        assert cluster.in_service(host)
    assert cluster.places() == homes
    console.wait_for_more(3)
    console.assert_unharmed()
    log = (LAB_RUN_DIR / "hooks/log").read_text()
    assert [log.count(f" {word} {host}\n") for word in ("silence", "unsilence") for host in cluster.hosts] == [1] * 6
    report = lab.sluice("patch", "report", status["run"])
    assert report.returncode == 0
    assert all(name in report.stdout for name in [*cluster.hosts, "linux"])
    assert lab.json("patch", "report", status["run"])


def test_drains_a_host_and_gives_it_back(lab, patching):
    cluster = patching(2)
    for number in range(3):
        cluster.memory_guest(f"m{number}", "h1")
    preview = lab.json("drain", "h1", "--dry-run")
    assert {move["guest"] for move in preview["hosts"][0]["moves"]} == {"m0", "m1", "m2"}
    assert 0 < preview["bound_s"] <= preview["estimate_s"]
    assert set(cluster.places().values()) == {"h1"}
    assert cluster.runs() == []

    watched = lab.sluice("drain", "h1", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "m1: h1 -> h2, done" in watched.stdout
    assert set(cluster.places().values()) == {"h2"}
    assert not cluster.in_service("h1")
    assert lab.sluice("uncordon", "h1").returncode == 0
    assert cluster.in_service("h1")


def test_abort_gives_the_host_back(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m0", "h1")
    # Held before its drain.
    cluster.hook("controller", "hold", f"while [ ! -e {lab.tmp_path}/go ]; do sleep 0.1; done")
    plan = cluster.plan(["h1", "h2"], hooks='patch = "patch"\nsilence = { name = "hold", on = "controller" }\n', expected="")
    run = lab.json("patch", "run", plan)["run"]
    wait_until(lambda: lab.json("patch", "status")["hosts"][0]["state"] == "cordoned", 20, "the host's turn")
    watcher = lab.spawn("patch", "status", run, "--watch")
    assert lab.sluice("patch", "abort", run).returncode == 0
    (lab.tmp_path / "go").touch()
    assert watcher.wait(60) == 1
    status = lab.json("patch", "status", run)
    assert status["status"] == "aborted"
    assert {host["state"] for host in status["hosts"]} == {"skipped"}
    assert cluster.version("h1") == "1"
    assert cluster.places() == {"m0": "h1"}
    assert cluster.in_service("h1")


def test_refuses_what_cannot_be_done(lab, patching):
    cluster = patching(2)
    cluster.refused("patch", "run", cluster.plan(["h1", "h9"]), words=["h9"])
    cluster.refused("drain", "h9", words=["h9"])
    cluster.refused("patch", "run", cluster.plan(["h1"], hooks='patch = "polish"\n', expected=""), words=["polish", "h1"])
    cluster.refused("patch", "run", cluster.plan(["h1"], more="colour = 3"), words=["plan.toml", "colour"])
    over = cluster.plan(["h1"])
    over.write_text(over.read_text() + "[window]\nnot_after = 2020-01-01T00:00:00Z\n")
    cluster.refused("patch", "run", over, words=["window"])

    # Two hosts of 8 GiB that keep nearly all of it: what h1 holds does not fit beside what h2 holds.
    for host in cluster.hosts:
        cluster.memory_guest(f"guest-{host}", host)
    cluster.reconfigure(r'reserve = ".*"', 'reserve = "8000M"')
    for command in ("drain", "h1", "--dry-run"), ("drain", "h1"):
        cluster.refused(*command, words=["64 MiB of memory are missing", "h2"])
    assert cluster.places() == {"guest-h1": "h1", "guest-h2": "h2"}


def test_a_host_belongs_to_one_run(lab, patching):
    cluster = patching(2)
    cluster.hook("controller", "hold", f"while [ ! -e {lab.tmp_path}/go ]; do sleep 0.1; done")
    plan = cluster.plan(["h1"], hooks='patch = "patch"\nsilence = { name = "hold", on = "controller" }\n', expected="")
    run = lab.json("patch", "run", plan)["run"]
    wait_until(lambda: lab.json("patch", "status")["hosts"][0]["state"] == "cordoned", 20, "the host's turn")
    second = lab.sluice("drain", "h1")
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "h1" in second.stderr and run in second.stderr
    lab.sluice("patch", "abort", run)
    (lab.tmp_path / "go").touch()
    wait_until(lambda: lab.json("patch", "status", run)["status"] == "aborted", 30, "the end")


def test_a_bad_patch_stays_on_one_host(lab, patching):
    cluster = patching(3)
    for number, host in enumerate(cluster.hosts):
        cluster.memory_guest(f"m{number}", host)
    result = lab.sluice("patch", "run", cluster.plan(cluster.hosts, expected="7"), "--watch", timeout=300)
    assert result.returncode == 1
    status = lab.json("patch", "status")
    assert status["status"] == "paused"
    assert [host["state"] for host in status["hosts"]] == ["done-old", "pending", "pending"]
    assert "7" in status["hosts"][0]["failure"]
    assert [cluster.version(host) for host in cluster.hosts] == ["1", "1", "1"]
    assert set(cluster.places()) == {"m0", "m1", "m2"}
    assert lab.sluice("patch", "abort").returncode == 0


def test_a_hook_that_hangs_is_killed(lab, patching):
    cluster = patching(2)
    cluster.hook("h1", "hang", f"echo $$ >{lab.tmp_path}/pid; sleep 1000")
    plan = cluster.plan(["h1"], hooks='silence = { name = "hang", timeout_s = 1 }\npatch = "patch"\n', expected="")
    result = lab.sluice("patch", "run", plan, "--watch", timeout=60)
    assert result.returncode == 1
    assert "hang" in result.stderr and result.stderr.count("\n") == 1
    assert not Path(f"/proc/{(lab.tmp_path / 'pid').read_text().strip()}/exe").exists()
    assert cluster.version("h1") == "1"
    assert cluster.in_service("h1")


def test_no_room_for_the_journal(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m0", "h1")
    small = lab.tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "full", small], check=True)
    try:
        cluster.reconfigure(r'journal = ".*"', f'journal = "{small}/journal.db"')
        with open(small / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError:
                pass
        result = lab.sluice("drain", "h1")
        assert result.returncode == 1, result.stdout
        assert result.stderr.count("\n") == 1
        # A controller that cannot renew its lease ends, perhaps before it was asked.
        assert "journal" in result.stderr or "does not answer" in result.stderr
        wait_until(lambda: "full" in (CONTROLLER / "controller.log").read_text().split("--- started")[-1], 20, "a line in its log")
        assert cluster.places() == {"m0": "h1"}
    finally:
        lab.down()
        subprocess.run(["umount", "-l", small], check=False)


def test_a_killed_controller_goes_on(lab, patching, request):
    kills = request.config.getoption("--controller-kills")
    seed = request.config.getoption("--controller-seed") or random.randrange(1 << 32)
    print(f"seed {seed}: run again with --controller-seed {seed} --controller-kills {kills}")
    choose = random.Random(seed)
    cluster = patching(3)
    for number, host in enumerate(cluster.hosts):
        cluster.memory_guest(f"m{number}", host)
    homes = cluster.places()
    run = lab.json("patch", "run", cluster.plan(["h1", "h2"]))["run"]
    for _ in range(kills):
        target = journal_records() + choose.randrange(1, 12)
        changed = time.monotonic()
        while (records := journal_records()) < target and time.monotonic() < changed + JOURNAL_RESTS_S:
            time.sleep(0.01)
        print(f"killed at record {records}")
        cluster.kill_controller()
        lab.script("start", "controller")
    result = lab.sluice("patch", "status", run, "--watch", timeout=300)
    assert result.returncode == 0, result.stderr
    assert [cluster.version(host) for host in cluster.hosts] == ["2", "2", "1"], "a patch ran more or less than once"
    assert cluster.places() == homes
    assert all(cluster.in_service(host) for host in cluster.hosts)
