"""Each wrong input: one clear line, a non-zero exit status, nothing moved and nothing left."""
import subprocess

import pytest

from conftest import LAB_RUN_DIR, ROOT, wait_until
from test_crash import begin_migration, finish

MEMORY_GUEST = 'name = "{name}"\ndriver = "memory"\nmemory = "{memory}"\n[memory]\ndirty_rate = "0"\npattern = "uniform"\n'


@pytest.fixture
def two_hosts(lab):
    lab.up(hosts=2, link="veth")
    return lab


def assert_refused(result, status, *words):
    assert result.returncode == status, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, f"one line expected: {result.stderr}"
    for word in words:
        assert word in lines[0], f"'{word}' is missing in: {lines[0]}"


def start_memory_guest(lab, name="pages", memory="64M", host="h1"):
    path = lab.tmp_path / f"{name}.toml"
    path.write_text(MEMORY_GUEST.format(name=name, memory=memory))
    return lab.sluice("guest", "start", path, "--on", host)


def test_unknown_names_and_same_host(two_hosts):
    lab = two_hosts
    assert start_memory_guest(lab).returncode == 0
    assert_refused(lab.sluice("migrate", "nobody", "--to", "h2"), 1, "nobody")
    assert_refused(lab.sluice("migrate", "pages", "--to", "nowhere"), 1, "nowhere")
    assert_refused(lab.sluice("guest", "start", lab.tmp_path / "pages.toml", "--on", "nowhere"), 1, "nowhere")
    assert_refused(lab.sluice("migrate", "pages", "--to", "h1"), 1, "pages", "h1")
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2", "--downtime-limit", "soon"), 2, "soon")


def test_destination_without_memory(two_hosts):
    lab = two_hosts
    config = LAB_RUN_DIR / "h2/agent.toml"
    config.write_text(config.read_text().replace('memory = "8G"', 'memory = "512M"'))
    lab.kill_agent("h2")
    lab.script("start", "h2")
    assert start_memory_guest(lab, "first", "300M", "h1").returncode == 0
    assert start_memory_guest(lab, "second", "300M", "h2").returncode == 0
    assert_refused(lab.sluice("migrate", "first", "--to", "h2"), 1, "h2", "memory")
    assert lab.guest_host("first") == "h1"


def test_guest_already_moving_and_two_watchers(lab):
    lab.up(hosts=2, link="veth", rate="500mbit")
    lab.start_guest("mover", memory="512M", rate="10M")
    process = begin_migration(lab, "mover")
    assert_refused(lab.sluice("migrate", "mover", "--to", "h2"), 1, "mover", "moving")
    watcher = lab.sluice("migrate", "mover", "--watch")
    assert watcher.returncode == 0, watcher.stderr
    finish(process, 60)
    assert process.returncode == 0


@pytest.mark.parametrize("text, words", [
    ('name = "x"\ndriver = "memory"\nmemory = 5 5\n', ("3",)),
    ('name = "x"\ndriver = "warp"\nmemory = "64M"\n', ("warp",)),
    ('name = "x"\ndriver = "memory"\nmemory = "64M"\ncolour = "red"\n', ("colour",)),
    ('name = "x"\ndriver = "memory"\nmemory = "lots"\n', ("lots",)),
    ('name = "../x"\ndriver = "memory"\nmemory = "64M"\n', ("../x",)),
])
def test_malformed_guest_file(two_hosts, text, words):
    lab = two_hosts
    path = lab.tmp_path / "bad.toml"
    path.write_text(text)
    assert_refused(lab.sluice("guest", "start", path, "--on", "h1"), 1, "bad.toml", *words)
    assert lab.json("guests")["guests"] == []


def test_agent_unreachable(two_hosts):
    lab = two_hosts
    assert start_memory_guest(lab).returncode == 0
    lab.kill_agent("h2")
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "h2")
    assert lab.guest_host("pages") == "h1"


def test_machine_type_that_the_destination_lacks(two_hosts):
    lab = two_hosts
    path = lab.guest_file("odd", memory="128M", machine="pc-does-not-exist-1.0")
    assert_refused(lab.sluice("guest", "start", path, "--on", "h1"), 1, "pc-does-not-exist-1.0")
    assert lab.qemu_pids("h1", "odd") == []


def agent_error(lab, port, mtu="9000", namespace="sluice-h1"):
    """Starts an agent by hand with another port and returns what it says."""
    config = lab.tmp_path / "agent.toml"
    run_dir = lab.tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    config.write_text(f'host = "extra"\nrun_dir = "{run_dir}"\nlisten = ["unix:{run_dir}/agent.sock"]\nmemory = "1G"\n'
                      f'[security]\ntls = false\n[dataplane]\nport = "{port}"\naddress = "10.77.1.99/24"\nmtu = {mtu}\nqueues = 1\nmemory = "128M"\n')
    return subprocess.run(["ip", "netns", "exec", namespace, ROOT / "build/control/agent/sluiced", "--config", config],
                          capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("port, mtu, words", [
    ("kernel:nothere0", "9000", ("nothere0",)),
    ("warp:9", "9000", ("warp:9",)),
    ("pci:0000:ff:1f.7", "9000", ("0000:ff:1f.7",)),
    ("kernel:mgmt0", "9000", ("mgmt0", "9000", "1500")),
])
def test_agent_with_a_port_that_cannot_be(two_hosts, port, mtu, words):
    result = agent_error(two_hosts, port, mtu)
    assert result.returncode != 0
    text = (result.stderr + result.stdout).strip().splitlines()[-1]
    for word in words:
        assert word in text, text


def test_no_permission_to_trace(lab):
    """An agent without CAP_SYS_PTRACE says so and the guest stays where it is."""
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("traced", memory="256M", rate="0")
    lab.kill_agent("h1")
    subprocess.Popen(["ip", "netns", "exec", "sluice-h1", "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace",
                      ROOT / "build/control/agent/sluiced", "--config", "/run/sluice/lab/h1/agent.toml"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: lab.sluice("guests").returncode == 0 and lab.guest_host("traced") == "h1", 60, "the agent without ptrace")
    assert_refused(lab.sluice("migrate", "traced", "--to", "h2"), 1, "trace")
    assert lab.guest_host("traced") == "h1"
    console.wait_for_more(3)
