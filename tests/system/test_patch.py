"""Hosts are drained and patched by the controller under running guests, and what cannot be done is refused before it begins."""
import re

import pytest

from conftest import wait_until
from patching import HOOKS_LOG, Patching, moves


@pytest.fixture
def patching(lab):
    return lambda hosts=3, **options: Patching(lab, hosts, **options)


def test_patches_every_host_under_running_guests(lab, patching):
    cluster = patching(3)
    console = lab.start_guest("linux", host="h1", memory="128M", rate="2M")
    for number, host in enumerate(cluster.hosts):
        cluster.memory_guest(f"m{number}", host)
    homes = cluster.places()
    boot_ids = {host: cluster.boot_id(host) for host in cluster.hosts}
    plan = cluster.with_canary(cluster.plan(cluster.hosts))

    status = lab.json("patch", "run", plan, "--watch", timeout=400)

    assert status["status"] == "done"
    assert {host["state"] for host in status["hosts"]} == {"done"}
    for host in cluster.hosts:
        assert cluster.version(host) == "2", "the patch ran more or less than once"
        assert cluster.boot_id(host) != boot_ids[host]
        assert cluster.in_service(host)
    assert cluster.places() == homes
    console.wait_for_more(3)
    console.assert_unharmed()
    log = HOOKS_LOG.read_text()
    assert [log.count(f" {word} {host}\n") for word in ("silence", "unsilence") for host in cluster.hosts] == [1] * 6
    judge_report(lab, cluster, status["run"], homes)


def judge_report(lab, cluster, run, guests):
    """Who, what, when, why, and what it was to the guests."""
    text = lab.sluice("patch", "report", run)
    assert text.returncode == 0
    assert all(name in text.stdout for name in [*cluster.hosts, *guests])
    report = lab.json("patch", "report", run)
    assert "operator" in report["begun_by"], "whose certificate it was"
    assert 0 < report["begun_ms"] < report["ended_ms"]
    told = {guest["guest"]: guest for guest in report["guests"] if not guest["guest"].startswith("canary")}
    assert {name: guest["moves"] for name, guest in told.items()} == {name: 2 for name in guests}
    assert all(0 < guest["downtime_ms_max"] <= guest["downtime_ms"] for guest in told.values()), told
    assert all(host["estimate_s"] > 0 and host["bound_s"] > 0 and host["drain_s"] > 0 for host in report["hosts"])
    assert report["deviation"]["moves"] >= 2 * len(guests)
    moves_decided = [record for record in report["records"] if record["type"] == "intent" and record["action"] == "migrate"]
    assert all(record["reason"] for record in moves_decided if not record["purpose"].startswith("canary")), moves_decided


def test_patched_hosts_take_in_the_guests_of_the_next(lab, patching):
    cluster = patching(3)
    guests = cluster.one_guest_a_host()
    status = lab.json("patch", "run", cluster.with_canary(cluster.plan(cluster.hosts, placement="rolling")), "--watch", timeout=400)
    assert status["status"] == "done"
    assert cluster.states() == {"h1": "done", "h2": "done", "h3": "done"}
    assert cluster.versions() == ["2", "2", "2"]
    cluster.assert_running(guests)
    moved = [purpose for purpose, _ in moves(status["run"]) if not purpose.startswith("canary")]
    assert len(moved) < 2 * len(guests), f"no fewer moves than away and home again: {moved}"


