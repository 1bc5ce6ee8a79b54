"""The offline store where a notebook cannot go: killed writers, hostile files, a disk that is full. Each attempt runs in a process of its own."""
import os, resource, shutil, signal, time

import h5py
import numpy as np
import pytest

from leadlag.core import DataError, UsageError, dumps
from leadlag.offline_rl.log_trajectories import LogTrajectories, get_teacher, log_trajectories, spec_of, trajectory_blocks
from leadlag.offline_rl.store import ACTIONS, SCHEMA, check_store, read_store, spec_to_dict, write_store

CONFIG = LogTrajectories(episodes=3, length=32)
ABOUT = {"spec": spec_to_dict(spec_of(CONFIG)), "regimes": ["bull", "bear", "range"], "actions": list(ACTIONS), "policy": "belief", "noise": 0., "seed": 0}

def blocks(seed=0):
    config = LogTrajectories(episodes=3, length=32, seed=seed)
    return list(trajectory_blocks(config, get_teacher("belief", spec_of(config))))

@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "set.h5", blocks(), ABOUT)

def forked(work):
    "Exit status of `work()` in a child with little memory and time; minus the signal that ended it."
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); signal.alarm(30)
            os._exit(work() or 0)
        except BaseException as e:
            os._exit(50 if isinstance(e, DataError) else 51 if isinstance(e, OSError) else 52)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- writers

def test_a_killed_writer_leaves_the_old_set_or_the_new_one(store):
    old, new = store.read_bytes(), blocks(seed=1)
    after, rng, seen = write_store(store.with_name("new.h5"), new, ABOUT).read_bytes(), np.random.default_rng(0), set()
    def slow():
        for block in new:
            for i in range(0, len(block["action"]), 8):
                time.sleep(.002); yield {k: v[i:i + 8] for k, v in block.items()}
    for _ in range(20):
        store.write_bytes(old)
        pid = os.fork()
        if pid == 0: write_store(store, slow(), ABOUT); os._exit(0)
        time.sleep(rng.uniform(0, .08)); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
        assert store.read_bytes() in (old, after)
        seen.add(store.read_bytes() == after)
        read_store(store)
    write_store(store, new, ABOUT)
    assert store.read_bytes() == after and sorted(p.name for p in store.parent.iterdir()) == ["new.h5", "set.h5"], "leftovers are cleared"
    assert False in seen

@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_set(store, broken, monkeypatch):
    old = store.read_bytes()
    def fails(*_): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, broken, fails)
    with pytest.raises(OSError): write_store(store, blocks(seed=1), ABOUT)
    assert store.read_bytes() == old and [p.name for p in store.parent.iterdir()] == ["set.h5"]

def test_a_full_disk_leaves_the_old_set(store):
    old = store.read_bytes()
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        write_store(store, blocks(seed=1), ABOUT)
    assert forked(work) == 51 and store.read_bytes() == old and [p.name for p in store.parent.iterdir()] == ["set.h5"]

@pytest.mark.skipif(os.getuid() != 0, reason="needs a user to become")
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o755)
    def work():
        def never(): os._exit(9); yield
        os.setuid(65534); write_store(tmp_path / "set.h5", never(), ABOUT)
    assert forked(work) == 51

def test_a_second_writer_is_refused(store):
    pid = os.fork()
    if pid == 0: time.sleep(30); os._exit(0)
    try:
        (store.parent / f".set.h5.{pid}.tmp").write_text("")
        with pytest.raises(UsageError, match="is being written"): write_store(store, blocks(), ABOUT)
    finally: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)


# ---- hostile files

def put(name, make):
    "A change that puts what `make(file, secret)` gives in the place of a column."
    def change(f, secret): del f[name]; make(f, secret)
    return change

def virtual(f, secret):
    layout = h5py.VirtualLayout((96,), "f8"); layout[:] = h5py.VirtualSource(secret, "mean", (96,)); f.create_virtual_dataset("reward", layout)

def onto_itself(f, secret):
    layout = h5py.VirtualLayout((96,), "f8"); layout[:] = h5py.VirtualSource(".", "reward", (96,)); f.create_virtual_dataset("reward", layout)

def settings(**change):
    "A change of the environment's settings that leaves the data as they are."
    return lambda f, secret: f.attrs.__setitem__("spec", np.bytes_(dumps(ABOUT["spec"] | change).encode()))

HOSTILE = {
    "external storage": put("reward", lambda f, secret: f.create_dataset("reward", (96,), "f8", external=[(secret, 0, 768)])),
    "external link": put("reward", lambda f, secret: f.__setitem__("reward", h5py.ExternalLink(secret, "/mean"))),
    "soft link": put("reward", lambda f, secret: f.__setitem__("reward", h5py.SoftLink("/mean"))),
    "a group that holds itself": put("reward", lambda f, secret: f.__setitem__("reward", f["/"])),
    "virtual outside": put("reward", virtual),
    "virtual on itself": put("reward", onto_itself),
    "10^12 rows": lambda f, secret: [f[k].resize(10**12, 0) for k in SCHEMA],
    "a bomb of zeros": put("reward", lambda f, secret: f.create_dataset("reward", (10**9,), "f8", chunks=(10**8,), compression="gzip")),
    "rows that were never written": put("mean", lambda f, secret: f.create_dataset("mean", (96,), "f8", chunks=(96,), fletcher32=True).attrs.__setitem__("unit", np.bytes_("percent"))),
    "python objects": put("action", lambda f, secret: f.create_dataset("action", data=["x"] * 96, dtype=h5py.string_dtype())),
    "a column more": lambda f, secret: f.create_dataset("more", (96,), "f8"),
    "settings of another observation": settings(observe="raw"),
    "a vast burn-in": settings(burn_in=100_000),
    "a vast episode": settings(length=100_000),
    "a market that is a file": settings(market="/etc/passwd"),
    "a vast attribute": lambda f, secret: f.attrs.__setitem__("spec", np.bytes_(b" " * 65_000 + b"{")),
}

@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_file_is_refused(store, how):
    secret, bad = store.with_name("secret.h5"), store.with_name("bad.h5")
    shutil.copy(store, secret), shutil.copy(store, bad)
    def make():
        with h5py.File(bad, "r+") as f: HOSTILE[how](f, str(secret))
    assert forked(make) == 0, "the file could not be made"
    for look in (check_store, read_store): assert forked(lambda: look(bad) and None) == 50
    assert secret.read_bytes() == store.read_bytes()

def test_cuts_and_flips_never_crash_and_are_never_believed(store):
    whole, rng, bad, refused = store.read_bytes(), np.random.default_rng(0), store.with_name("bad.h5"), 0
    good = read_store(store)
    def work():
        got = read_store(bad)
        return 0 if all(np.array_equal(getattr(got, k), getattr(good, k)) for k in SCHEMA) else 1
    for i in range(200):
        b = bytearray(whole)
        for at in rng.integers(0, len(b), 3): b[at] = rng.integers(256)
        bad.write_bytes(b[:rng.integers(len(b))] if i % 4 == 0 else b)
        status = forked(work)
        assert status in (0, 50), (i, status)
        refused += status == 50
    assert refused > 80

def test_another_process_writes_the_same_bytes(tmp_path):
    log_trajectories(LogTrajectories(episodes=3, length=32, output=str(tmp_path / "a" / "set.h5")))
    assert forked(lambda: log_trajectories(LogTrajectories(episodes=3, length=32, output=str(tmp_path / "b" / "set.h5"))) and None) == 0
    assert (tmp_path / "a" / "set.h5").read_bytes() == (tmp_path / "b" / "set.h5").read_bytes()
