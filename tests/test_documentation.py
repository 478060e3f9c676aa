"""README and docs/: their commands compose and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python (label|train)\.py (.*)")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def commands():
    lines = [
        line
        for page in PAGES
        for block in FENCE.findall(page.read_text())
        for line in block.split("\n")
    ]
    found = [COMMAND.search(line) for line in lines]
    return sorted({match.groups() for match in found if match})


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_there_are_commands_of_both_programs():
    assert {program for program, _ in commands()} == {"label", "train"}
    assert len(commands()) > 20


@pytest.mark.parametrize(("program", "line"), commands())
def test_commands_compose(program, line):
    arguments = shlex.split(line, comments=True)
    sweep = "-m" in arguments
    overrides = [word for word in arguments if not word.startswith("-")]
    if sweep:  # each sweep's first trial
        overrides = [word.split(",")[0] if "[" not in word else word for word in overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(program, overrides, return_hydra_config=True)
    assert "--help" in arguments or cfg.get("dataset") or "stage" in cfg


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        if not target.startswith("http"):
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
