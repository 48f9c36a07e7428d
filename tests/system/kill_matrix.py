"""What tests/system/kill_matrix.txt says, and one cell of it done to real processes."""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import LAB_RUN_DIR, ROOT, GuestConsole

TABLE = Path(__file__).with_name("kill_matrix.txt")
# For whatever must come true sooner or later: only a failure takes as long.
PATIENCE_SECONDS = 60

# From this step on the source's record says "handed over".
FIRST_STEP_AFTER_RECORD = "source-state-loaded"
# At these, and once its commit is sent, the destination's copy runs.
STEPS_THAT_RUN_AT_DESTINATION = {"destination-resumed", "destination-running-said", "source-commit-sent"}


@dataclass(frozen=True)
class Expectation:
    step: str
    fault: str
    where: str       # "source", "dest", "gone" or "asks"
    statuses: tuple  # of `sluice migrate`; None: nobody heard it

    def __str__(self):
        return f"{self.step}/{self.fault}"


def read_table():
    """The cells in the table's order, and all steps it has a row for, in the order of a handover."""
    cells, steps, faults = [], [], None
    for line in TABLE.read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if faults is None:
            faults = words[1:]
            continue
        assert len(words) == len(faults) + 1, f"{TABLE.name}: a row of {len(words)} words: {line}"
        steps.append(words[0])
        for fault, word in zip(faults, words[1:]):
            if word == ".":
                continue
            where, status = word.split("/")
            statuses = tuple(None if number == "-" else int(number) for number in status.split(","))
            cells.append(Expectation(words[0], fault, where, statuses))
    return cells, steps


CELLS, STEPS = read_table()


def poll(condition):
    """The first true value of condition(), or its last one when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


def await_true(condition, complaint):
    assert poll(condition), complaint


class RunStates(threading.Thread):
    """Asks both QEMUs all the while whether their guest runs. Each has a monitor of its own on an abstract socket, whose name
    belongs to its host's network namespace."""

    def __init__(self, hosts, monitor):
        super().__init__(daemon=True)
        self.hosts = hosts
        self.monitor = monitor
        self.stopping = threading.Event()
        self.ran = {host: False for host in hosts}
        self.last = {host: "none" for host in hosts}
        self.complaints = []

    def run(self):
        connections = {host: None for host in self.hosts}
        while not self.stopping.wait(0.004):
            for host in self.hosts:
                state = "none"
                try:
                    connections[host] = connections[host] or self.connect(host)
                    state = self.ask(connections[host])
                except OSError:
                    if connections[host]:
                        connections[host].close()
                    connections[host] = None
                self.note(host, state)

    def connect(self, host):
        with open(f"/run/netns/sluice-{host}", "rb") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), 0x40000000) != 0:  # CLONE_NEWNET, of this thread alone
                raise OSError(ctypes.get_errno(), "setns")
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect("\0" + self.monitor)
        self.read_to_prompt(connection)
        return connection

    @staticmethod
    def read_to_prompt(connection):
        text = b""
        while not text.endswith(b"(qemu) "):
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("QEMU has closed its monitor")
            text += more
        return text.decode(errors="replace")

    def ask(self, connection):
        connection.sendall(b"info status\n")
        return re.search(r"VM status: ([^\r\n]+)", self.read_to_prompt(connection))[1]

    def note(self, host, state):
        """The destination is asked after the source: who ran before it answered and runs after it ran beside it."""
        source, destination = self.hosts
        self.last[host] = state
        if state != "running":
            return
        if host == source and self.ran[destination]:
            self.complaints.append("the source's copy ran after the destination's had run")
        self.ran[host] = True

    def stop(self):
        self.stopping.set()
        self.join()


