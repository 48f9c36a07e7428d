"""A controller is killed, or stopped while another one takes over, or can no longer write: a run ends as it would have."""
import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from conftest import LAB_RUN_DIR, ROOT, wait_until
from patching import CONTROLLER, HOOKS_LOG, Patching, journal, moves


@pytest.fixture
def patching(lab):
    return lambda hosts=3, **options: Patching(lab, hosts, **options)


def end_of(cluster, run):
    """What must be the same, killed or not. Which host took a guest for a while may depend on the moment."""
    status = cluster.status(run)
    log = HOOKS_LOG.read_text()
    return {
        "run": status["status"],
        "hosts": cluster.states(run),
        "moves": moves(run),
        "places": cluster.places(),
        "in service": [host for host in cluster.hosts if cluster.in_service(host)],
        "controller's hooks": {f"{word} {host}": log.count(f" {word} {host}\n")
                               for word in ("silence", "unsilence") for host in cluster.hosts},
    }


def has_reached(records, count):
    """The records, once there are so many or the run is at its end; else nothing."""
    ended = records and records[-1].get("event") == "finished"
    return records if ended or len(records) >= count else None


def test_a_killed_controller_goes_on(lab, patching, request):
    kills = request.config.getoption("--controller-kills")
    seed = request.config.getoption("--controller-seed") or random.randrange(1 << 32)
    print(f"seed {seed}: run again with --controller-seed {seed} --controller-kills {kills}")
    cluster = patching(3)
    cluster.one_guest_a_host()
    quiet = lab.json("patch", "run", cluster.with_canary(cluster.plan(["h1", "h2"])), "--watch", timeout=300)["run"]
    expected = end_of(cluster, quiet)
    begun = cluster.moves_begun()
    assert expected["run"] == "done"
    HOOKS_LOG.unlink()

    run = cluster.start(cluster.with_canary(cluster.plan(["h1", "h2"], expected="3")))
    killed_at = set()
    for target in sorted(random.Random(seed).sample(range(2, len(journal(quiet))), kills)):
        records = wait_until(lambda record=target: has_reached(journal(run), record), 120, f"record {target}")
        print(f"killed at record {len(records)}")
        if records[-1].get("event") != "finished":
            killed_at.add(len(records))
        cluster.kill_controller()
        lab.script("start", "controller")
    result = lab.sluice("patch", "status", run, "--watch", timeout=300)
    assert result.returncode == 0, result.stderr
    # A restart takes longer than a record.
    assert len(killed_at) > kills // 2, f"the run had passed too many of them by then: killed at {sorted(killed_at)}"
    assert end_of(cluster, run) == expected
    assert cluster.versions() == ["3", "3", "1"], "a patch ran more or less than once"
    guests = [guest for guest in begun if not guest.startswith("canary")]
    assert {guest: cluster.moves_begun()[guest] for guest in guests} == {guest: 2 * begun[guest] for guest in guests}, \
        "a guest was moved without need"


def journal_id():
    with contextlib.closing(sqlite3.connect(f"file:{CONTROLLER}/journal.db?mode=ro", uri=True)) as database:
        return database.execute("SELECT value FROM kept WHERE name = 'id'").fetchone()[0]


