"""Switch ports that carry less than the agents are configured for: jumbo frames vanish there without a word."""
import json
import subprocess
import time

import pytest

from conftest import LAB_RUN_DIR, wait_until

MEMORY = "256M"


def switch_port(host, *words):
    """The far end of the host's veth. That of a sender refuses frames with an error instead of swallowing them, which no real switch
    port does (drivers/dpdk/kernel_rings.h)."""
    subprocess.run(["ip", "-n", "sluice-net", "link", "set", f"mig-{host}", *map(str, words)], check=True)


def remark(found, configured=9000, to="h2"):
    return f"configured {configured}, largest frame that reaches {to} is {found}: check the switch ports"


def start_memory_guest(lab, dirty_rate="0", memory=MEMORY):
    path = lab.tmp_path / "vm.toml"
    path.write_text(f'name = "vm"\ndriver = "memory"\nmemory = "{memory}"\n[memory]\ndirty_rate = "{dirty_rate}"\n')
    lab.json("guest", "start", path, "--on", "h1")


@pytest.fixture
def path_lab(lab):
    lab.up(hosts=2, link="veth", mtu=9000)
    return lab


def test_a_narrow_switch_port_is_named_and_costs_smaller_frames_only(path_lab):
    switch_port("h2", "mtu", 1500)
    start_memory_guest(path_lab, "20M")
    moved = path_lab.migrate("vm", "h2")
    assert moved["status"] == "completed"
    assert moved["proof"]["match"] is True
    assert moved["remarks"].count(remark(1500)) == 1, moved["remarks"]
    assert moved["mtu"] == 1500
    # A person reads it too, before memory is sent; the log keeps it. Here the sender's own port is narrow as well.
    switch_port("h1", "mtu", 1400)
    shown = path_lab.sluice("migrate", "vm", "--to", "h1", "--watch")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"remark: {remark(1400, to='h1')}" in shown.stdout[:shown.stdout.index("streaming")], shown.stdout
    assert "frames smaller than a page" in shown.stdout
    assert remark(1400, to="h1") in (LAB_RUN_DIR / "h2/agent.log").read_text()
    # A path that carries what is configured is not remarked on.
    switch_port("h1", "mtu", 9000)
    switch_port("h2", "mtu", 9000)
    moved = path_lab.migrate("vm", "h2")
    assert moved["mtu"] == 9000
    assert not any("switch" in text for text in moved["remarks"])


def test_doctor_says_what_arrives_and_what_to_mend(path_lab):
    good = path_lab.sluice("doctor", "--on", "h1", "--peer", "h2")
    assert good.returncode == 0, good.stdout + good.stderr
    for way in ("h1 -> h2", "h2 -> h1"):
        assert f"{way}: frames of 9000 arrive, as configured; round trip " in good.stdout, good.stdout
    assert good.stdout.count("steering: ") == 2, good.stdout
    switch_port("h2", "mtu", 1500)
    narrow = path_lab.sluice("doctor", "--on", "h1", "--peer", "h2")
    assert narrow.returncode == 1
    assert f"h1 -> h2: {remark(1500)}" in narrow.stdout and "until every switch port on the way forwards 9000" in narrow.stdout
    switch_port("h2", "down")
    dead = path_lab.sluice("--json", "doctor", "--on", "h1", "--peer", "h2")
    assert dead.returncode == 1
    for path in json.loads(dead.stdout)["paths"]:
        assert "no frame of any size" in path["error"], path


@pytest.mark.parametrize("narrowed", ["h1", "h2"])
def test_a_switch_port_that_narrows_under_way(path_lab, narrowed):
    start_memory_guest(path_lab, "50M")
    # Too strict a limit to be held, so that it does not end early.
    migration = path_lab.spawn("--json", "migrate", "vm", "--to", "h2", "--downtime-limit", "1ms", "--max-iterations", "4", "--watch")
    for line in migration.stdout:
        if '"phase":"streaming"' in line:
            update = json.loads(line)
            break
    assert update["mtu"] == 9000 and update["remarks"] == []
    switch_port(narrowed, "mtu", 1500)
    lines, errors = migration.communicate(timeout=60)
    assert migration.returncode == 0, lines + errors
    *updates, summary = [json.loads(line) for line in lines.strip().splitlines()]
    assert updates[-1]["mtu"] == 1500 and updates[-1]["remarks"] == [remark(1500)]
    assert remark(1500) in summary["remarks"]
    assert summary["proof"]["match"] is True


def test_a_link_that_carries_nothing_is_named_within_seconds(path_lab):
    switch_port("h2", "down")
    start_memory_guest(path_lab, "20M")
    began = time.monotonic()
    refused = path_lab.sluice("--json", "migrate", "vm", "--to", "h2")
    assert time.monotonic() - began < 15
    assert refused.returncode == 1
    error = "no frame of any size from 10.77.1.1 reaches 10.77.1.2: check cable, VLAN, address"
    assert refused.stderr == f"sluice: {error}\n"
    summary = json.loads(refused.stdout)
    assert summary["error"] == error
    assert summary["pages_sent"] == summary["zero_pages"] == 0, "nothing was streamed"
    guest = wait_until(lambda: [guest for guest in path_lab.json("guests")["guests"] if guest["name"] == "vm"], 5, "the guest")
    assert [(entry["host"], entry["state"]) for entry in guest] == [("h1", "running")]
    switch_port("h2", "up")
    assert path_lab.migrate("vm", "h2")["status"] == "completed"
