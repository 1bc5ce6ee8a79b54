"""Each notebook under nbs/ is one pytest item; `--flags slow` runs the cells marked slow too."""
import atexit
import os
import sys
from unittest import mock

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is imported: two threads on two cores were slower than one
os.environ.setdefault("MPLBACKEND", "agg")

import pytest


def pytest_addoption(parser):
    parser.addoption("--flags", default="", help="notebook flags to run besides the default ones, e.g. slow")


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".ipynb" and not file_path.name.startswith(("_", ".")):
        return NotebookFile.from_parent(parent, path=file_path)


def run_notebook(path, **flags):
    """Run a notebook. What its shell leaves to the end of the process is done at once: with the variables of a hundred notebooks in memory it takes minutes there."""
    from IPython.core.interactiveshell import InteractiveShell
    from nbdev.test import test_nb
    main = sys.modules["__main__"]  # the shell puts its own in this place
    with mock.patch("atexit.register", wraps=atexit.register) as registered: passed, _ = test_nb(path, **flags)
    for (last, *_), _ in registered.call_args_list:
        if isinstance(getattr(last, "__self__", None), InteractiveShell): atexit.unregister(last), last()
    sys.modules["__main__"] = main
    return passed


class NotebookFile(pytest.File):
    def collect(self):
        yield NotebookItem.from_parent(self, name=self.path.stem)


class NotebookItem(pytest.Item):
    def runtest(self):
        from nbdev.config import get_config
        force = self.config.getoption("--flags").split()
        skip = set(get_config().tst_flags.split()) - set(force)
        assert run_notebook(self.path.resolve(), skip_flags=skip, force_flags=force), f"a cell of {self.path.name} failed; its traceback is above"

    def reportinfo(self):
        return self.path, 0, self.path.name
