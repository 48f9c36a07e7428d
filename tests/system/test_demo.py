"""scripts/demo judges for itself what its guests noticed: here it runs as anybody would run it, and must leave nothing."""
import subprocess

import pytest

from conftest import LAB_RUN_DIR, ROOT


@pytest.mark.parametrize("options, words", [
    ([], ["0 gaps, 0 errors"]),
    # Four hosts, eight guests.
    (["--patch"], ["every host went from version 1 to 2 and was rebooted", "every guest is where it was"]),
], ids=["move", "patch"])
def test_no_guest_notices(lab, options, words):
    del lab  # which was taken down, and is again whatever happens
    demo = subprocess.run([ROOT / "scripts/demo", "--plain", *options], capture_output=True, text=True, check=False, timeout=900)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert all(word in demo.stdout for word in words), demo.stdout
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "sluice-" not in namespaces
    assert not LAB_RUN_DIR.exists()
    assert not (LAB_RUN_DIR.parent / "demo").exists()
