#!/usr/bin/env python3
"""Checks which directory may include which, and a few habits that a compiler cannot check.

usage: include_directions_test.py [ROOT]

First checks itself: every rule must find a violation planted for it.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = {".h", ".cc", ".cpp", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')

# What each directory may include of our own, besides itself; the first prefix that fits rules.
ALLOWED = [
    ("dataplane/base/", ()),
    ("dataplane/wire/", ("dataplane/base/",)),
    ("dataplane/page/", ("dataplane/base/", "dataplane/wire/")),
    ("dataplane/congestion/", ("dataplane/base/", "dataplane/wire/")),
    ("dataplane/port/", ("dataplane/base/", "dataplane/wire/")),
    # What the protocol asks of a tracker is declared in dataplane/port, which is as pure as wire.
    ("dataplane/protocol/", ("dataplane/base/", "dataplane/wire/", "dataplane/page/", "dataplane/congestion/", "dataplane/port/")),
    ("dataplane/engine/", ("dataplane/",)),
    ("dataplane/", ()),
    ("drivers/", ("drivers/", "dataplane/")),
    ("control/planner/", ("dataplane/base/",)),
    # Runs in the simulator: only interfaces, and readers of what is passed in.
    ("control/patch/", ("control/model/", "control/planner/", "control/store/journal.h", "dataplane/base/")),
    ("control/store/", ("dataplane/base/",)),
    ("control/", ("control/", "drivers/", "dataplane/")),
    ("perf/", ("perf/", "control/", "drivers/", "dataplane/")),
    # The lab's guest runs alone inside a virtual machine.
    ("tests/lab-guest/", ("dataplane/base/",)),
    ("tests/", ("tests/", "control/", "drivers/", "dataplane/")),
]
OURS = ("dataplane/", "drivers/", "control/", "perf/", "tests/")

# No I/O, no threads, no DPDK: time and randomness are passed in, so a simulator can run these layers on a seed.
PURE = ("dataplane/base/", "dataplane/wire/", "dataplane/page/", "dataplane/congestion/", "dataplane/port/", "dataplane/protocol/",
        "control/planner/", "control/patch/")
IMPURE_HEADER = re.compile(
    r"^(rte_\w+\.h|sys/(socket|ioctl|mman|epoll|uio|un)\.h|netinet/.*|arpa/(?!inet\.h).*|unistd\.h|fcntl\.h|"
    r"thread|mutex|shared_mutex|condition_variable|future|fstream|iostream|filesystem)$")
DPDK_HEADER = re.compile(r"^rte_\w+\.h$")

# Assembled here so that this file does not contain them.
FORBIDDEN_WORDS = ["/wo" + "rk/", "TO" + "DO"]


def include_problem(path, opening, target):
    """Why the file at path may not include target, or None."""
    if DPDK_HEADER.match(target) and not path.startswith(("drivers/dpdk/", "tests/unit/dpdk/")):
        return f"includes <{target}>: only drivers/dpdk uses DPDK"
    if path.startswith(PURE) and IMPURE_HEADER.match(target):
        return f"includes <{target}>: this layer is pure"
    if opening != '"' or not target.startswith(OURS):
        return None
    if path.startswith("control/planner/checker.") and target.startswith("control/planner/"):
        shared = ("control/planner/checker.h", "control/planner/model.h")
        return None if target in shared else f'includes "{target}": the checker shares only the model with the planner'
    own_directory = path.rpartition("/")[0] + "/"
    if target.startswith(own_directory):
        return None
    for prefix, allowed in ALLOWED:
        if path.startswith(prefix):
            # A directory may include its own subdirectories and parents below the rule's prefix.
            if target.startswith(allowed) or (prefix.count("/") > 1 and target.startswith(prefix)):
                return None
            return f'includes "{target}": {prefix} may include {", ".join(allowed) or "nothing of the project"}'
    return f"includes \"{target}\": no rule for this directory in tests/style"


def problems_of(path, text):
    """Every violation in one file, as 'path:line: reason'."""
    found = []
    suffix = Path(path).suffix
    if suffix == ".h" and not re.search(r"^#pragma once$", text, re.MULTILINE):
        found.append(f"{path}:1: header without #pragma once")
    for number, line in enumerate(text.splitlines(), 1):
        for word in FORBIDDEN_WORDS:
            if word in line:
                found.append(f"{path}:{number}: contains {word}")
        include = INCLUDE.match(line) if suffix in SOURCE else None
        reason = include_problem(path, include[1], include[2]) if include else None
        if reason:
            found.append(f"{path}:{number}: {reason}")
    return found


def tracked_files(root):
    listing = subprocess.run(["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             cwd=root, capture_output=True, check=False)
    if listing.returncode != 0:  # a source archive
        return [str(file.relative_to(root)) for file in root.rglob("*")
                if file.is_file() and not file.relative_to(root).parts[0].startswith(("build", ".git"))]
    return [name for name in listing.stdout.decode().split("\0") if name]


def check(root):
    found = []
    for path in sorted(tracked_files(root)):
        file = root / path
        if not file.is_file() or file.is_symlink():
            continue
        data = file.read_bytes()
        if b"\0" not in data:
            found += problems_of(path, data.decode(errors="replace"))
    return found


# One planted violation a rule: (path, text, a word of the message).
VIOLATIONS = [
    ("dataplane/base/a.h", '#pragma once\n#include "dataplane/wire/b.h"\n', "dataplane/wire/b.h"),
    ("dataplane/wire/a.cc", '#include "dataplane/page/b.h"\n', "dataplane/page/b.h"),
    ("dataplane/page/a.cc", '#include "dataplane/congestion/b.h"\n', "dataplane/congestion/b.h"),
    ("dataplane/congestion/a.cc", '#include "dataplane/protocol/b.h"\n', "dataplane/protocol/b.h"),
    ("dataplane/protocol/a.cc", '#include "dataplane/engine/b.h"\n', "dataplane/engine/b.h"),
    ("dataplane/protocol/a.cc", "#include <mutex>\n", "pure"),
    ("dataplane/page/a.cc", "#include <sys/socket.h>\n", "pure"),
    ("dataplane/port/a.h", '#pragma once\n#include "dataplane/protocol/b.h"\n', "dataplane/protocol/b.h"),
    ("dataplane/engine/a.cc", '#include "drivers/dpdk/b.h"\n', "drivers/dpdk/b.h"),
    ("dataplane/engine/a.cc", "#include <rte_mbuf.h>\n", "only drivers/dpdk"),
    ("drivers/guest/a.cc", '#include "control/agent/b.h"\n', "control/agent/b.h"),
    ("drivers/tracker/a.cc", "#include <rte_mbuf.h>\n", "only drivers/dpdk"),
    ("control/planner/a.cc", '#include "control/model/b.h"\n', "control/model/b.h"),
    ("control/planner/a.cc", "#include <thread>\n", "pure"),
    ("control/planner/checker.cc", '#include "control/planner/occupancy.h"\n', "shares only the model"),
    ("control/agent/a.cc", '#include "tests/unit/b.h"\n', "tests/unit/b.h"),
    ("control/patch/a.cc", '#include "control/store/sqlite_journal.h"\n', "sqlite_journal.h"),
    ("control/patch/a.cc", "#include <fstream>\n", "pure"),
    ("control/agent/a.cc", "#include <rte_eal.h>\n", "only drivers/dpdk"),
    ("control/agent/a.h", "int x;\n", "#pragma once"),
    ("docs/a.md", "see " + FORBIDDEN_WORDS[0] + "x\n", FORBIDDEN_WORDS[0]),
    ("scripts/a", "# " + FORBIDDEN_WORDS[1] + "\n", FORBIDDEN_WORDS[1]),
]
LEGAL = [
    ("dataplane/protocol/a.cc", '#include "dataplane/base/b.h"\n#include "dataplane/protocol/a.h"\n#include <cstdint>\n'),
    ("dataplane/engine/a.cc", '#include "dataplane/port/b.h"\n#include "dataplane/protocol/b.h"\n'),
    ("drivers/dpdk/a.cc", '#include <rte_mbuf.h>\n#include "dataplane/port/b.h"\n'),
    ("drivers/guest/qemu/a.cc", '#include "drivers/guest/guest.h"\n#include "drivers/tracker/b.h"\n'),
    ("control/agent/a.cc", '#include "drivers/dpdk/b.h"\n#include "control.pb.h"\n#include <mutex>\n'),
    ("tests/unit/control/a.cc", '#include "control/model/b.h"\n'),
]


def self_test():
    for path, text, word in VIOLATIONS:
        found = problems_of(path, text)
        assert len(found) == 1 and word in found[0], f"planted in {path}, found {found}: {text!r}"
    for path, text in LEGAL:
        assert problems_of(path, text) == [], problems_of(path, text)
    with tempfile.TemporaryDirectory() as directory:
        planted = Path(directory) / VIOLATIONS[0][0]
        planted.parent.mkdir(parents=True)
        planted.write_text(VIOLATIONS[0][1], encoding="utf-8")
        assert len(check(Path(directory))) == 1, "a violation planted in a tree was not found"


def main(arguments):
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__.strip())
        return 0
    root = Path(arguments[0] if arguments else Path(__file__).parents[2]).resolve()
    self_test()
    found = check(root)
    print("\n".join(found) if found else "style: the directions of includes hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
