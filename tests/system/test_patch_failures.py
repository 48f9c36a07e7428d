"""Whatever a patch does to a host stays on that host, every guest runs on, and a run is given up in any state."""
import fcntl
from pathlib import Path

import pytest

from conftest import LAB_RUN_DIR, ROOT, wait_until
from patching import MEMORY_CANARY, QEMU_CANARY, Patching


@pytest.fixture
def patching(lab):
    return lambda hosts=3, **options: Patching(lab, hosts, **options)


# So little that two cores keep up with it whatever else they do.
RATE_MBIT = 400


def disk(host):
    return LAB_RUN_DIR / host / "disk"


def breaks_the_version(cluster, host):
    cluster.hook(host, "patch", "true  # which is all that it did")
    cluster.hook(host, "rollback", "true")


def breaks_the_agent(cluster, host):
    config = LAB_RUN_DIR / host / "agent.toml"
    cluster.hook(host, "patch", f"echo 2 >{disk(host)}/version; cp {config} {disk(host)}; echo 'colour = 3' >>{config}")


def breaks_the_canary(cluster, host):
    """Guests of the kind of the canary start on this host no more; whatever else is looked at is well."""
    config = LAB_RUN_DIR / host / "agent.toml"
    cluster.hook(host, "patch", f"echo 2 >{disk(host)}/version; cp {config} {disk(host)}\n"
                                f"printf '\\n[qemu]\\nbinaries = [\"/usr/bin/qemu-of-another-name\"]\\n' >>{config}")
    cluster.hook(host, "rollback", f"echo 1 >{disk(host)}/version; cp {disk(host)}/agent.toml {config}")


def patch_that_also(cluster, host, harm, undo):
    """Raises the version as it should; its rollback takes both back."""
    cluster.hook(host, "patch", f"echo 2 >{disk(host)}/version; {harm}")
    cluster.hook(host, "rollback", f"echo 1 >{disk(host)}/version; {undo}")


def breaks_the_network(cluster, host):
    """Only the switch's port: neither the agent nor its host sees anything of it."""
    port = f"ip -n sluice-net link set mig-{host}"
    patch_that_also(cluster, host, f"{port} down", f"{port} up")


def narrows_the_network(cluster, host):
    port = f"ip -n sluice-net link set mig-{host} mtu"
    patch_that_also(cluster, host, f"{port} 1500", f"{port} 9000")


def halves_the_network(cluster, host):
    shape = f"tc -n sluice-net qdisc replace dev mig-{host} root tbf burst 1mb latency 5ms rate"
    patch_that_also(cluster, host, f"{shape} {RATE_MBIT // 2}mbit", f"{shape} {RATE_MBIT}mbit")


def loses_frames(cluster, host):
    impair = f"{ROOT}/scripts/lab impair {host}"
    patch_that_also(cluster, host, f"{impair} --loss 10% --direction in", f"{impair} --off")


# What the plan compares where that is what the patch has made worse.
COMPARED = {halves_the_network: {"goodput_ratio_min": 0.7}, loses_frames: {"loss_max": 0.04}}


@pytest.mark.parametrize("bad_patch, end, word, failures", [
    (breaks_the_version, "done-old", "version", 1),
    (breaks_the_agent, "quarantined", "did not come back", 0),
    (breaks_the_canary, "done-old", "canary", 1),
    (breaks_the_network, "done-old", "no frame of any size", 0),
    (narrows_the_network, "done-old", ", largest frame that reaches ", 0),
    (halves_the_network, "done-old", "goodput", 0),
    (loses_frames, "done-old", "frames of migrations to it are lost", 0),
])
def test_a_bad_patch_stays_on_one_host(lab, patching, bad_patch, end, word, failures):
    """The run stops there, or goes on if its plan allows for so many failures."""
    compared = COMPARED.get(bad_patch, {})
    cluster = patching(3, **({"rate": f"{RATE_MBIT}mbit"} if bad_patch is halves_the_network else {}))
    guests = cluster.one_guest_a_host()
    if compared:
        cluster.memory_guest("large", "h1", memory="256M")
        guests["large"] = "h1"
    bad_patch(cluster, "h1")
    # How soon back h1 must be matters only where it is not.
    plan = cluster.plan(["h1", "h2"], more=f"failures = {failures}", compared=compared,
                        reboot_timeout_s=3 if end == "quarantined" else 300)
    cluster.with_canary(plan, QEMU_CANARY if bad_patch is breaks_the_canary else MEMORY_CANARY)
    watched = lab.sluice("patch", "run", plan, "--watch", timeout=400)

    assert watched.returncode == 1
    status = cluster.status()
    assert status["status"] == ("done" if failures else "paused")
    assert cluster.states() == {"h1": end, "h2": "done" if failures else "pending"}, status
    assert word in status["hosts"][0]["failure"]
    assert f"h1: {status['hosts'][0]['failure']}" in watched.stderr, "an operator is not told why"
    assert cluster.versions()[1:] == ["2" if failures else "1", "1"]
    cluster.assert_running(guests, down=["h1"] if end == "quarantined" else [])
    if not failures:
        assert lab.sluice("patch", "abort").returncode == 0
        wait_until(lambda: cluster.status()["status"] == "aborted", 60, "the end")
    if end == "done-old":
        assert cluster.version("h1") == "1"
        assert cluster.in_service("h1")
        return
    # Somebody looks at it and repairs it.
    (LAB_RUN_DIR / "h1/agent.toml").write_text((disk("h1") / "agent.toml").read_text())
    lab.script("start", "h1")
    assert not cluster.in_service("h1")
    assert lab.sluice("uncordon", "h1").returncode == 0
    assert cluster.in_service("h1")


