"""What somebody on the migration network can read and do: nothing."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MARKER = "the guest's own secret, in every page"
MEMORY_BYTES = 64 << 20


class Tap:
    """Reads the migration link while it is open; see wire_tap.py."""

    def __init__(self, *options):
        script = Path(__file__).with_name("wire_tap.py")
        self.process = subprocess.Popen(["ip", "netns", "exec", "sluice-net", sys.executable, script, MARKER, *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def close(self):
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out)


def start_marked_guest(lab):
    """A memory guest with the marker in every page: written into its memory behind its back, before anything tracks it."""
    path = lab.tmp_path / "marked.toml"
    path.write_text(f'name = "marked"\ndriver = "memory"\nmemory = "{MEMORY_BYTES >> 20}M"\n[memory]\ndirty_rate = "0"\n')
    lab.json("guest", "start", path, "--on", "h1")
    for descriptor in Path(f"/proc/{lab.agent_pid('h1')}/fd").iterdir():
        try:
            if os.readlink(descriptor).startswith("/memfd:") and descriptor.stat().st_size >= MEMORY_BYTES:
                break
        except OSError:
            continue
    else:
        pytest.fail("the guest's memory is no file of its agent")
    with open(descriptor, "r+b", buffering=0) as memory:
        for page in range(0, MEMORY_BYTES, 4096):
            os.pwrite(memory.fileno(), MARKER.encode(), page + 1000)


def move(lab, to, *options, tap=()):
    with_tap = Tap(*tap)
    summary = lab.migrate("marked", to, *options)
    seen = with_tap.close()
    assert summary["status"] == "completed", summary
    assert summary["proof"]["match"] is True, summary
    assert seen["data"] > 1000 and seen["acks"] > 0, seen
    return summary, seen


def test_the_link_shows_nothing_and_believes_nothing(lab):
    lab.up(hosts=2, rate="1gbit")
    start_marked_guest(lab)

    summary, seen = move(lab, "h2", "--plaintext")
    assert summary["encryption"] == "none"
    assert seen["marked"] > 1000, f"the tap would not notice plaintext: {seen}"

    summary, seen = move(lab, "h1")
    assert summary["encryption"] == "aes-256-gcm"
    assert seen["marked"] == 0, seen
    assert summary["frames_dropped"].get("bad_tag", 0) == 0, summary

    summary, seen = move(lab, "h2", tap=["inject"])
    dropped = summary["frames_dropped"]
    assert seen["marked"] == 0 and seen["injected"] > 100, seen
    assert dropped["bad_tag"] > 10, dropped
    assert dropped["duplicate"] > 10, dropped
    assert dropped["replay"] > 0, dropped
    hosts = {host["name"]: host for host in lab.json("hosts")["hosts"]}
    assert hosts["h2"]["frames_dropped"]["bad_tag"] > 0, hosts
    assert hosts["h1"]["frames_dropped"]["replay"] > 0, hosts
