"""Agents and QEMU processes killed with SIGKILL in the middle of a migration."""
import json
import os
import signal
import subprocess

from conftest import wait_until

# Slow enough that the stream is under way for some seconds whatever the machine does.
SLOW = {"hosts": 2, "link": "veth", "rate": "500mbit"}


def begin_migration(lab, name, to="h2"):
    """Starts a migration in the background and returns once pages are on their way."""
    process = lab.spawn("--json", "migrate", name, "--to", to, "--watch")
    for line in process.stdout:
        update = json.loads(line)
        if update.get("phase") == "streaming" and update.get("sent_bytes", 0) > 0:
            return process
    raise AssertionError(f"the migration never streamed: {process.stderr.read()}")


def finish(process, seconds=60):
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def error_of(output):
    return json.loads(output.strip().splitlines()[-1])["error"]


def test_source_agent_killed_while_streaming(lab):
    lab.up(**SLOW)
    console = lab.start_guest("survivor", memory="512M", rate="10M")
    process = begin_migration(lab, "survivor")
    lab.kill_agent("h1")
    finish(process)
    assert process.returncode != 0
    console.wait_for_more(5)
    wait_until(lambda: lab.qemu_pids("h2", "survivor") == [], 60, "the end of the destination's twin")
    lab.up(**SLOW)
    assert lab.guest_host("survivor") == "h1"
    assert lab.migrate("survivor", "h2")["status"] == "completed"
    console.wait_for_more(3)
    console.assert_unharmed()


def test_destination_agent_killed_while_streaming(lab):
    lab.up(**SLOW)
    console = lab.start_guest("survivor", memory="512M", rate="10M")
    process = begin_migration(lab, "survivor")
    lab.kill_agent("h2")
    output, _ = finish(process)
    assert process.returncode == 1
    assert "connection to host h2 broke off" in error_of(output), "the source did not hear of it but waited for frames in vain"
    console.wait_for_more(5)
    wait_until(lambda: lab.qemu_pids("h2", "survivor") == [], 60, "the end of the destination's twin")
    lab.up(**SLOW)
    assert lab.guest_host("survivor") == "h1"
    assert lab.migrate("survivor", "h2")["status"] == "completed"
    console.wait_for_more(3)
    console.assert_unharmed()


def test_destination_qemu_killed_while_streaming(lab):
    lab.up(**SLOW)
    console = lab.start_guest("survivor", memory="512M", rate="10M")
    process = begin_migration(lab, "survivor")
    [twin] = lab.qemu_pids("h2", "survivor")
    os.kill(twin, signal.SIGKILL)
    output, _ = finish(process)
    assert process.returncode == 1
    assert "twin of guest survivor on h2 has exited" in error_of(output)
    console.wait_for_more(5)
    assert lab.guest_host("survivor") == "h1"
    assert lab.qemu_pids("h2", "survivor") == []
    assert lab.migrate("survivor", "h2")["status"] == "completed"
    console.wait_for_more(3)
    console.assert_unharmed()


def test_source_qemu_killed_while_streaming(lab):
    lab.up(**SLOW)
    lab.start_guest("victim", memory="512M", rate="10M")
    process = begin_migration(lab, "victim")
    [source] = lab.qemu_pids("h1", "victim")
    os.kill(source, signal.SIGKILL)
    finish(process)
    assert process.returncode == 1
    # The guest is lost with its only process; what must not be left is a twin that pretends to be it.
    wait_until(lambda: lab.qemu_pids("h2", "victim") == [], 60, "the end of the destination's twin")
    assert lab.guest_host("victim") is None
