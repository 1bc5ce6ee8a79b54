"""Each notebook under nbs/ is one pytest item; `--flags slow` runs the cells marked slow too."""
import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is imported: two threads on two cores were slower than one
os.environ.setdefault("MPLBACKEND", "agg")

import pytest


def pytest_addoption(parser):
    parser.addoption("--flags", default="", help="notebook flags to run besides the default ones, e.g. slow")


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".ipynb" and not file_path.name.startswith(("_", ".")):
        return NotebookFile.from_parent(parent, path=file_path)


class NotebookFile(pytest.File):
    def collect(self):
        yield NotebookItem.from_parent(self, name=self.path.stem)


class NotebookItem(pytest.Item):
    def runtest(self):
        from nbdev.config import get_config
        from nbdev.test import test_nb
        force = self.config.getoption("--flags").split()
        skip = set(get_config().tst_flags.split()) - set(force)
        passed, _ = test_nb(self.path.resolve(), skip_flags=skip, force_flags=force)
        assert passed, f"a cell of {self.path.name} failed; its traceback is above"

    def reportinfo(self):
        return self.path, 0, self.path.name
