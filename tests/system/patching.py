"""A lab with a controller, memory guests and plan files: what the tests of patch runs share."""
import collections
import contextlib
import json
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

from conftest import LAB_RUN_DIR, wait_until

CONTROLLER = LAB_RUN_DIR / "controller"
HOOKS_LOG = LAB_RUN_DIR / "hooks/log"
DEFAULT_HOOKS = """silence = { name = "silence", on = "controller" }
patch = "patch"
rollback = "rollback"
version = { name = "version", idempotent = true }
unsilence = { name = "unsilence", on = "controller" }
"""
# Compared only where that is the subject: they are figures of two cores that all hosts share.
NOTHING_COMPARED = {"goodput_ratio_min": 0, "downtime_ratio_max": 0, "loss_max": 1, "steal_max": 1}
MEMORY_CANARY = 'driver = "memory"\nmemory = "16M"\n'
# It needs nothing but its firmware.
QEMU_CANARY = 'driver = "qemu"\nmemory = "32M"\n[qemu]\nbinary = "/usr/bin/qemu-system-x86_64"\nargs = ["-display", "none"]\n'


class Patching:
    def __init__(self, lab, hosts, **options):
        self.lab = lab
        self.hosts = [f"h{number}" for number in range(1, hosts + 1)]
        lab.up(hosts=hosts, **options)

    # ------------------------------------------------------------------------------------------------ guests

    def memory_guest(self, name, host, memory="64M", dirty_rate="1M"):
        path = self.lab.tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "memory"\nmemory = "{memory}"\n[memory]\ndirty_rate = "{dirty_rate}"\n')
        self.lab.json("guest", "start", path, "--on", host)
        self.lab.guests.append(name)

    def one_guest_a_host(self):
        """m1 on h1 and so on; returns where they are."""
        for host in self.hosts:
            self.memory_guest(f"m{host[1:]}", host, memory="32M")
        return self.places()

    def guests(self, down=()):
        """Of all hosts but those that are down: a busy machine delays answers."""
        def whole():
            listing = self.lab.json("guests")
            return {host["host"] for host in listing["unreachable"]} <= set(down) and listing

        return wait_until(whole, 60, "an answer of every host")["guests"]

    def places(self):
        return {guest["name"]: guest["host"] for guest in self.guests()}

    def assert_running(self, names, down=()):
        """All of them and nothing else, each once, and none stands still."""
        guests = self.guests(down)
        assert sorted(guest["name"] for guest in guests) == sorted(names)
        assert {guest["state"] for guest in guests} == {"running"}, guests

    def moves_begun(self):
        """How often agents began to take each guest, by their own logs."""
        sessions = collections.defaultdict(set)
        for host in self.hosts:
            log = (LAB_RUN_DIR / host / "agent.log").read_text(errors="replace")
            for session, guest in re.findall(r"arrival session=(\w+) guest=(\S+)", log):
                sessions[guest].add(session)
        return {guest: len(each) for guest, each in sessions.items()}

    # ------------------------------------------------------------------------------------------------ hosts and hooks

    def version(self, host):
        return (LAB_RUN_DIR / host / "disk/version").read_text().strip()

    def versions(self):
        return [self.version(host) for host in self.hosts]

    def boot_id(self, host):
        return (LAB_RUN_DIR / host / "boot_id").read_text().strip()

    def in_service(self, host):
        # Without an answer of the controller, which a busy machine delays, nothing is said of that.
        def known():
            hosts = {each["name"]: each for each in self.lab.json("hosts")["hosts"]}
            return hosts[host] if "cordoned_by" in hosts.get(host, {}) else None

        about = wait_until(known, 30, f"what the controller says of {host}")
        return not about["cordoned_by"] and not about["quarantined"]

    def hook(self, where, name, body):
        path = LAB_RUN_DIR / "hooks" / where / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def hook_holding(self, where, name, body=""):
        """Stands still until release(), in whatever place of a run it is called."""
        self.hook(where, name, f"while [ ! -e {self.lab.tmp_path}/go ]; do sleep 0.1; done\n{body}")

    def release(self):
        (self.lab.tmp_path / "go").touch()

    # ------------------------------------------------------------------------------------------------ runs

    def plan(self, hosts, *, expected="2", hooks=DEFAULT_HOOKS, more="", placement="home", reboot_timeout_s=300, gate_s=0,
             soak_s=0, compared=None):
        path = self.lab.tmp_path / "plan.toml"
        path.write_text(
            f'name = "test"\nhosts = {json.dumps(hosts)}\n{more}\n[hooks]\n{hooks}'
            + (f'[expect]\nversion = "{expected}"\n' if expected else "")
            + f'[reboot]\ntimeout_s = {reboot_timeout_s}\n[refill]\nplacement = "{placement}"\ngate_s = {gate_s}\n'
            f'[soak]\nseconds = {soak_s}\n'
            + "".join(f"{key} = {value}\n" for key, value in (NOTHING_COMPARED | (compared or {})).items()))
        return path

    def with_canary(self, plan, guest=MEMORY_CANARY):
        (plan.parent / "canary.toml").write_text(f'name = "canary"\n{guest}')
        plan.write_text(plan.read_text() + '[canary]\nguest_file = "canary.toml"\n')
        return plan

    def start(self, plan):
        return self.lab.json("patch", "run", plan)["run"]

    def runs(self):
        return self.lab.json("patch", "list")["runs"]

    def status(self, run=None):
        return self.lab.json("patch", "status", *([run] if run else []))

    def states(self, run=None):
        return {host["host"]: host["state"] for host in self.status(run)["hosts"]}

    def wait_for_states(self, run, states, seconds=120):
        """Of some hosts; what became of the run instead is printed."""
        deadline = time.monotonic() + seconds
        while not states.items() <= self.states(run).items():
            assert time.monotonic() < deadline, f"not reached: {states}\n{json.dumps(self.status(run), indent=1)}"
            time.sleep(0.1)

    def wait_for_state(self, host, state):
        self.wait_for_states(None, {host: state})

    def refused(self, *arguments, words):
        """One line, status 1, and no run."""
        before = self.runs()
        result = self.lab.sluice(*arguments)
        assert result.returncode == 1, result.stdout + result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        for word in words:
            assert word in result.stderr, f"{word} in {result.stderr}"
        assert self.runs() == before
        assert all(self.in_service(host) for host in self.hosts)

    # ------------------------------------------------------------------------------------------------ the controller

    def controller_pid(self):
        return int((CONTROLLER / "controller.pid").read_text())

    def kill_controller(self):
        pid = self.controller_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), 10, "the controller's end")

    def start_controller(self):
        self.lab.script("start", "controller")
        wait_until(lambda: self.lab.sluice("patch", "list").returncode == 0, 30, "the controller")

    def configure(self, edit):
        """edit(text) returns the controller's new configuration, with which it is started again."""
        config = CONTROLLER / "controller.toml"
        config.write_text(edit(config.read_text()))
        self.kill_controller()
        self.start_controller()


def journal(run):
    """The records of a run."""
    with contextlib.closing(sqlite3.connect(f"file:{CONTROLLER}/journal.db?mode=ro", uri=True)) as database:
        return [json.loads(body) for (body,) in
                database.execute("SELECT body FROM journal WHERE run = ? ORDER BY sequence", (run,))]


def moves(run):
    """(purpose, whether it went well) of every migration of a run that has ended, in any order."""
    records = journal(run)
    ended = {record["id"]: record["ok"] for record in records if record["type"] == "outcome"}
    return sorted((record["purpose"], ended[record["id"]]) for record in records
                  if record["type"] == "intent" and record["action"] == "migrate" and record["id"] in ended)
