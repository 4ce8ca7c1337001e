"""`make audit`: whether advisories are known for the packages that `constraints.txt` pins.

An advisory source that cannot be reached, or that knows nothing, must not look like a clean bill. So a pin
that every source knows something bad of is planted first: only a source that finds it is believed. Exit
status: 0 audited, and nothing is known; 1 something is known, and was printed; 3 not audited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

CONSTRAINTS: Final = Path(__file__).resolve().parents[1] / "constraints.txt"
# An escape from the sandbox (CVE-2019-10906), known since 2019 to every source there is.
PLANTED: Final = "jinja2==2.10"
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3
SOURCE_TIMEOUT_S: Final = 15
AUDIT_TIMEOUT_S: Final = 900.0


class NotAudited(Exception):
    """Nobody could say; the message is what the tool said."""


def known_of(requirements: Path, source: Sequence[str]) -> list[dict[str, Any]]:
    """The packages of a file of pins for which advisories are known.

    Args:
        source: options of pip-audit that name the advisory source.
    Returns:
        As pip-audit says it: `name`, `version`, `vulns`.
    Raises:
        NotAudited: the source did not answer for all of them.
    """
    command = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", "--format=json"]
    command += ["--progress-spinner=off", f"--timeout={SOURCE_TIMEOUT_S}", *source, "-r", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotAudited(f"no answer within {AUDIT_TIMEOUT_S:g} s") from None
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines()
        raise NotAudited(lines[-1] if lines else f"exit status {done.returncode}") from None
    if skipped := [one["name"] for one in dependencies if "vulns" not in one]:
        raise NotAudited(f"the source says nothing of {', '.join(skipped)}")
    return [one for one in dependencies if one["vulns"]]


def planted_is_found(source: Sequence[str]) -> bool:
    """Whether the source knows of the planted pin.

    Raises:
        NotAudited: it does not answer.
    """
    with tempfile.TemporaryDirectory() as directory:
        requirements = Path(directory) / "planted.txt"
        requirements.write_text(f"{PLANTED}\n")
        return bool(known_of(requirements, source))


def audit(constraints: Path, source: Sequence[str]) -> tuple[int, list[str]]:
    """Audit a file of pins; return the exit status and what to print."""
    try:
        if not planted_is_found(source):
            raise NotAudited(f"the source does not even know of {PLANTED}")
        found = known_of(constraints, source)
    except NotAudited as error:
        return NOT_AUDITED, [f"not audited: no advisory source can be reached ({error})"]
    if not found:
        return CLEAN, [f"audited {constraints.name}: nothing is known; {PLANTED}, planted, was found"]
    return VULNERABLE, [
        f"{one['name']}=={one['version']}: {vulnerability['id']},"
        f" mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for one in found
        for vulnerability in one["vulns"]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--constraints", type=Path, default=CONSTRAINTS, help="file of pins")
    parser.add_argument("--osv-url", help="an OSV service of your own; default: the index that pip uses")
    options = parser.parse_args(arguments)
    source = ["--vulnerability-service=osv", f"--osv-url={options.osv_url}"] if options.osv_url else []
    status, lines = audit(options.constraints, source)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return status


if __name__ == "__main__":
    sys.exit(main())