def test_drains_a_host_and_gives_it_back(lab, patching):
    cluster = patching(2)
    for number in range(3):
        cluster.memory_guest(f"m{number}", "h1")
    preview = lab.json("drain", "h1", "--dry-run")
    assert {move["guest"] for move in preview["hosts"][0]["moves"]} == {"m0", "m1", "m2"}
    assert 0 < preview["bound_s"] <= preview["estimate_s"]
    assert set(cluster.places().values()) == {"h1"}
    assert cluster.runs() == []

    watched = lab.sluice("drain", "h1", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "m1: h1 -> h2, done" in watched.stdout
    assert set(cluster.places().values()) == {"h2"}
    assert not cluster.in_service("h1")
    assert lab.sluice("uncordon", "h1").returncode == 0
    assert cluster.in_service("h1")


def test_abort_gives_the_host_back(lab, patching):
    cluster = patching(2)
    cluster.memory_guest("m0", "h1")
    cluster.hook_holding("controller", "hold")  # before its drain
    plan = cluster.plan(["h1", "h2"], hooks='patch = "patch"\nsilence = { name = "hold", on = "controller" }\n', expected="")
    run = cluster.start(plan)
    cluster.wait_for_state("h1", "cordoned")
    watcher = lab.spawn("patch", "status", run, "--watch")
    assert lab.sluice("patch", "abort", run).returncode == 0
    cluster.release()
    assert watcher.wait(60) == 1
    status = lab.json("patch", "status", run)
    assert status["status"] == "aborted"
    assert {host["state"] for host in status["hosts"]} == {"skipped"}
    assert cluster.version("h1") == "1"
    assert cluster.places() == {"m0": "h1"}
    assert cluster.in_service("h1")


def test_refuses_what_cannot_be_done(lab, patching):
    cluster = patching(2)
    cluster.refused("patch", "run", cluster.plan(["h1", "h9"]), words=["h9"])
    cluster.refused("drain", "h9", words=["h9"])
    cluster.refused("patch", "run", cluster.plan(["h1"], hooks='patch = "polish"\n', expected=""), words=["polish", "h1"])
    cluster.refused("patch", "run", cluster.plan(["h1"], hooks='patch = "patch"\nsilence = { name = "hush", on = "controller" }\n', expected=""),
                    words=["hush", "the controller"])
    cluster.refused("patch", "run", cluster.plan(["h1"], more="colour = 3"), words=["plan.toml", "colour"])
    over = cluster.plan(["h1"])
    over.write_text(over.read_text() + "[window]\nnot_after = 2020-01-01T00:00:00Z\n")
    cluster.refused("patch", "run", over, words=["window"])

    # Two hosts of 8 GiB that keep nearly all of it: what h1 holds does not fit beside what h2 holds.
    for host in cluster.hosts:
        cluster.memory_guest(f"guest-{host}", host)
    cluster.configure(lambda text: re.sub(r'reserve = ".*"', 'reserve = "8000M"', text))
    no_room = cluster.plan(["h1"])
    for command in ("drain", "h1", "--dry-run"), ("drain", "h1"), ("patch", "run", no_room):
        cluster.refused(*command, words=["64 MiB of memory are missing", "h2"])
    assert cluster.places() == {"guest-h1": "h1", "guest-h2": "h2"}

    # Two guests that must be together, each with a third, but not with each other.
    cluster.configure(lambda text: text + """
[groups.left]
rule = "together"
guests = ["guest-h1", "friend"]
[groups.right]
rule = "together"
guests = ["friend", "guest-h2"]
[groups.never]
rule = "apart"
guests = ["guest-h1", "guest-h2"]
""")
    cluster.memory_guest("friend", "h1")
    cluster.refused("drain", "h1", words=["contradict", "left", "right", "never"])
    cluster.refused("patch", "run", cluster.plan(["h1"]), words=["contradict", "left", "right", "never"])


def test_a_host_belongs_to_one_run(lab, patching):
    cluster = patching(2)
    cluster.hook_holding("controller", "hold")
    plan = cluster.plan(["h1"], hooks='patch = "patch"\nsilence = { name = "hold", on = "controller" }\n', expected="")
    run = cluster.start(plan)
    cluster.wait_for_state("h1", "cordoned")
    before = cluster.runs()
    second = lab.sluice("drain", "h1")
    assert cluster.runs() == before
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "h1" in second.stderr and run in second.stderr
    lab.sluice("patch", "abort", run)
    cluster.release()
    wait_until(lambda: lab.json("patch", "status", run)["status"] == "aborted", 30, "the end")
