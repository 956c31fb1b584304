"""Fuzz one target in this process, which libFuzzer ends: `python -m tests.fuzz.one TARGET`, then options of libFuzzer."""

import sys

import atheris

with atheris.instrument_imports(include=["shared", "services"]):  # what an input reaches there guides the next one
    from tests.fuzz.targets import TARGETS, quiet

if __name__ == "__main__":
    program, name, *options = sys.argv
    quiet()
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()