class SecondController:
    """Of another name, at another address, with the first one's state_dir and its journal or a copy of it."""

    def __init__(self, lab, journal_file):
        self.lab = lab
        self.directory = lab.tmp_path / "second"
        self.directory.mkdir()
        pki = LAB_RUN_DIR / "pki"
        subprocess.run([ROOT / "build/control/cli/sluice", "pki", "client", "second", "--role", "controller", "--dir", pki],
                       check=True, capture_output=True)
        text = (CONTROLLER / "controller.toml").read_text()
        for pattern, replacement in (
                ("controller-key.pem", "second-key.pem"), ("controller.pem", "second.pem"), (r'name = "controller"', 'name = "second"'),
                (r"listen = .*", f'listen = ["unix:{self.directory}/socket"]'), (r"journal = .*", f'journal = "{journal_file}"')):
            text = re.sub(pattern, replacement, text)
        (self.directory / "second.toml").write_text(text)
        client = re.sub(r"controller = .*", f'controller = "unix:{self.directory}/socket"\ncontroller_name = "second"',
                        Path("/run/sluice/sluice.toml").read_text(), count=1)
        self.client = self.directory / "sluice.toml"
        self.client.write_text(client)
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", "sluice-controller", ROOT / "build/control/controller/sluice-controller",
                 "--config", self.directory / "second.toml"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def leads(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        return "leads with epoch 2" in (self.directory / "log").read_text() and self.sluice("patch", "list").returncode == 0

    def sluice(self, *arguments, **options):
        return self.lab.sluice("--config", self.client, *arguments, **options)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("journal_is", ["shared", "copied"])
def test_an_old_controller_that_wakes_up_is_refused(lab, patching, journal_is):
    """By the journal; or, where that is an old copy which would let it go on, by every agent."""
    cluster = patching(3)
    homes = cluster.one_guest_a_host()
    cluster.hook_holding("h1", "hold")
    # Hooks of the hosts alone: their agents see to it that none is run twice, whoever asks.
    hooks = 'before = "hold"\npatch = "patch"\nversion = { name = "version", idempotent = true }\n'
    for host in cluster.hosts[1:]:
        cluster.hook(host, "hold", "true")
    run = cluster.start(cluster.plan(["h1", "h2"], hooks=hooks))
    cluster.wait_for_state("h1", "cordoned")
    old = cluster.controller_pid()
    os.kill(old, signal.SIGSTOP)
    journal_file = CONTROLLER / "journal.db"
    if journal_is == "copied":
        journal_file = lab.tmp_path / "journal.db"
        with contextlib.closing(sqlite3.connect(CONTROLLER / "journal.db")) as source, \
                contextlib.closing(sqlite3.connect(journal_file)) as copy:
            source.backup(copy)
            copy.execute("UPDATE lease SET until_ms = 0")  # a copy so old that its lease has run out
            copy.commit()
    second = SecondController(lab, journal_file)
    try:
        # Of the shared one the first one's lease has to run out.
        wait_until(second.leads, 60, "the second controller to take over")
        os.kill(old, signal.SIGCONT)
        cluster.release()
        wait_until(lambda: not Path(f"/proc/{old}/exe").exists(), 60, "the end of the old controller")
        assert "epoch" in (CONTROLLER / "controller.log").read_text().strip().splitlines()[-1]
        # As systemd starts it again and again, until its epoch would be the highest.
        for _ in range(3 if journal_is == "copied" else 0):
            again = by_hand()
            assert again.returncode == 1 and "copy" in again.stderr, again.stderr
        result = second.sluice("patch", "status", run, "--watch", timeout=300)
        assert result.returncode == 0, result.stdout + result.stderr
    finally:
        second.stop()
    assert cluster.versions() == ["2", "2", "1"], "a patch ran more or less than once"
    assert cluster.places() == homes
    assert cluster.moves_begun() == {"m1": 2, "m2": 2}, "a guest was moved without need"


def by_hand(*arguments):
    """One more process of the lab's controller."""
    return subprocess.run(["ip", "netns", "exec", "sluice-controller", ROOT / "build/control/controller/sluice-controller",
                           "--config", CONTROLLER / "controller.toml", *arguments], capture_output=True, text=True, check=False,
                          timeout=60, stdin=subprocess.DEVNULL)


def test_a_second_one_of_the_same_name_is_refused_and_the_first_goes_on(lab, patching):
    cluster = patching(2)
    pid = cluster.controller_pid()
    for arguments in (), ("--adopt-agents",):
        second = by_hand(*arguments)
        assert second.returncode == 1, second.stdout
        assert second.stderr.count("\n") == 1, second.stderr
        assert f"(pid {pid})" in second.stderr
    assert lab.sluice("drain", "h1").returncode == 0
    assert cluster.controller_pid() == pid and Path(f"/proc/{pid}/exe").exists()


def test_a_standby_that_is_told_to_end_has_not_failed(lab, patching):
    patching(2)
    second = SecondController(lab, CONTROLLER / "journal.db")
    try:
        wait_until(lambda: "standing by" in (second.directory / "log").read_text(), 60, "the second controller to stand by")
        second.process.terminate()
        assert second.process.wait(timeout=60) == 0, (second.directory / "log").read_text()
    finally:
        second.stop()


def test_a_new_journal_leads_once_an_operator_gives_it_the_hosts(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m1", "h1", memory="32M")
    lost = journal_id()
    # So often that its epoch is higher than any of a new one.
    for _ in range(3):
        cluster.kill_controller()
        cluster.start_controller()
    cluster.kill_controller()
    for file in CONTROLLER.glob("journal.db*"):
        file.unlink()
    refused = by_hand()
    assert refused.returncode == 1
    line = refused.stderr.strip().splitlines()[-1]
    assert lost in line and "--adopt-agents" in line, refused.stderr
    adopted = by_hand("--adopt-agents")
    assert adopted.returncode == 0, adopted.stderr
    assert f"h1 obeyed {lost}" in adopted.stdout and f"h2 obeyed {lost}" in adopted.stdout
    cluster.start_controller()
    assert lab.sluice("drain", "h1").returncode == 0
    assert cluster.places() == {"m1": "h2"}


def test_a_controller_that_stood_still_fails_no_host(lab, patching):
    cluster = patching(2)
    homes = cluster.one_guest_a_host()
    run = cluster.start(cluster.plan(["h1"], soak_s=20))
    cluster.wait_for_state("h1", "soak")
    pid = cluster.controller_pid()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(35)  # longer than any agent may be silent
    os.kill(pid, signal.SIGCONT)
    result = lab.sluice("patch", "status", run, "--watch", timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "stood still" in (CONTROLLER / "controller.log").read_text()
    assert cluster.places() == homes


class SmallDisk:
    """With the controller's journal on it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.path = cluster.lab.tmp_path / "small"

    def __enter__(self):
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "full", self.path], check=True)
        self.cluster.kill_controller()
        for name in "journal.db", "journal.db-wal":
            if (CONTROLLER / name).exists():
                shutil.copy(CONTROLLER / name, self.path)
        config = CONTROLLER / "controller.toml"
        config.write_text(re.sub(r'journal = ".*"', f'journal = "{self.path}/journal.db"', config.read_text()))
        self.cluster.start_controller()
        return self

    def fill(self):
        with open(self.path / "filler", "wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"\0" * 4096)

    def wait_until_noticed(self):
        log = CONTROLLER / "controller.log"
        wait_until(lambda: "full" in log.read_text().split("--- started")[-1], 30, "a line in its log")

    def make_room(self):
        (self.path / "filler").unlink()

    def __exit__(self, *error):
        self.cluster.lab.down()
        subprocess.run(["umount", "-l", self.path], check=False)


def test_no_room_for_the_journal(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m0", "h1")
    with SmallDisk(cluster) as small:
        small.fill()
        result = lab.sluice("drain", "h1")
        assert result.returncode == 1, result.stdout + result.stderr
        assert "the disk under the journal" in result.stderr and result.stderr.count("\n") == 1
        small.wait_until_noticed()
        assert cluster.places() == {"m0": "h1"}
        small.make_room()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            cluster.kill_controller()
        cluster.start_controller()
        assert cluster.runs() == []
        assert all(cluster.in_service(host) for host in cluster.hosts)


def test_a_run_whose_journal_was_full_goes_on_to_its_end(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m0", "h1")
    done = lab.tmp_path / "patched"
    cluster.hook_holding("h1", "patch", f"echo 2 >{LAB_RUN_DIR}/h1/disk/version; echo once >>{done}")
    with SmallDisk(cluster) as small:
        run = cluster.start(cluster.plan(["h1"]))
        cluster.wait_for_state("h1", "patching")
        small.fill()
        cluster.release()
        wait_until(done.exists, 30, "the patch's end")
        small.wait_until_noticed()
        small.make_room()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            cluster.kill_controller()
        cluster.start_controller()
        result = lab.sluice("patch", "status", run, "--watch", timeout=300)
        assert result.returncode == 0, result.stdout + result.stderr
        assert done.read_text() == "once\n", "the patch ran again"
        assert cluster.places() == {"m0": "h1"}
        assert cluster.version("h1") == "2"
        assert cluster.in_service("h1")
