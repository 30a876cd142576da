"""`slurm`: started once for all tests here, ended after them; the micro corpus, and its run on this machine."""

import subprocess
import sys

import pytest
import slurm as service
from micro import LOCAL, make_corpus, run


@pytest.fixture(scope="session", autouse=True)
def slurm():
    """A real Slurm with one node; without it, every test here says why it is left out."""
    if sys.version_info < (3, 11):
        pytest.skip("the graph on Slurm needs Python 3.11")
    if problem := service.why_not():
        pytest.skip(f"no Slurm: {problem}")
    try:
        service.install()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no Slurm: it cannot be installed ({error.stderr.decode(errors='replace').strip()[-200:]})")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("speech") / "corpus of 'speech'")


@pytest.fixture(scope="session")
def local(corpus, tmp_path_factory):
    """An undisturbed run without Slurm."""
    output = tmp_path_factory.mktemp("local") / "run"
    run(corpus, output, *LOCAL)
    return output