class Pair:
    """Two hosts of the lab that one cell at a time has for itself."""

    def __init__(self, lab, rom, source, destination, directory):
        self.lab = lab
        self.rom = rom
        self.source = source
        self.destination = destination
        self.directory = directory
        self.config = directory / f"{source}.sluice.toml"
        # The lab's own, without the hosts of other pairs, whose agents may be down.
        others = re.compile(rf"(?!(?:{source}|{destination}) )h\d+ = ")
        lines = (LAB_RUN_DIR.parent / "sluice.toml").read_text().splitlines(keepends=True)
        self.config.write_text("".join(line for line in lines if not others.match(line)))

    @property
    def hosts(self):
        return self.source, self.destination

    def command(self, *arguments):
        return [ROOT / "build/control/cli/sluice", "--config", self.config, "--json", *arguments]

    def sluice(self, *arguments):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=60)

    def guests(self):
        """(name, host, state) of all guests; None while an agent does not answer."""
        listed = self.sluice("guests")
        if listed.returncode != 0:
            return None
        listing = json.loads(listed.stdout)
        guests = listing["guests"] if isinstance(listing, dict) else listing
        return sorted((guest["name"], guest["host"], guest["state"]) for guest in guests)

    def start_guest(self, name):
        console = LAB_RUN_DIR / f"{name}.console"
        console.unlink(missing_ok=True)
        arguments = ["-machine", "pc", "-accel", "tcg", "-cpu", "qemu64,-apic", "-nodefaults", "-no-user-config", "-display", "none",
                     "-bios", str(self.rom),
                     # Appended to, since the twin on the other host opens the same file while this one still writes it.
                     "-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console",
                     "-chardev", f"socket,id=watch,path={name},abstract=on,server=on,wait=off", "-mon", "chardev=watch,mode=readline"]
        path = self.directory / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "qemu"\nmemory = "32M"\n[qemu]\nbinary = "qemu-system-x86_64"\nargs = {json.dumps(arguments)}\n')
        started = self.sluice("guest", "start", path, "--on", self.source)
        assert started.returncode == 0, f"{name} cannot be started: {started.stderr}"
        return GuestConsole(console)

    def holds(self, step):
        return LAB_RUN_DIR / (self.source if step.startswith("source-") else self.destination) / "holds"

    def link(self, interface, state):
        subprocess.run(["ip", "-n", f"sluice-{self.source}", "link", "set", interface, state], check=True)

    def kill_qemu(self, host, name):
        pids = poll(lambda: self.lab.qemu_pids(host, name))
        assert len(pids) == 1, f"{name} has processes {pids} on {host}"
        os.kill(pids[0], signal.SIGKILL)

    def start_agents(self):
        for host in self.hosts:
            if self.lab.agent_pid(host) is None:
                self.lab.script("start", host)

    def reboot(self, host):
        """Nothing of what ran there, or was recorded there, is left."""
        pid = self.lab.agent_pid(host)
        if pid:
            os.kill(pid, signal.SIGKILL)
        await_true(lambda: self.lab.agent_pid(host) is None, f"{host}'s agent does not end")
        for pid, command in self.lab.processes(host):
            if "qemu-system" in command[0]:
                os.kill(pid, signal.SIGKILL)
        for name in ("guests", "handover", "outcome", "holds"):
            shutil.rmtree(LAB_RUN_DIR / host / name, ignore_errors=True)
        (LAB_RUN_DIR / host / "holds").mkdir()

    def reset(self):
        """After a cell that failed: as if nothing had ever been on both hosts."""
        for interface in ("mig0", "mgmt0"):
            self.link(interface, "up")
        for host in self.hosts:
            self.reboot(host)
        self.start_agents()


