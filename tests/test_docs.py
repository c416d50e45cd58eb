"""What README and docs show, works: every block of Python and of shell is run, or says there why it is not."""

import re
import shutil
import urllib.parse

import documents
import pytest

from keras_resnet.__main__ import table
from keras_resnet.architectures import NAMED, cost
from keras_resnet.weights.catalog import TRAINED

each_page = pytest.mark.parametrize("page", documents.PAGES, ids=lambda page: str(page.relative_to(documents.ROOT)))
README = documents.ROOT.joinpath("README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return documents.stage(tmp_path_factory.mktemp("docs") / "stage")


@each_page
def test_what_is_fast_runs(page, stage, tmp_path):
    documents.run(page, shutil.copytree(stage, tmp_path / "here", symlinks=True), slow=False)


@pytest.mark.slow
@each_page
def test_everything_runs(page, stage, tmp_path):
    documents.run(page, shutil.copytree(stage, tmp_path / "here", symlinks=True), slow=True)


def test_the_flags_of_what_is_not_run_exist():
    not_run = [block for page in documents.PAGES for block in documents.blocks(page) if not block.run]
    documents.parse_flags(not_run + [block for page in documents.PAGES for block in documents.commands_in_a_line(page)])


@each_page
def test_no_block_is_overlooked(page):
    """What is neither Python nor shell cannot be run; what is, begins its line."""
    fences = re.findall(r"^[ >]*(```+.*)$", page.read_text("utf-8"), re.M)
    assert {opening.strip("`") for opening in fences[::2]} <= {
        "python",
        "sh",
        "yaml",
        "text",
        "kotlin",
        "swift",
        "bibtex",
    }
    assert set(fences[1::2]) <= {"```"}
    assert sum("```python" in fence or "```sh" in fence for fence in fences) == len(documents.blocks(page))


def test_the_two_commands_are_the_ones_that_are_checked():
    commands = [block.code for block in documents.blocks(documents.ROOT / "README.md") if block.language == "sh"]
    assert [command.count("\n") for command in commands[:2]] == [1, 1]
    checked = documents.ROOT.joinpath(".ci", "run").read_text()
    for step in commands[1].strip().split(" && "):
        assert step in checked


@each_page
def test_links_lead_somewhere(page):
    """Files, and headings in them; addresses are not followed."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if urllib.parse.urlsplit(target).scheme:
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M) if heading else []
        slugs = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
        assert not heading or heading in slugs, target


def test_the_table_of_networks_is_the_one_that_the_package_prints():
    assert table(markdown=True) in documents.ROOT.joinpath("docs", "networks.md").read_text("utf-8")


def test_the_readmes_results_are_those_of_the_shipped_networks():
    for row in TRAINED:
        parameters = cost(NAMED[row.network]).parameters
        assert re.search(rf"^\| {row.network} \| {parameters:,} \|.*\b{row.errors / 100:.2f}\b", README, re.M), row
