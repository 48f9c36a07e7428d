"""The capabilities that packaging/sluiced.service leaves to an agent are enough."""
import re
import subprocess

from conftest import LAB_RUN_DIR, ROOT, wait_until


def bounding_set():
    unit = (ROOT / "packaging/sluiced.service").read_text()
    names = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1].split()
    return ",".join(["-all"] + ["+" + name.removeprefix("CAP_").lower() for name in names])


def test_agents_with_the_units_capabilities_move_a_guest(lab):
    lab.up(hosts=2, link="veth")
    for host in ("h1", "h2"):
        lab.kill_agent(host)
        with open(LAB_RUN_DIR / host / "agent.log", "ab") as log:
            subprocess.Popen(["ip", "netns", "exec", f"sluice-{host}", "setpriv", "--no-new-privs",
                              f"--bounding-set={bounding_set()}", "--inh-caps=-all",
                              ROOT / "build/control/agent/sluiced", "--config", LAB_RUN_DIR / host / "agent.toml"],
                             stdout=log, stderr=log)
    wait_until(lambda: lab.sluice("hosts").returncode == 0, 20, "both agents")
    console = lab.start_guest("confined", memory="128M", rate="0")
    lab.migrate("confined", "h2")
    console.wait_for_more(3)
    console.assert_unharmed()
