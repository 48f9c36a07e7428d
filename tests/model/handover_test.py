#!/usr/bin/python3
"""Checks control/model/handover.pml with Spin, and that it agrees with control/model/handover.cc.

usage: handover_test.py search|mutants MODEL
       handover_test.py in_step MODEL HEADER PRINT_TABLES
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

MEMORY_MIB_MAX = 1900
SEARCH_SECONDS_MAX = 900
DEPTH_MAX = 100_000

# Bounds that together cover: a host that reboots; the guest going there, back and there again; a copy that is killed; a third
# crash; a message that comes twice. The longest search first.
BOUNDS = [
    {"SESSIONS": 2, "CRASHES": 1, "KILLS": 0, "BREAKS": 1, "REBOOTS": 1},
    {"SESSIONS": 3, "CRASHES": 2, "KILLS": 0, "BREAKS": 0},
    {"SESSIONS": 2, "CRASHES": 1, "KILLS": 1, "BREAKS": 1},
    {"SESSIONS": 1, "CRASHES": 3, "KILLS": 1, "BREAKS": 1},
    {"SESSIONS": 2, "CRASHES": 1, "KILLS": 0, "BREAKS": 0, "DUPLICATES": 1},
]

SMALL = {"SESSIONS": 1, "CRASHES": 2, "KILLS": 0, "BREAKS": 1}
# Each breaks one rule of the handover, within bounds in which that shows.
MUTANTS = {
    "M_COMMIT_BEFORE_RECORD": SMALL,
    "M_NEVER_WITHOUT_REFUSAL": SMALL,
    "M_UNREACHABLE_IS_NEVER": SMALL,
    "M_RUNS_BEFORE_OWNED": SMALL,
    "M_KEPT_AFTER_COMMIT": SMALL,
    "M_RELEASE_FORGETS_FIRST": SMALL,
    "M_OWNED_BEFORE_IT_RUNS": SMALL,
    "M_TWIN_ENDED_BEFORE_DISOWNED": SMALL,
    "M_SILENT_TWIN_IS_OWNED": SMALL,
    "M_REFUSAL_IS_LEFT_ALONE": SMALL,
    "M_DEAD_TWIN_IS_OWNED": {"SESSIONS": 1, "CRASHES": 0, "KILLS": 1, "BREAKS": 0},
    "M_FORGOTTEN_IS_NEVER": {"SESSIONS": 1, "CRASHES": 0, "KILLS": 0, "BREAKS": 1, "REBOOTS": 1},
    "M_OLD_OWNERSHIP_STANDS": {"SESSIONS": 3, "CRASHES": 2, "KILLS": 0, "BREAKS": 0},
}


def search(model, bounds, mutant=None):
    """What Spin's verifier prints; the search stops at the first violation."""
    defines = [f"-D{name}={value}" for name, value in bounds.items()] + ([f"-D{mutant}"] if mutant else [])
    with tempfile.TemporaryDirectory() as directory:
        def step(*command):
            done = subprocess.run(command, cwd=directory, text=True, timeout=SEARCH_SECONDS_MAX,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
            return done.stdout

        step("spin", "-a", *defines, model)
        # No NOREDUCE, no BITSTATE: reduced by partial orders, otherwise exact. A mutant's search ends before an optimised
        # verifier would be compiled.
        step("gcc", "-O0" if mutant else "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB_MAX}", "-o", "pan", "pan.c")
        output = step("./pan", f"-m{DEPTH_MAX}", "-w24")
        if mutant is None and "errors: 0" not in output:
            output += step("spin", *defines, "-t", "-p", "-g", "-k", model.rsplit("/", 1)[-1] + ".trail", model)
        return output


def unreached_rows(output):
    """Rows of the tables that no execution took, as line numbers of the model."""
    return set(re.findall(r"handover\.pml:(\d+), state \d+, \"(?:source|destination)_state\[h\] = k\w+\"", output))


def test_search(model):
    unreached = None
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outputs = pool.map(lambda bounds: search(model, bounds), BOUNDS)
    for bounds, output in zip(BOUNDS, outputs):
        incomplete = [sign for sign in ("Search not completed", "max search depth too small", "out of memory",
                                        "reached -DMEMLIM") if sign in output]
        assert "errors: 0" in output, f"{bounds}: the model is violated:\n{output}"
        assert not incomplete, f"{bounds}: not an exhaustive search: {incomplete}\n{output}"
        states = re.search(r"([\d.e+]+) states, stored", output)[1]
        print(f"{bounds}: no violation in {float(states):.0f} states")
        here = unreached_rows(output)
        unreached = here if unreached is None else unreached & here
    assert not unreached, f"no execution takes the transitions at lines {sorted(unreached, key=int)} of the model"


def test_mutants(model):
    text = open(model, encoding="utf-8").read()
    assert set(re.findall(r"^#ifn?def (M_\w+)", text, re.M)) == set(MUTANTS), "the model's switches are not those tested"
    for mutant, bounds in MUTANTS.items():
        output = search(model, bounds, mutant)
        found = re.search(r"pan:\d+: (.*)", output)
        assert found and "errors: 1" in output, f"{mutant}: Spin finds nothing wrong\n{output}"
        print(f"{mutant}: {found[1]}")


def enumerators(header, name):
    body = re.search(rf"enum class {name}\b[^{{]*{{(.*?)}};", header, re.S)[1]
    return re.findall(r"\bk\w+", re.sub(r"//[^\n]*", "", body))


def test_in_step(model, header_path, print_tables):
    header = open(header_path, encoding="utf-8").read()
    names = {"source": ("SourceState", "SourceEvent"), "destination": ("DestinationState", "DestinationEvent")}
    coded = set()
    for line in subprocess.run([print_tables], check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines():
        side, *numbers = line.split()
        states, events = (enumerators(header, name) for name in names[side])
        start, event, end = (int(number) - 1 for number in numbers)
        coded.add((side, states[start], events[event], states[end]))
    assert {side for side, *_ in coded} == set(names), "the tables are empty"

    text = re.sub(r"^#define[^\n]*|/\*.*?\*/", "", open(model, encoding="utf-8").read(), flags=re.M | re.S)
    modelled = set()
    for macro, row in re.findall(r"\bT_(SRC|DST)\(([^)]*)\)", text):
        modelled.add(({"SRC": "source", "DST": "destination"}[macro], *(word.strip() for word in row.split(","))))
    assert coded == modelled, (f"only in handover.cc: {sorted(coded - modelled)}\n"
                               f"only in handover.pml: {sorted(modelled - coded)}")
    print(f"{len(coded)} transitions agree")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    tests = {"search": test_search, "mutants": test_mutants, "in_step": test_in_step}
    tests[sys.argv[1]](*(os.path.abspath(path) for path in sys.argv[2:]))
