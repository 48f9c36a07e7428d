"""Real hosts (network namespaces), real agents, real QEMU guests: what the system tests share."""
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB_RUN_DIR = Path("/run/sluice/lab")
TICK = re.compile(r"tick (\d+) errors (\d+)")


def pytest_addoption(parser):
    parser.addoption("--migrations", type=int, default=6,
                     help="how often the loaded Linux guest is moved in a row (50 for the full promise)")
    parser.addoption("--impaired-migrations", type=int, default=100,
                     help="how often a guest is moved through a network that loses, reorders and doubles frames")
    parser.addoption("--repeat", type=int, default=1, help="how often each cell of the kill matrix is run in a row")
    parser.addoption("--pairs", type=int, default=2, help="pairs of hosts that work through the kill matrix at once")
    parser.addoption("--rate-attempts", type=int, default=3, help="of how many attempts the figures of rate control are medians")
    parser.addoption("--bench-size", default="1G", help="memory of the memory guests (4G for the full promise)")
    parser.addoption("--controller-kills", type=int, default=10, help="how often the controller is killed in the middle of one run")
    parser.addoption("--controller-seed", type=int, default=0, help="where; 0: chosen at random and printed")


def wait_until(condition, seconds, what):
    """Polls until condition() is true; the test fails, saying what was waited for, when it does not come true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s in vain for {what}")


class GuestConsole:
    """The serial console of the lab's guest: an increasing counter with the guest's own error count."""

    def __init__(self, path):
        self.path = Path(path)

    def ticks(self):
        if not self.path.exists():
            return []
        return [(int(m[1]), int(m[2])) for m in TICK.finditer(self.path.read_text(errors="replace"))]

    def last(self):
        ticks = self.ticks()
        return ticks[-1][0] if ticks else 0

    def wait_for_more(self, count=5, seconds=60):
        begin = self.last()
        wait_until(lambda: self.last() >= begin + count, seconds, f"{count} more ticks on {self.path}")

    def assert_unharmed(self):
        ticks = self.ticks()
        assert ticks, f"the guest printed nothing: {self.path}"
        numbers = [number for number, _ in ticks]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), (
            "gap or repeat in the console's counter: "
            + str([pair for pair in zip(numbers, numbers[1:]) if pair[1] != pair[0] + 1][:5]))
        assert ticks[-1][1] == 0, f"the guest counted {ticks[-1][1]} memory errors"


class Lab:
    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.guests = []

    def script(self, *arguments, **environment):
        result = subprocess.run([ROOT / "scripts" / "lab", *map(str, arguments)], capture_output=True, text=True, check=False,
                                env={**os.environ, **environment})
        assert result.returncode == 0, f"scripts/lab {' '.join(map(str, arguments))}: {result.stdout}{result.stderr}"
        return result.stdout

    def up(self, holds=False, **options):
        """With `holds`, agents can be held at any step of a handover."""
        arguments = []
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        self.script("up", *arguments, **({"LAB_HOLDS": "1"} if holds else {}))

    def down(self):
        self.script("down")

    def sluice(self, *arguments, timeout=120):
        return subprocess.run([ROOT / "build/control/cli/sluice", *map(str, arguments)], capture_output=True, text=True,
                              check=False, timeout=timeout)

    def json(self, *arguments, timeout=120):
        result = self.sluice("--json", *arguments, timeout=timeout)
        assert result.returncode == 0, f"sluice {' '.join(map(str, arguments))}: {result.stdout}{result.stderr}"
        return json.loads(result.stdout.strip().splitlines()[-1])

    def spawn(self, *arguments):
        return subprocess.Popen([ROOT / "build/control/cli/sluice", *map(str, arguments)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def guest_file(self, name, **options):
        path = self.tmp_path / f"{name}.toml"
        arguments = []
        for key, value in options.items():
            arguments += [f"--{key}"] if value is True else [f"--{key}", str(value)]
        self.script("guest", name, *arguments, "--output", path)
        return path

    def start_guest(self, name, host="h1", **options):
        path = self.guest_file(name, **options)
        console = GuestConsole(re.search(r'path=([^,"]+)', path.read_text())[1])
        if console.path.exists():
            console.path.unlink()
        self.json("guest", "start", path, "--on", host)
        self.guests.append(name)
        console.wait_for_more(3, 180)
        return console

    def migrate(self, guest, to, *options, timeout=120):
        return self.json("migrate", guest, "--to", to, *options, timeout=timeout)

    def guest_host(self, name):
        listing = self.json("guests")
        guests = listing["guests"] if isinstance(listing, dict) else listing
        hosts = [guest["host"] for guest in guests if guest["name"] == name]
        assert len(hosts) <= 1, f"{name} is on several hosts: {hosts}"
        return hosts[0] if hosts else None

    def agent_pid(self, host):
        for pid in self.processes(host):
            if "sluiced" in pid[1][0] and "--warden" not in pid[1]:
                return pid[0]
        return None

    def processes(self, host):
        """(pid, command line) of everything that runs in a host's namespace."""
        listing = subprocess.run(["ip", "netns", "pids", f"sluice-{host}"], capture_output=True, text=True, check=False)
        found = []
        for word in listing.stdout.split():
            try:
                command = Path(f"/proc/{word}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            found.append((int(word), command))
        return found

    def qemu_pids(self, host, name):
        return [pid for pid, command in self.processes(host)
                if "qemu-system" in command[0] and any(f"guests/{name}/" in word for word in command)]

    def kill_agent(self, host):
        pid = self.agent_pid(host)
        assert pid, f"no agent runs on {host}"
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.agent_pid(host) is None, 60, f"the end of {host}'s agent")


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.down()
    yield lab
    lab.down()