class Held:
    """Every hook of every host, each of which stands still while a file says so."""

    HOOKS = """before = "step"
patch = "step"
after = "step"
rollback = "step"
version = { name = "step", idempotent = true }
"""

    def __init__(self, cluster):
        self.cluster = cluster
        self.files = []
        for host in cluster.hosts:
            cluster.hook(host, "step", f"""touch {self.path(host, '$SLUICE_PURPOSE', 'reached')}
while [ -e {self.path(host, '$SLUICE_PURPOSE')} ]; do sleep 0.1; done
case $SLUICE_PURPOSE in
  patch) [ ! -e {self.path(host, 'fails')} ] || exit 1; echo 2 >{disk(host)}/version ;;
  rollback) echo 1 >{disk(host)}/version ;;
  version-*) cat {disk(host)}/version ;;
esac""")

    def path(self, host, *words):
        return self.cluster.lab.tmp_path / ".".join(["hold", host, *words])

    def hold(self, host, purpose):
        self.files.append(self.path(host, purpose))
        self.files[-1].touch()

    def hold_moves_from(self, host):
        self.files.append(LAB_RUN_DIR / host / "holds/hold-source-prepare-sent")
        self.files[-1].touch()

    def fail_patch(self, host):
        self.path(host, "fails").touch()

    def wait(self, host, purpose):
        wait_until(self.path(host, purpose, "reached").exists, 60, f"{purpose} on {host}")

    def release(self, host=None, purpose=None):
        for path in [self.path(host, purpose)] if host else self.files:
            path.unlink(missing_ok=True)


def abort_and_judge(cluster, run, guests, release, ends):
    assert cluster.lab.sluice("patch", "abort", run).returncode == 0
    release()
    wait_until(lambda: cluster.status(run)["status"] == "aborted", 120, "the end of the run")
    states = cluster.states(run)
    assert states == ends
    assert cluster.versions() == ["2" if states.get(host) == "done" else "1" for host in cluster.hosts]
    cluster.assert_running(guests)
    assert all(cluster.in_service(host) for host in cluster.hosts)


def test_abort_before_and_after_the_patch(lab, patching):
    cluster = patching(7, holds=True)
    guests = cluster.one_guest_a_host()
    held = Held(cluster)
    held.hold("h1", "version-before")
    held.hold("h2", "before")
    held.hold_moves_from("h3")
    held.hold("h4", "patch")
    held.hold("h5", "after")
    run = cluster.start(cluster.plan(cluster.hosts[:6], hooks=Held.HOOKS, more="parallel = 5"))
    cluster.wait_for_states(run, {"h1": "precheck", "h2": "cordoned", "h3": "draining", "h4": "patching", "h5": "verifying",
                                  "h6": "pending"})
    abort_and_judge(cluster, run, guests, held.release, {"h1": "skipped", "h2": "skipped", "h3": "skipped", "h4": "done",
                                                         "h5": "done", "h6": "skipped"})


def test_abort_from_the_reboot_on(lab, patching):
    cluster = patching(6, holds=True)
    guests = cluster.one_guest_a_host()
    cluster.memory_guest("second", "h5")
    held = Held(cluster)
    for host in "h2", "h5":
        held.hold(host, "after")
    for host, purpose in ("h3", "rollback"), ("h4", "version-old"):
        held.fail_patch(host)
        held.hold(host, purpose)
    plan = cluster.plan(cluster.hosts[:5], hooks=Held.HOOKS, more="parallel = 5\nfailures = 5", gate_s=8)
    with open(disk("h1") / "reboot.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = cluster.start(cluster.with_canary(plan))
        cluster.wait_for_states(run, {"h1": "rebooting", "h2": "verifying", "h3": "rollback", "h4": "verify-old",
                                      "h5": "verifying"})
        held.hold_moves_from("h2")
        held.release("h2", "after")
        cluster.wait_for_state("h2", "canary")
        wait_until((LAB_RUN_DIR / "h2/holds/held-source-prepare-sent").exists, 60, "the canary on its way")
        held.release("h5", "after")
        cluster.wait_for_state("h5", "refill")

        def release():
            held.release()
            fcntl.flock(lock, fcntl.LOCK_UN)

        abort_and_judge(cluster, run, [*guests, "second"], release, {"h1": "done", "h2": "done", "h3": "done-old",
                                                                     "h4": "done-old", "h5": "done"})


@pytest.mark.parametrize("stage, end", [("silence", "skipped"), ("patch", "done-old")])
def test_a_hook_that_hangs_is_killed(lab, patching, stage, end):
    cluster = patching(2)
    pids = lab.tmp_path / "pids"
    cluster.hook("h1", "hang", f"echo $$ >>{pids}; sleep 1000")
    cluster.hook("h1", "rollback", f"echo 1 >{disk('h1')}/version")
    hooks = {"patch": '"patch"', "rollback": '"rollback"', stage: '{ name = "hang", timeout_s = 1 }'}
    plan = cluster.plan(["h1"], hooks="".join(f"{name} = {hook}\n" for name, hook in hooks.items()), expected="")
    result = lab.sluice("patch", "run", plan, "--watch", timeout=200)
    assert result.returncode == 1
    assert "hang" in result.stderr and result.stderr.count("\n") == 1
    ran = pids.read_text().split()
    assert len(ran) == 1, "it ran more than once"
    assert not Path(f"/proc/{ran[0]}/exe").exists()
    assert cluster.states() == {"h1": end}
    assert cluster.version("h1") == "1"
    assert cluster.in_service("h1")
