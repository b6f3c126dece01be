"""The glossary and the code must use the same nouns."""

import ast
import builtins
import re
from pathlib import Path

from milepost_contracts.status.document import JobDocument

ROOT = Path(__file__).parent.parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
NAMED = set(re.findall(r"`(\w+)`", GLOSSARY))
SOURCES = [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/*/src/**/*.py")]
MODULES = {path: ast.parse(path.read_text()).body for path in SOURCES}
CLASSES = [(path, node) for path, body in MODULES.items() for node in body if isinstance(node, ast.ClassDef)]

#: An adapter, fake or asynchronous form has the noun of its port, with the technology in front.
TECHNOLOGY = re.compile(r"^(?:Rabbit|Redis|Http|Jwt|Object|Async|Fake|Memory)(?=[A-Z])")


def is_exception(node):
    """Whether the class is an exception; each package's `errors.py` draws the tree of its own."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    builtin = [getattr(builtins, base, None) for base in bases]
    if any(isinstance(base, type) and issubclass(base, BaseException) for base in builtin):
        return True
    return any(is_exception(other) for _, other in CLASSES if other.name in bases)


def aliases():
    """Return the names that modules assign at their top level: type aliases are among them."""
    assigned = [node for body in MODULES.values() for node in body if isinstance(node, ast.Assign)]
    return {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def test_every_public_class_is_in_the_glossary():
    """By its own name, or by that of its port. Exceptions and the generated synchronous client are left out."""
    nouns = {
        node.name
        for path, node in CLASSES
        if "_sync" not in path.parts and not node.name.startswith("_") and not is_exception(node)
    }
    missing = sorted(name for name in nouns if not {name, TECHNOLOGY.sub("", name)} & NAMED)
    assert [] == missing, f"name them in docs/glossary.md, in backticks: {', '.join(missing)}"


def test_every_field_of_the_job_document_is_in_the_glossary():
    """A client can look up each word of the status that it reads."""
    missing = sorted(JobDocument.model_fields.keys() - NAMED)
    assert [] == missing, f"name them in docs/glossary.md, in backticks: {', '.join(missing)}"


def test_every_name_beside_a_term_is_in_the_code():
    """A renamed class leaves no old name behind."""
    terms = "\n".join(re.findall(r"^\*\*.+$", GLOSSARY, flags=re.MULTILINE))
    known = {node.name for _, node in CLASSES} | aliases()
    unknown = sorted(set(re.findall(r"`([A-Z]\w*)`", terms)) - known)
    assert [] == unknown, f"docs/glossary.md names what no module defines: {', '.join(unknown)}"
