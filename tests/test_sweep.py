"""Sweeps that are interrupted, and sweeps over several machines: workers and schedulers that die, a node that is cut off, in the middle of it."""
import os, signal, subprocess, sys, threading, time
from pathlib import Path

import pytest

from leadlag import sweep as sweeps
from leadlag.benchmarks.nodes import WORLD, Cluster, ip, no_dask, no_world
from leadlag.core import LeadLagError
from leadlag.sweep import collect, grid, sweep

CELLS = """
import os, subprocess, time
def slow(c):
    time.sleep(.3)
    return [{"square": c["i"] ** 2}]
def quick(c): return [{"square": c["i"] ** 2}]
def named(c): return [{**slow(c)[0], "node": os.environ["NODE"]}]
def endless(c):
    if c["i"] < 2: return slow(c)
    grandchild = subprocess.Popen(["sleep", "60"])
    with open(f"begun-{c['i']}", "w") as f: f.write(f"{os.getppid()} {os.getpid()} {grandchild.pid}")
    open(f"{os.environ['TMPDIR']}/half made", "w").close()
    time.sleep(60)
"""
NIGHT = """
import signal, sys
from leadlag.command import guard
from leadlag.sweep import grid, sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # as on a terminal: where the tests run in the background, a shell has it ignored
if __name__ == "__main__": sys.exit(guard(lambda: sweep("slow_cells:endless", grid(i=list(range(9))), "out", workers=2)))
"""

def paths(folder): return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}
def squares(done): return [row["square"] for row in done.rows]

@pytest.fixture
def folder(tmp_path, monkeypatch):
    "Where the cells' module lies."
    (tmp_path / "slow_cells.py").write_text(CELLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path

def until(true, seconds=20, why=lambda: "it did not come true in time"):
    "Wait for something to become true."
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, why()
        time.sleep(.05)


# ---- one machine

def alive(pid):
    "Whether a process runs; one that has ended and waits to be asked how does not."
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError: return False

@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc, and there is none")
@pytest.mark.parametrize("how, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_end_by_hand_leaves_nobody_behind(folder, how, status):
    "Ctrl-C reaches all of a terminal's processes, a scheduler's kill only the first; either way children and grandchildren end, and what was finished is kept."
    (folder / "night.py").write_text(NIGHT); (scratch := folder / "scratch that is too long for the path of a socket, as a scheduler's folder can be").mkdir()
    night = subprocess.Popen([sys.executable, "night.py"], cwd=folder, env=os.environ | paths(folder) | {"TMPDIR": str(scratch)},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    def last_words(): night.kill(); return f"begun: {[p.name for p in folder.rglob('*')]}, said: {night.communicate()}"
    until(lambda: len([p for p in folder.glob("begun-*") if p.read_text().count(" ") == 2]) == 2, why=last_words)
    begun = [int(pid) for path in folder.glob("begun-*") for pid in path.read_text().split()]
    assert len(set(begun)) == 5 and all(map(alive, begun))  # two cells, what each began, and the server both were forked from
    os.killpg(night.pid, signal.SIGINT) if how == "SIGINT" else night.terminate()
    _, said = night.communicate(timeout=10)
    assert night.returncode == status and "Traceback" not in said, said
    until(lambda: not any(map(alive, begun)), 5)
    cells = grid(i=list(range(9))); kept = collect("slow_cells:endless", cells, folder / "out")
    assert squares(kept) == [0, 1] and kept.missing == 7 and not kept.failed
    assert not list(scratch.iterdir()) and not list((folder / "out").glob(".*"))


# ---- several machines

needs_dask = pytest.mark.skipif(bool(no_dask()), reason=no_dask())

@pytest.fixture
def cluster(folder):
    "A scheduler and two workers that can import the cells' module."
    with Cluster(folder, **paths(folder)) as nodes: nodes.grow(2); yield nodes

@needs_dask
def test_a_worker_dies(cluster, folder):
    "All cells are done by the one that is left, and the rows are those of a sweep on one machine."
    cells = grid(i=list(range(16)))
    threading.Timer(1.5, cluster.workers[0].kill).start()
    far = sweep("slow_cells:slow", cells, folder / "far", address=cluster.address)
    assert cluster.workers[0].wait(10) < 0 and not far.failed and not far.missing
    assert far.rows == sweep("slow_cells:slow", cells, folder / "near").rows

@needs_dask
def test_the_scheduler_dies(cluster, folder):
    "One sentence; what was finished is kept, and the next sweep does the rest."
    cells = grid(i=list(range(40)))
    threading.Timer(2.5, cluster.scheduler.kill).start()
    with pytest.raises(LeadLagError, match="what was finished is kept"): sweep("slow_cells:slow", cells, folder / "out", address=cluster.address)
    before = collect("slow_cells:slow", cells, folder / "out")
    assert before.missing > 0 and not before.failed
    assert squares(sweep("slow_cells:slow", cells, folder / "out", workers=8)) == [i * i for i in range(40)]


@needs_dask
def test_few_cells_wait_at_the_scheduler(cluster, folder, monkeypatch):
    "However many there are; each is asked for once."
    from distributed import Client
    asked, submit = [], Client.submit
    monkeypatch.setattr(Client, "submit", lambda self, *words, **more: asked.append(words[2]["i"]) or submit(self, *words, **more))
    waiting = [len(asked) - k for k, _ in enumerate(sweeps._far("slow_cells:quick", grid(i=list(range(60))), cluster.address, {}))]
    assert len(waiting) == len(set(asked)) == 60 and max(waiting) <= 2 * 8


# ---- three nodes joined by a bridge, in namespaces that have no names and end with their last process: nothing of them can be left behind

PATIENCE = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "4s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}  # below 11 s Dask refuses every connection

def in_the_world(folder):
    "A sweep over a scheduler and two workers, each on a node of its own; one is cut off when four cells are finished."
    os.environ.update(PATIENCE); sys.path.insert(0, str(folder))
    nodes = Cluster(folder, apart=True, **paths(folder)); nodes.grow(2)  # they end with the world
    def cut():
        until(lambda: len(list(folder.glob("out/cells/*.json"))) >= 4)
        ip("link", "set", f"cable{nodes.workers[0].pid}", "down")
    threading.Thread(target=cut, daemon=True).start()
    done = sweep("slow_cells:named", grid(i=list(range(24))), folder / "out", address=nodes.address)
    by = [row["node"] for row in done.rows]
    assert squares(done) == [i * i for i in range(24)] and not done.failed, done
    assert 1 <= by.count("2") < 12 < by.count("3"), by

@needs_dask
def test_a_node_is_cut_off(folder):
    "What it was doing is done by the other; nothing is lost and nothing waits for ever."
    if why := no_world(): pytest.skip(why)
    done = subprocess.run([*WORLD, sys.executable, __file__, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr

if __name__ == "__main__": in_the_world(Path(sys.argv[1]))
