"""Every process and link of a migration lost at every step of the handover: tests/system/kill_matrix.txt says what must then be
true. Agents are held at the step by files (control/agent/step_holds.h)."""
import queue
import subprocess
import threading

import pytest

from conftest import ROOT, Lab
from kill_matrix import CELLS, STEPS, Cell, Pair

# Steps of recovery: nobody gets there but by a fault, which is what the matrix does to the steps above.
STEPS_AFTER_A_FAULT = {
    "source-failure", "source-never-owned", "source-unreachable", "source-forgotten", "source-resume-ordered", "source-end-ordered",
    "destination-failure", "destination-never-ran", "destination-proof-mismatched",
}


def pytest_generate_tests(metafunc):
    if "cell" in metafunc.fixturenames:
        # The cells that wait for time-outs are spread over the table, which keeps all pairs busy to the end.
        cells = [(cell, number) for cell in CELLS for number in range(1, metafunc.config.getoption("repeat") + 1)]
        metafunc.parametrize("cell", cells, ids=[f"{cell}/{number}" for cell, number in cells])


@pytest.fixture(scope="module")
def verdicts(request, tmp_path_factory):
    """What is wrong with each chosen cell. Several pairs of hosts work at once, since most of the time is spent waiting."""
    directory = tmp_path_factory.mktemp("matrix")
    rom = directory / "counting_rom.bin"
    subprocess.run(["as", "--32", ROOT / "tests/system/counting_rom.S", "-o", directory / "rom.o"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-e", "0", "-Ttext=0", "--oformat=binary", directory / "rom.o", "-o", rom], check=True)
    chosen = queue.Queue()
    for item in request.session.items:
        if item.module is request.module and "cell" in item.fixturenames:
            chosen.put(item.callspec.params["cell"])
    found = {}

    def work(pair):
        while True:
            try:
                cell, number = chosen.get_nowait()
            except queue.Empty:
                return
            name = f"m{CELLS.index(cell)}-{number}"
            found[cell, number] = Cell(pair, cell, name).run()

    lab = Lab(directory)
    lab.down()
    pairs = request.config.getoption("pairs")
    try:
        lab.up(holds=True, hosts=2 * pairs)
        workers = [threading.Thread(target=work, args=(Pair(lab, rom, f"h{2 * number - 1}", f"h{2 * number}", directory),))
                   for number in range(1, pairs + 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        yield found
    finally:
        lab.down()


def test_one_copy_whatever_dies(verdicts, cell):
    wrong = verdicts[cell]
    assert not wrong, "\n".join(wrong)


def test_every_step_is_in_the_table():
    listed = subprocess.run([ROOT / "build/tests/model/print_handover_tables", "steps"], capture_output=True, text=True, check=True)
    steps = set(listed.stdout.split())
    assert set(STEPS) | STEPS_AFTER_A_FAULT == steps
    assert not set(STEPS) & STEPS_AFTER_A_FAULT
