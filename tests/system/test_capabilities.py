"""The capabilities that packaging/sluiced.service leaves to an agent are enough, and an agent of root keeps no others."""
import re
import subprocess
from pathlib import Path

from conftest import LAB_RUN_DIR, ROOT, wait_until


# include/uapi/linux/capability.h
NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14, "CAP_SYS_PTRACE": 19, "CAP_CHECKPOINT_RESTORE": 40}


def unit_set():
    unit = (ROOT / "packaging/sluiced.service").read_text()
    return re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1].split()


def bounding_set():
    return ",".join(["-all"] + ["+" + name.removeprefix("CAP_").lower() for name in unit_set()])


def statuses(pid):
    """What /proc says of each of a process's threads."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (task / "status").read_text()
        except OSError:  # the thread has ended
            continue
        yield dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def assert_has_the_units_set_only(pid):
    allowed = sum(1 << NUMBERS[name] for name in unit_set())
    for status in statuses(pid):
        assert {int(status[key], 16) for key in ("CapPrm", "CapEff")} == {allowed}, status
        assert {int(status[key], 16) for key in ("CapInh", "CapAmb")} == {0}, status


def test_an_agent_of_root_keeps_what_it_needs_and_its_guests_get_no_more(lab):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("plain", memory="128M", rate="0")
    for host in ("h1", "h2"):
        assert_has_the_units_set_only(lab.agent_pid(host))
    (qemu,) = lab.qemu_pids("h1", "plain")
    assert_has_the_units_set_only(qemu)
    assert {status["NoNewPrivs"] for status in statuses(qemu)} == {"1"}
    lab.migrate("plain", "h2")
    console.wait_for_more(3)
    console.assert_unharmed()


def test_agents_with_the_units_capabilities_move_a_guest(lab):
    lab.up(hosts=2, link="veth")
    for host in ("h1", "h2"):
        lab.kill_agent(host)
        with open(LAB_RUN_DIR / host / "agent.log", "ab") as log:
            subprocess.Popen(["ip", "netns", "exec", f"sluice-{host}", "setpriv", "--no-new-privs",
                              f"--bounding-set={bounding_set()}", "--inh-caps=-all",
                              ROOT / "build/control/agent/sluiced", "--config", LAB_RUN_DIR / host / "agent.toml"],
                             stdout=log, stderr=log)
    # Each says that it listens when it does: once before it was killed, and once now.
    for host in ("h1", "h2"):
        wait_until(lambda host=host: (LAB_RUN_DIR / host / "agent.log").read_text().count(" listen=") >= 2, 60, f"{host}'s agent")
    wait_until(lambda: lab.sluice("hosts").returncode == 0, 20, "both agents")
    console = lab.start_guest("confined", memory="128M", rate="0")
    lab.migrate("confined", "h2")
    console.wait_for_more(3)
    console.assert_unharmed()
