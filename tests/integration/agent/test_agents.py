"""Two real agents on this machine, joined by memif: whole migrations, and what is left when either end is killed."""
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SLUICED = os.environ["SLUICED"]
SLUICE = os.environ["SLUICE"]
COUNTER_ADDRESS = 0x10000
BALLAST_ADDRESS = 16 << 20
BALLAST_BYTES = 40 << 20


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s in vain for {what}")


def rom():
    """A ROM that counts at COUNTER_ADDRESS and rewrites 16 pages without a pause; it needs no firmware."""
    code = bytes.fromhex("FA B80010 8ED8 B80020 8EC0 66FF060000 A10000 31FF B91000 268905 81C70010 E2F7 EBE8")
    return code.ljust(65536 - 16, b"\0") + bytes.fromhex("E90D00").ljust(16, b"\0")


class Agents:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.processes = {}
        self.logs = []
        self.pki("init", self.directory)
        self.pki("client", "operator", "--role", "operator", "--dir", self.directory)
        for host in ("h1", "h2"):
            self.pki("host", host, "--dir", self.directory)
        (self.directory / "sluice.toml").write_text("[hosts]\n" + "".join(
            f'{host} = "unix:{self.directory}/{host}/agent.sock"\n' for host in ("h1", "h2")) + self.security("operator"))

    @staticmethod
    def pki(*arguments):
        subprocess.run([SLUICE, "pki", *arguments], check=True, capture_output=True)

    @staticmethod
    def security(name):
        return f'[security]\nca = "ca.pem"\ncertificate = "{name}.pem"\nkey = "{name}-key.pem"\n'

    def write_config(self, host, rate, plaintext):
        other = "h2" if host == "h1" else "h1"
        (self.directory / f"{host}.toml").write_text(f"""
host = "{host}"
run_dir = "{self.directory}/{host}"
listen = ["unix:{self.directory}/{host}/agent.sock"]
memory = "1G"
[peers]
{other} = "unix:{self.directory}/{other}/agent.sock"
[dataplane]
port = "memif:{self.directory}/memif.sock"
role = "{'server' if host == 'h1' else 'client'}"
address = "10.77.99.{host[1]}/24"
memory = "128M"
{f'rate = "{rate}"' if rate else ''}
{self.security(host)}{'allow_plaintext = true' if plaintext else ''}
""")

    def start(self, *hosts, rate=None, plaintext=()):
        for host in hosts or ("h1", "h2"):
            self.write_config(host, rate, host in plaintext)
            log = open(self.directory / f"{host}.log", "ab")
            self.logs.append(log)
            self.processes[host] = subprocess.Popen([SLUICED, "--config", self.directory / f"{host}.toml"], stderr=log)
        for host in hosts or ("h1", "h2"):
            wait_until(lambda: self.answers(host), 60, f"{host} to answer: {self.log(host)}")

    def answers(self, host):
        listed = json.loads(self.sluice("--json", "hosts").stdout or "{}")
        return any(entry["name"] == host and "memory_bytes" in entry for entry in listed.get("hosts", []))

    def log(self, host):
        return (self.directory / f"{host}.log").read_text()

    def kill(self, host, number=signal.SIGKILL):
        self.processes[host].send_signal(number)
        self.processes[host].wait(60)

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self.logs:
            log.close()

    def command(self, *arguments):
        return [SLUICE, "--config", self.directory / "sluice.toml", *map(str, arguments)]

    def sluice(self, *arguments):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=60)

    def json(self, *arguments):
        result = self.sluice("--json", *arguments)
        assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}{self.log('h1')}{self.log('h2')}"
        return json.loads(result.stdout.strip().splitlines()[-1])

    def guest(self, name):
        """None if it is nowhere. Its new host calls it "incoming" for a moment after its old one has said that it moved."""
        def copies():
            answer = self.json("guests")
            listed = [guest for guest in answer["guests"] if guest["name"] == name]
            found = [guest for guest in listed if guest["state"] != "incoming"]
            # On a busy machine an agent that runs may not answer the command line in time.
            late = [host["host"] for host in answer["unreachable"] if self.processes[host["host"]].poll() is None]
            return (found,) if found or not (listed or late) else None
        found, = wait_until(copies, 60, f"{name} to be on one host")
        assert len(found) <= 1, f"{name} is on several hosts: {found}"
        return found[0] if found else None

    def start_memory_guest(self, name, memory="64M", rate="20M", host="h1"):
        path = self.directory / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "memory"\nmemory = "{memory}"\n[memory]\ndirty_rate = "{rate}"\n')
        return self.sluice("guest", "start", path, "--on", host)

    def start_qemu_guest(self, name, more=()):
        image = self.directory / "rom.bin"
        image.write_bytes(rom())
        path = self.directory / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "qemu"\nmemory = "64M"\n[qemu]\nbinary = "qemu-system-x86_64"\n'
                        f'args = ["-machine", "pc", "-accel", "tcg", "-nographic", "-serial", "none", "-monitor", "none",'
                        f' "-vga", "none", "-net", "none", "-bios", "{image}"'
                        + "".join(f', "{argument}"' for argument in more) + ']\n')
        self.json("guest", "start", path, "--on", "h1")
        return QemuGuest(self, name)

    def begin_migration(self, name, *options):
        """Returns once pages are on their way."""
        process = subprocess.Popen(self.command("--json", "migrate", name, "--to", "h2", "--watch", *options),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout:
            update = json.loads(line)
            if update.get("phase") == "streaming" and update.get("sent_bytes", 0) > 0:
                return process
        pytest.fail(f"the migration never streamed: {process.stderr.read()}")


def open_ram(pid, name, mode):
    """A guest's RAM past all page tables, through the memory's file."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if f"sluice-ram-{name}" in os.readlink(entry):
            return open(entry, mode, buffering=0)
    pytest.fail("the guest's RAM is not found")


class QemuGuest:
    """A guest that counts in its RAM, with pages of random data beside it."""

    def __init__(self, agents, name):
        self.agents = agents
        self.name = name
        self.ballast = random.Random(name).randbytes(BALLAST_BYTES)
        with self.ram("r+b") as ram:
            ram.seek(BALLAST_ADDRESS)
            ram.write(self.ballast)
        self.assert_counts()

    def pid(self):
        return self.agents.guest(self.name)["pid"]

    def ram(self, mode="rb"):
        return open_ram(self.pid(), self.name, mode)

    def counter(self):
        with self.ram() as ram:
            ram.seek(COUNTER_ADDRESS)
            return int.from_bytes(ram.read(4), "little")

    def assert_counts(self):
        before = self.counter()
        wait_until(lambda: self.counter() != before, 60, f"{self.name} to count on")

    def overwrite_ballast(self, beginning):
        self.ballast = beginning + self.ballast[len(beginning):]
        with self.ram("r+b") as ram:
            ram.seek(BALLAST_ADDRESS)
            ram.write(beginning)

    def assert_unharmed(self):
        self.assert_counts()
        with self.ram() as ram:
            ram.seek(BALLAST_ADDRESS)
            assert ram.read(BALLAST_BYTES) == self.ballast


def twins(agents, host, name):
    """Processes of QEMU that serve this guest on this host."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "qemu-system" in command and f"{agents.directory}/{host}/guests/{name}/" in command:
            found.append(int(entry.name))
    return found


@pytest.fixture(name="agents")
def make_agents():
    with tempfile.TemporaryDirectory(prefix="sluice-agents-", dir="/dev/shm") as directory:
        agents = Agents(directory)
        yield agents
        agents.stop()
        for host in ("h1", "h2"):
            for path in Path(directory).glob(f"{host}/guests/*"):
                for pid in twins(agents, host, path.name):
                    os.kill(pid, signal.SIGKILL)


def assert_refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def assert_sound(summary):
    assert summary["status"] == "completed"
    assert summary["proof"]["match"]
    assert sum(summary["downtime"].values()) == pytest.approx(summary["downtime_ms"], abs=1e-6)


def test_agents_say_which_qemu_their_host_has(agents):
    agents.start()
    says = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\d+\.\d+\.\d+", says)[0]
    assert [host["qemu_version"] for host in agents.json("hosts")["hosts"]] == [version, version]


def test_doctor_measures_the_path_without_a_guest(agents):
    agents.start()
    found = agents.json("doctor", "--on", "h1", "--peer", "h2")
    assert [host["name"] for host in found["hosts"]] == ["h1", "h2"]
    for host in found["hosts"]:
        assert f"steering: {host['steering']}" in host["remarks"]
    assert [(path["from"], path["to"]) for path in found["paths"]] == [("h1", "h2"), ("h2", "h1")]
    for path in found["paths"]:
        assert path["mtu"] == path["configured_mtu"] >= 1500 and path["remark"] == ""
        assert 0 < path["round_trip_ms"] < 1000


def test_memory_guest_moves_there_and_back(agents):
    agents.start()
    assert agents.start_memory_guest("pages", rate="50M").returncode == 0
    for to, options in (("h2", []), ("h1", ["--mode", "quick"]), ("h2", ["--proof", "full"]),
                        ("h1", ["--max-iterations", "1"])):
        summary = agents.json("migrate", "pages", "--to", to, *options)
        assert_sound(summary)
        assert agents.guest("pages")["host"] == to
        assert agents.guest("pages")["state"] == "running"
    assert summary["iterations"] == 1
    assert agents.json("hosts")["hosts"][1]["memory_used_bytes"] == 0


def test_frames_are_encrypted_unless_both_hosts_allow_plaintext(agents):
    agents.start()
    assert agents.start_memory_guest("pages").returncode == 0
    summary = agents.json("migrate", "pages", "--to", "h2")
    assert_sound(summary)
    assert summary["encryption"] == "aes-256-gcm"
    assert "bad_tag" not in summary["frames_dropped"]
    assert_refused(agents.sluice("migrate", "pages", "--to", "h1", "--plaintext"), "h2", "allow_plaintext")
    agents.stop()
    agents.start(plaintext=("h1",))
    assert agents.start_memory_guest("pages").returncode == 0
    # The source allows it, the destination does not.
    assert_refused(agents.sluice("migrate", "pages", "--to", "h2", "--plaintext"), "h2", "allow_plaintext")
    assert agents.guest("pages")["state"] == "running"
    agents.stop()
    agents.start(plaintext=("h1", "h2"))
    assert agents.start_memory_guest("pages").returncode == 0
    assert agents.json("migrate", "pages", "--to", "h2", "--plaintext")["encryption"] == "none"
    assert agents.json("migrate", "pages", "--to", "h1")["encryption"] == "aes-256-gcm"


def test_bench_verifies_every_page(agents):
    agents.start()
    result = agents.json("bench", "--from", "h1", "--to", "h2", "--size", "128M", "--dirty-rate", "100M", "--time", "1")
    assert result["verify"]["mismatches"] == 0 and result["verify"]["pages"] > 0
    assert agents.json("guests")["guests"] == []


def test_qemu_guest_moves_there_and_back(agents):
    agents.start()
    guest = agents.start_qemu_guest("tiny")
    for to in ("h2", "h1", "h2"):
        before = guest.counter()
        assert_sound(agents.json("migrate", "tiny", "--to", to))
        assert guest.counter() >= before
        guest.assert_unharmed()
        assert len(twins(agents, "h1", "tiny")) + len(twins(agents, "h2", "tiny")) == 1


def test_what_a_disk_reads_past_the_tracker_arrives(agents):
    """Direct I/O writes RAM past the page tables of QEMU. So does this test, through the memory's file."""
    agents.start(rate="80M")
    disk = agents.directory / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    guest = agents.start_qemu_guest("tiny", ("-drive", f"file={disk},format=raw,cache=none"))
    process = agents.begin_migration("tiny")
    for line in process.stdout:
        if json.loads(line).get("sent_bytes", 0) > BALLAST_BYTES // 2:
            break
    guest.overwrite_ballast(random.Random(1).randbytes(8192))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert_sound(json.loads(output.strip().splitlines()[-1]))
    guest.assert_unharmed()


def test_a_writer_that_the_tracker_cannot_see_cancels_the_migration(agents):
    """The audit finds it: pages that were sent hold something else, and no scan reports a write to them."""
    agents.start(rate="160M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    for line in process.stdout:
        if json.loads(line).get("sent_bytes", 0) > BALLAST_BYTES // 4:
            break
    guest.overwrite_ballast(random.Random(2).randbytes(BALLAST_BYTES // 8))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert len(errors.strip().splitlines()) == 1, errors
    offset = re.search(r"offset (0x[0-9a-f]+) of guest tiny", errors)
    assert offset, errors
    assert BALLAST_ADDRESS <= int(offset[1], 16) < BALLAST_ADDRESS + BALLAST_BYTES // 8
    assert agents.guest("tiny")["state"] == "running"
    assert agents.guest("tiny")["host"] == "h1"
    guest.assert_unharmed()
    wait_until(lambda: not twins(agents, "h2", "tiny"), 60, "the twin's end")
    # Once the writer has gone, nothing stands in the way.
    summary = agents.json("migrate", "tiny", "--to", "h2")
    assert_sound(summary)
    assert summary["proof"]["audited_pages"] > 0
    guest.assert_unharmed()


@pytest.mark.parametrize("proof", ["sent", "full"])
def test_a_bit_that_flips_in_the_copy_is_found_before_it_may_run(agents, proof):
    agents.start(rate="160M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny", "--proof", proof)
    twin = wait_until(lambda: twins(agents, "h2", "tiny"), 60, "the twin")[0]
    with open_ram(twin, "tiny", "r+b") as copy:
        def first_byte():
            copy.seek(BALLAST_ADDRESS)
            return copy.read(1)
        wait_until(lambda: first_byte() == guest.ballast[:1], 60, "the page to arrive")
        copy.seek(BALLAST_ADDRESS + 99)
        copy.write(bytes([guest.ballast[99] ^ 1]))
        copy.flush()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    summary = json.loads(output.strip().splitlines()[-1])
    assert summary["status"] == "failed"
    assert summary["pages_sent"] > 0 and summary["bytes_wire"] > summary["pages_sent"] * 4096, "it says what was done in vain"
    assert summary["frames_sent"] >= summary["bytes_wire"] / (summary["mtu"] + 14), "none is larger"
    assert "proof" in errors and f"extent {BALLAST_ADDRESS >> 21} of guest tiny" in errors, errors
    assert agents.guest("tiny")["host"] == "h1"
    guest.assert_unharmed()
    wait_until(lambda: not twins(agents, "h2", "tiny"), 60, "the twin's end")


def test_wrong_requests_change_nothing(agents):
    agents.start()
    assert agents.start_memory_guest("pages").returncode == 0
    assert_refused(agents.start_memory_guest("pages"), "pages", "h1")
    assert_refused(agents.start_memory_guest("huge", memory="2G"), "huge", "memory", "2048", "1024")
    assert_refused(agents.sluice("migrate", "nobody", "--to", "h2"), "nobody")
    assert_refused(agents.sluice("migrate", "pages", "--to", "h1"), "pages", "h1")
    assert agents.start_memory_guest("large", memory="1000M", rate="0", host="h2").returncode == 0
    assert_refused(agents.sluice("migrate", "pages", "--to", "h2"), "h2", "memory")
    agents.kill("h2")
    assert_refused(agents.sluice("migrate", "pages", "--to", "h2"), "h2")
    assert agents.guest("pages")["state"] == "running"


def test_a_moving_guest_is_busy_and_can_be_watched(agents):
    agents.start(rate="100M")
    assert agents.start_memory_guest("pages", rate="0").returncode == 0
    process = agents.begin_migration("pages")
    assert_refused(agents.sluice("migrate", "pages", "--to", "h2"), "pages", "moving", "h2")
    assert_refused(agents.sluice("guest", "stop", "pages"), "pages", "moving")
    # Its first watcher goes away; the migration does not.
    process.kill()
    process.communicate()
    assert agents.sluice("migrate", "pages", "--watch").returncode == 0
    assert agents.guest("pages")["host"] == "h2"


def test_two_agents_cannot_share_a_run_directory(agents):
    agents.start()
    second = subprocess.run([SLUICED, "--config", agents.directory / "h1.toml"], capture_output=True, text=True,
                            check=False, timeout=60)
    assert second.returncode == 1
    assert f"{agents.directory}/h1" in second.stderr
    assert agents.answers("h1")


def test_destination_agent_killed_while_streaming(agents):
    agents.start(rate="80M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    agents.kill("h2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "connection to host h2 broke off" in errors, "the source did not hear of it but waited for frames in vain"
    assert agents.guest("tiny")["state"] == "running"
    guest.assert_unharmed()
    wait_until(lambda: not twins(agents, "h2", "tiny"), 60, "the twin's end")
    agents.start("h2")
    assert_sound(agents.json("migrate", "tiny", "--to", "h2"))
    guest.assert_unharmed()


def test_source_agent_killed_while_streaming(agents):
    agents.start(rate="80M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    agents.kill("h1")
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_until(lambda: not twins(agents, "h2", "tiny"), 60, "the twin's end")
    agents.start("h1")
    assert agents.guest("tiny")["state"] == "running"
    guest.assert_unharmed()
    assert_sound(agents.json("migrate", "tiny", "--to", "h2"))
    guest.assert_unharmed()


def test_twin_killed_while_streaming(agents):
    agents.start(rate="80M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    [twin] = twins(agents, "h2", "tiny")
    os.kill(twin, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "twin of guest tiny on h2 has exited" in errors
    assert [entry["host"] for entry in agents.json("guests")["guests"]] == ["h1"]
    assert agents.json("hosts")["hosts"][1]["memory_used_bytes"] == 0
    guest.assert_unharmed()


def test_source_qemu_killed_while_streaming(agents):
    agents.start(rate="80M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    os.kill(guest.pid(), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exited" in errors
    wait_until(lambda: not twins(agents, "h2", "tiny"), 60, "the twin's end")
    wait_until(lambda: agents.guest("tiny") is None, 60, "the guest to be forgotten")


def test_an_agent_that_is_told_to_end_cancels_and_leaves_the_guest_running(agents):
    agents.start(rate="80M")
    guest = agents.start_qemu_guest("tiny")
    process = agents.begin_migration("tiny")
    agents.kill("h1", signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert agents.processes["h1"].returncode == 0
    agents.start("h1")
    assert agents.guest("tiny")["state"] == "running"
    guest.assert_unharmed()
