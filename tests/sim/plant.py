#!/usr/bin/env python3
"""Copies a source file with one place changed: a bug that the simulator has to find.

usage: plant.py SOURCE OUTPUT OLD NEW

Fails unless OLD occurs exactly once, so that a plant does not silently wither when the source changes.
"""
import sys
from pathlib import Path

source, output, old, new = sys.argv[1:]
text = Path(source).read_text(encoding="utf-8")
if text.count(old) != 1:
    sys.exit(f"plant.py: {source} contains {text.count(old)} times, not once: {old}")
Path(output).write_text(text.replace(old, new), encoding="utf-8")