class Cell:
    """One fault at one step, with a guest of its own."""

    def __init__(self, pair, expectation, name):
        self.pair = pair
        self.expectation = expectation
        self.name = name
        self.logs = {host: LAB_RUN_DIR / host / "agent.log" for host in pair.hosts}
        self.log_begins = {host: log.stat().st_size for host, log in self.logs.items()}

    def run(self):
        """What is wrong, a line each."""
        try:
            wrong = self.act_and_judge()
        except Exception as error:  # pylint: disable=broad-except  # a cell that breaks must not stop the others
            wrong = [f"{type(error).__name__}: {error}"]
        if wrong:
            wrong += [f"--- {host}'s agent:\n" + self.log(host)[-6000:] for host in self.pair.hosts]
            self.pair.reset()
        return wrong

    def act_and_judge(self):
        console = self.pair.start_guest(self.name)
        states = RunStates(self.pair.hosts, self.name)
        states.start()
        try:
            if not poll(lambda: console.last() >= 2):
                return ["the guest did not start to count"]
            status, said = self.move_and_hit(states)
            self.heal()
            wrong = self.operator_wrong(states) if self.expectation.where == "asks" else []
            wrong += self.settled_wrong(console, self.final_host(states))
        finally:
            states.stop()
        wrong += states.complaints[:1]
        wrong += self.ran_wrong(states)
        wrong += self.console_wrong(console)
        wrong += self.status_wrong(status, said)
        wrong += self.left_behind()
        console.path.unlink(missing_ok=True)
        return wrong

    # ---- acting ----

    def move_and_hit(self, states):
        """Exit status of `sluice migrate` (None if it was killed) and what it said."""
        step = self.expectation.step
        holds = self.pair.holds(step)
        hold, held = holds / f"hold-{step}", holds / f"held-{step}"
        held.unlink(missing_ok=True)
        hold.touch()
        client = subprocess.Popen(self.pair.command("migrate", self.name, "--to", self.pair.destination), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            poll(lambda: held.exists() or client.poll() is not None)
            if not held.exists():
                hold.unlink()
                raise AssertionError(f"{step} was never reached: {client.communicate(timeout=PATIENCE_SECONDS)}")
            if step in STEPS_THAT_RUN_AT_DESTINATION:
                await_true(lambda: states.ran[self.pair.destination], "nobody saw the destination's copy run")
            self.hit(client)
            hold.unlink(missing_ok=True)
            output, errors = client.communicate(timeout=PATIENCE_SECONDS)
        finally:
            hold.unlink(missing_ok=True)
            if client.poll() is None:
                client.kill()
                client.communicate()
            held.unlink(missing_ok=True)
        return (None if client.returncode < 0 else client.returncode), (output + errors).strip()

    def hit(self, client):
        """At the return whoever the row says acts on the fault has noticed it; who has not yet rightly goes on."""
        fault, pair = self.expectation.fault, self.pair
        if fault == "source-agent":
            pair.lab.kill_agent(pair.source)
        elif fault == "dest-agent":
            pair.lab.kill_agent(pair.destination)
        elif fault == "source-qemu":
            pair.kill_qemu(pair.source, self.name)
            self.await_logged(pair.source, f"guest {self.name} has exited")
        elif fault == "dest-qemu":
            pair.kill_qemu(pair.destination, self.name)
        elif fault == "client":
            client.kill()
        elif fault == "dest-reboot":
            pair.reboot(pair.destination)
        elif fault == "migration-link":
            pair.link("mig0", "down")
        elif fault == "management-link":
            pair.link("mgmt0", "down")
        else:
            raise AssertionError(f"{TABLE.name}: no fault is called {fault}")
        if fault in ("dest-agent", "dest-qemu", "dest-reboot") and self.source_waits_before_record():
            self.await_logged(pair.source, f"guest={self.name} interrupted: ")

    def source_waits_before_record(self):
        step = self.expectation.step
        return step.startswith("source-") and STEPS.index(step) < STEPS.index(FIRST_STEP_AFTER_RECORD)

    def await_logged(self, host, text):
        await_true(lambda: text in self.log(host), f"{host}'s agent never logged: {text}")

    def heal(self):
        for interface in ("mig0", "mgmt0"):
            self.pair.link(interface, "up")
        self.pair.start_agents()

    def log(self, host):
        """What the host's agent has logged since the cell began."""
        return self.logs[host].read_bytes()[self.log_begins[host]:].decode(errors="replace")

    # ---- judging ----

    def final_host(self, states):
        """Who runs the guest in the end."""
        source, destination = self.pair.hosts
        asked = None if states.ran[destination] else source  # what the operator decides
        return {"source": source, "dest": destination, "gone": None, "asks": asked}[self.expectation.where]

    def operator_wrong(self, states):
        """The guest waits, and waits on after a restart of its agent; then the operator decides."""
        wanted = [(self.name, self.pair.source, "forgotten")]
        for _ in range(2):
            if not poll(lambda: self.pair.guests() == wanted):
                return [f"expected {wanted}; listed {self.pair.guests()}"]
            if states.last[self.pair.source] == "running":
                return ["the older copy runs without an operator's word"]
            self.pair.lab.kill_agent(self.pair.source)
            self.pair.start_agents()
        order = "stop" if states.ran[self.pair.destination] else "resume"
        poll(lambda: self.pair.guests() == wanted)
        obeyed = self.pair.sluice("guest", order, self.name)
        return [] if obeyed.returncode == 0 else [f"guest {order}: {obeyed.stderr}"]

    def settled_wrong(self, console, host):
        wanted = [(self.name, host, "running")] if host else []

        def processes():
            return {each: self.pair.lab.qemu_pids(each, self.name) for each in self.pair.hosts}

        def settled():
            return (self.pair.guests() == wanted
                    and all(len(pids) == (1 if each == host else 0) for each, pids in processes().items()))

        if not poll(settled):
            return [f"expected {wanted or 'no guest'}; listed {self.pair.guests()}, QEMU processes {processes()}"]
        if not host:
            return []
        begin = console.last()
        going_on = poll(lambda: console.last() >= begin + 3)
        stopped = self.pair.sluice("guest", "stop", self.name)
        wrong = [] if going_on else ["the guest does not count on"]
        return wrong + ([] if stopped.returncode == 0 else [f"guest stop: {stopped.stderr}"])

    def ran_wrong(self, states):
        ran = states.ran[self.pair.destination]
        if self.expectation.where == "source" and ran:
            return ["the destination's copy ran although the source kept the guest"]
        if self.expectation.where == "dest" and not ran:
            return ["nobody saw the destination's copy run"]
        return []

    @staticmethod
    def console_wrong(console):
        try:
            console.assert_unharmed()
        except AssertionError as error:
            return [str(error)]
        return []

    def status_wrong(self, status, said):
        wanted = self.expectation.statuses
        if status in wanted:
            # Who is told that the outcome is unknown is told what to do.
            return [] if status != 3 or "sluice guests" in said else [f"status 3 without what to do: {said}"]
        return [f"exit status {status}, expected {' or '.join(map(str, wanted))}: {said}"]

    def left_behind(self):
        """Files, and processes that belong to the guest."""
        wrong = []
        for host in self.pair.hosts:
            for pattern in ("guests/*", "handover/*.json", "holds/*"):
                wrong += [f"left behind: {path}" for path in (LAB_RUN_DIR / host).glob(pattern)]
            if not poll(lambda host=host: not self.wardens(host)):
                wrong.append(f"left behind on {host}: wardens {self.wardens(host)}")
        return wrong

    def wardens(self, host):
        return [pid for pid, command in self.pair.lab.processes(host) if "--warden" in command]
