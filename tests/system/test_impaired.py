"""Migrations through a network that loses, reorders and doubles frames of data and of acks, both ways."""
import json
import subprocess

from conftest import ROOT

IMPAIRED = ("--loss", "0.1%", "--reorder", "1%", "--duplicate", "1%")


def start_memory_guest(lab, name, host):
    path = lab.tmp_path / f"{name}.toml"
    path.write_text(f'name = "{name}"\ndriver = "memory"\nmemory = "128M"\n[memory]\ndirty_rate = "100M"\n')
    lab.json("guest", "start", path, "--on", host)


def test_lost_reordered_and_doubled_frames_do_no_harm(lab, request):
    lab.up(hosts=2)
    lab.script("impair", "h1", *IMPAIRED)
    start_memory_guest(lab, "moving", "h1")
    moves = []
    for number in range(request.config.getoption("--impaired-migrations")):
        move = lab.migrate("moving", "h1" if number % 2 else "h2")
        assert move["status"] == "completed", f"move {number}: {move}"
        assert move["proof"]["match"] is True, f"move {number}: {move}"
        moves.append(move)

    befallen = json.loads(lab.script("impair", "h1", "--off"))
    for direction in ("in", "out"):
        for fate in ("lost", "reordered", "duplicated"):
            assert befallen[direction][fate] > 0, f"nothing was {fate} on its way {direction}: {befallen}"
    # The data plane saw it too, as far as it concerns data: every other move goes the other way.
    assert sum(move["frames_lost"] for move in moves) > 0
    assert sum(move["retransmitted_pages"] for move in moves) > 0
    print(f"{len(moves)} moves, {sum(move['frames_lost'] for move in moves)} frames declared lost; {befallen}")



def test_a_writers_memory_arrives_equal_under_impairment(lab):
    lab.up(hosts=2)
    lab.script("impair", "h1", *IMPAIRED)
    result = lab.json("bench", "--from", "h1", "--to", "h2", "--size", "256M", "--dirty-rate", "200M", "--time", "0", timeout=120)
    assert result["verify"]["mismatches"] == 0
    assert result["verify"]["writes"] > 0
    assert all(move["proof"]["match"] for move in result["moves"])
    befallen = json.loads(lab.script("impair", "h1"))
    assert befallen["out"]["lost"] > 0, befallen


def test_what_cannot_be_impaired_is_said(lab):
    def refusal(*arguments):
        result = subprocess.run([ROOT / "scripts/lab", "impair", *arguments], capture_output=True, text=True, check=False)
        assert result.returncode != 0
        return result.stderr

    assert "h1" in refusal("h1", "--loss", "1%")  # no lab
    lab.up(hosts=2, link="memif")
    assert "memif" in refusal("h1", "--loss", "1%")
    lab.down()
    lab.up(hosts=2)
    assert "h9" in refusal("h9", "--loss", "1%")
    assert "200%" in refusal("h1", "--loss", "200%")
    assert "--spill" in refusal("h1", "--spill", "1%")
    assert "clsact" not in subprocess.run(["ip", "netns", "exec", "sluice-net", "tc", "qdisc", "show", "dev", "mig-h1"],
                                          capture_output=True, text=True, check=True).stdout
