"""Several queues and workers a host, also different numbers of them: every frame must find its worker."""
import json

import pytest

from test_bad_input import assert_refused, start_memory_guest


@pytest.mark.parametrize("link, queues, flows", [("veth", "2", 2), ("memif", "2", 2), ("veth", "2,1", 2), ("veth", "1,3", 3),
                                                 ("memif", "2,1", 1)])
def test_guests_move_both_ways_and_verify(lab, link, queues, flows):
    lab.up(hosts=2, link=link, queues=queues)
    counts = [int(count) for count in queues.split(",")]
    for host in lab.json("hosts")["hosts"]:
        count = counts[0] if host["name"] == "h1" else counts[-1]
        assert host["queues"] == count
        assert f"steering: {host['steering']}" in host["remarks"]
        assert host["steering"].startswith("one queue" if count == 1 else "queue pairs" if link == "memif" else "in software")
        assert host["packets_passed_on"] == 0

    assert start_memory_guest(lab).returncode == 0
    moved = lab.sluice("--json", "migrate", "pages", "--to", "h2", "--watch")
    assert moved.returncode == 0, moved.stderr
    documents = [json.loads(line) for line in moved.stdout.splitlines()]
    assert [document["flows"] for document in documents if document.get("event") == "plan"] == [flows]
    assert documents[-1]["proof"]["match"] is True
    for origin, target in (("h1", "h2"), ("h2", "h1")):
        result = lab.json("bench", "--from", origin, "--to", target, "--size", "128M", "--dirty-rate", "20M", "--time", "0")
        assert result["verify"]["mismatches"] == 0
        assert [move["status"] for move in result["moves"]] == ["completed"]
    if link == "memif":
        assert [host["packets_passed_on"] for host in lab.json("hosts")["hosts"]] == [0, 0]


def test_memif_client_with_more_queues_than_its_server_is_named(lab):
    lab.up(hosts=2, link="memif", queues="1,2")
    assert start_memory_guest(lab).returncode == 0
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "memif", "dataplane.queues")
    assert lab.guest_host("pages") == "h1"
