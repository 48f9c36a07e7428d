"""A running Linux guest moves, unharmed, again and again."""
import pytest

DOWNTIME_PARTS = {"stop", "final_scan", "final_copy", "proof", "state", "resume"}


def assert_completed(summary, source, destination):
    assert summary["status"] == "completed"
    assert (summary["from"], summary["to"]) == (source, destination)
    assert summary["proof"]["match"] is True
    assert summary["proof"]["extents"] > 0
    assert set(summary["downtime"]) == DOWNTIME_PARTS
    # The parts are rounded to microseconds each.
    assert sum(summary["downtime"].values()) == pytest.approx(summary["downtime_ms"], abs=0.01)


def move_back_and_forth(lab, name, console, moves, *options):
    source, destination = "h1", "h2"
    for _ in range(moves):
        old = lab.qemu_pids(source, name)
        assert len(old) == 1
        summary = lab.migrate(name, destination, *options)
        assert_completed(summary, source, destination)
        assert lab.qemu_pids(source, name) == [], "the source's QEMU is still there"
        assert len(lab.qemu_pids(destination, name)) == 1
        console.wait_for_more(3)
        source, destination = destination, source
    console.assert_unharmed()


def test_loaded_guest_moves_many_times(lab, request):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("busy", memory="512M", rate="20M")
    move_back_and_forth(lab, "busy", console, request.config.getoption("--migrations"))


def test_full_proof(lab, request):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("proven", memory="512M", rate="20M")
    move_back_and_forth(lab, "proven", console, max(2, request.config.getoption("--migrations") // 3), "--proof", "full")


@pytest.mark.parametrize("machine", ["q35", "pc", "microvm"])
def test_machine_types(lab, machine):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("typed", memory="256M", rate="5M", machine=machine)
    move_back_and_forth(lab, "typed", console, 2)


def test_vga_and_disk(lab):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("disky", memory="512M", rate="5M", vga=True, disk=True)
    move_back_and_forth(lab, "disky", console, 2)


def test_quick_mode(lab):
    lab.up(hosts=2, link="veth")
    console = lab.start_guest("quick", memory="256M", rate="5M")
    move_back_and_forth(lab, "quick", console, 2, "--mode", "quick")


@pytest.mark.parametrize("mtu", [9000, 1500])
def test_small_and_jumbo_frames(lab, mtu):
    lab.up(hosts=2, link="veth", mtu=mtu)
    console = lab.start_guest("framed", memory="256M", rate="5M")
    move_back_and_forth(lab, "framed", console, 2)
