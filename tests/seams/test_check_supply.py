"""`make check-supply` trusts no audit that did not take place."""

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
COMMAND = str(ROOT / "tools" / "check-supply")
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Return a function that audits with a pip-audit that answers so."""

    def run(answer):
        uv = tmp_path / "uv"
        write = "" if answer is None else f"echo '{json.dumps({'dependencies': answer})}' > $out;"
        uv.write_text(f"#!/bin/sh\nfor out; do :; done; {write} echo 'vulnerabilities.example: no route' >&2; exit 1\n")
        uv.chmod(0o700)
        monkeypatch.setenv("UV", str(uv))
        return runpy.run_path(COMMAND)["audit"]("sound==1.0")

    return run


@pytest.mark.parametrize(
    "answer, code, said",
    [
        ([SOUND], 0, "no known vulnerability in 1 packages"),
        ([SOUND, FLAWED], 1, "flawed 1.0: CVE-2026-1, fixed in 1.1"),
        ([SOUND, UNKNOWN], 1, "1 of 2 packages were not audited"),
        ([], 1, "nothing was audited"),
        (None, 1, "nothing was audited"),
    ],
)
def test_only_a_complete_audit_without_findings_succeeds(audit, capsys, answer, code, said):
    """A package that the service does not know is not sound, and no answer is no audit; no host is named."""
    assert code == audit(answer)
    out, _ = capsys.readouterr()
    assert said in out
    assert "vulnerabilities.example" not in out


def test_each_image_has_an_sbom():
    """Of the packages that its Dockerfile installs."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    installed = {}
    for name, service in services.items():
        if "build" in service:
            text = (ROOT / service["build"]["dockerfile"]).read_text()
            defaults = dict(re.findall(r"^ARG (HANDLERS)=(.*)", text, re.MULTILINE)) | service["build"]["args"]
            packages = re.findall(r"--package (\S+)", text)
            installed[name] = [defaults["HANDLERS"] if word == '"$HANDLERS"' else word for word in packages]
    assert installed == runpy.run_path(COMMAND)["IMAGES"]
