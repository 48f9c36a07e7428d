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
