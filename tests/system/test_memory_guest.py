"""Memory guests over every link, each page compared byte by byte with what its writer must have left there."""
import pytest


@pytest.mark.parametrize("link", ["veth", "memif"])
@pytest.mark.parametrize("dirty_rate", ["0", "200M"])
def test_bench_moves_and_verifies(lab, request, link, dirty_rate):
    lab.up(hosts=2, link=link)
    size = request.config.getoption("--bench-size")
    result = lab.json("bench", "--from", "h1", "--to", "h2", "--size", size, "--dirty-rate", dirty_rate, "--time", "0", timeout=300)
    assert result["verify"]["mismatches"] == 0
    assert result["verify"]["pages"] * 4096 == int(size[:-1]) << 30
    for move in result["moves"]:
        assert move["status"] == "completed"
        assert move["proof"]["match"] is True
    if dirty_rate != "0":
        assert result["verify"]["writes"] > 0
    assert lab.json("guests")["guests"] == [], "bench left a guest behind"


def test_what_was_measured_of_a_guest_goes_with_it(lab):
    lab.up(hosts=2)
    path = lab.tmp_path / "vm.toml"
    path.write_text('name = "vm"\ndriver = "memory"\nmemory = "256M"\n[memory]\ndirty_rate = "20M"\n')
    lab.json("guest", "start", path, "--on", "h1")
    # Too strict a limit to be held, so that some iterations look for dirty pages.
    lab.migrate("vm", "h2", "--downtime-limit", "1ms", "--max-iterations", "5")
    [guest] = [guest for guest in lab.json("guests")["guests"] if guest["host"] == "h2"]
    figures = guest["figures"]
    assert figures["source"] == "migration"
    assert figures["populated_bytes"] == 256 << 20
    assert figures["dirty_bytes_per_second"] + figures["working_set_bytes"] > 0
    listing = lab.sluice("guests").stdout
    assert "DIRTIED" in listing and "/s" in listing
    hosts = lab.json("hosts")["hosts"]
    assert [host["package_version"] for host in hosts] == ["1", "1"]
    assert all(host["kernel"] and host["cpu_level"] <= 4 for host in hosts)
