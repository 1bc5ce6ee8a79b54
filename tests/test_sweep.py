"""Sweeps over several machines: workers and schedulers that die in the middle of it. Skipped where Dask is not installed."""
import os, socket, subprocess, sys, threading

import pytest

from leadlag.core import LeadLagError
from leadlag.sweep import collect, grid, sweep

pytest.importorskip("distributed", reason="dask distributed is not installed: pip install 'leadlag[cluster]'")
CELLS = "import time\ndef square(c): return [{'square': c['i'] ** 2}]\ndef slow(c):\n    time.sleep(.3)\n    return square(c)\n"

@pytest.fixture
def cluster(tmp_path, monkeypatch):
    "(address, scheduler, two workers); the cells' module can be imported here and there."
    (tmp_path / "slow_cells.py").write_text(CELLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))}
    def start(what, *words):
        return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    begun = [start("scheduler", "--host", "127.0.0.1", "--port", str(port))]
    begun += [start("worker", address, "--no-nanny", "--nthreads", "1") for _ in range(2)]
    from distributed import Client
    with Client(address, timeout=60) as client: client.wait_for_workers(2, timeout=60)
    yield address, begun[0], begun[1:]
    for process in begun: process.kill(); process.wait()

def test_a_worker_dies(cluster, tmp_path):
    "All cells are done by the one that is left, and the rows are those of a sweep on one machine."
    address, _, workers = cluster
    cells = grid(i=list(range(16)))
    threading.Timer(1.5, workers[0].kill).start()
    far = sweep("slow_cells:slow", cells, tmp_path / "far", address=address)
    assert workers[0].wait(10) < 0 and not far.failed and not far.missing
    assert far.rows == sweep("slow_cells:slow", cells, tmp_path / "near").rows

def test_the_scheduler_dies(cluster, tmp_path):
    "One sentence; what was finished is kept, and the next sweep does the rest."
    address, scheduler, _ = cluster
    cells = grid(i=list(range(40)))
    threading.Timer(2.5, scheduler.kill).start()
    with pytest.raises(LeadLagError, match="what was finished is kept"): sweep("slow_cells:slow", cells, tmp_path / "out", address=address)
    before = collect("slow_cells:slow", cells, tmp_path / "out")
    assert before.missing > 0 and not before.failed
    after = sweep("slow_cells:slow", cells, tmp_path / "out", workers=8)
    assert [r["square"] for r in after.rows] == [i * i for i in range(40)]
