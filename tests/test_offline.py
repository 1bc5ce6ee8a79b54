"""The offline store where a notebook cannot go: killed writers, hostile files, a disk that is full. Each attempt runs in a process of its own."""
import json, os, resource, shutil, signal, struct, subprocess, sys, time
from pathlib import Path

import h5py, hdf5plugin
import numpy as np
import pytest

from leadlag.core import DataError, UsageError, dumps
from leadlag.engine.spec import EnvSpec
from leadlag.offline_rl import shards
from leadlag.offline_rl.files import check_shard, shards_folder
from leadlag.offline_rl.log_trajectories import LogTrajectories, get_teacher, log_trajectories, spec_of, trajectory_blocks
from leadlag.offline_rl.schema import as_columns
from leadlag.offline_rl.shards import Consolidate, ShardWriter, consolidate, read_list
from leadlag.offline_rl.store import SCHEMA, check_store, make_about, open_store, read_store, write_store

CONFIG = LogTrajectories(episodes=3, length=32)
ABOUT = make_about(spec_of(CONFIG), "belief")
KILLS = int(os.environ.get("LEADLAG_KILLS", 6))  # 100 for the full test

def blocks(seed=0):
    config = LogTrajectories(episodes=3, length=32, seed=seed)
    return [as_columns(b) for b in trajectory_blocks(config, get_teacher("belief", spec_of(config)))]

def same(a, b):
    "Whether two sets have the same rows."
    return all(np.array_equal(getattr(a, k), getattr(b, k), equal_nan=SCHEMA[k][0][0] == "f") for k in SCHEMA)

@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "set.h5", blocks(), ABOUT)

def forked(work):
    "Exit status of `work()` in a child with little memory and time; minus the signal that ended it."
    pid = os.fork()
    if pid == 0:
        try:
            room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (4 << 30) if Path("/proc/self/statm").exists() else 6 << 30
            resource.setrlimit(resource.RLIMIT_AS, (room, room)); signal.alarm(30)  # above what the tests' own process has mapped by now
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

def episodes(first, last, seed=0):
    "Made-up whole episodes of 32 steps; each depends on its number and the seed alone."
    parts, n = [], 32
    for k in range(first, last):
        rng = np.random.default_rng([seed, k])
        p = rng.dirichlet(np.ones(3), n)
        parts.append(as_columns({"observation": rng.normal(size=(n, 15)), "action": p.argmax(1), "reward": rng.normal(size=n), "probability": p, "terminated": np.zeros(n),
                                 "truncated": np.arange(n) == n - 1, "episode": np.full(n, k), "step": np.arange(n), "seed": np.full(n, k), "regime": 1, "lookback": 3, "mean": rng.normal(size=n)}))
    return {k: np.concatenate([p[k] for p in parts]) for k in SCHEMA}

def keep_writing(path, tell, last, seed, **how):
    "Write up to episode `last` in pieces of odd sizes, committing now and then; tell how many rows are safe after each."
    rng = np.random.default_rng(os.getpid())
    with ShardWriter(path, ABOUT, **how) as writer:
        tell(writer.safe)
        rows, at = episodes(writer.next_episode, last, seed) if writer.next_episode < last else {}, 0
        n = len(rows["action"]) if rows else 0
        while at < n:
            size = int(rng.integers(1, 150))
            tell(writer.append({k: v[at:at + size] for k, v in rows.items()}))
            at += size
            if rng.random() < .1: tell(writer.commit())

def killed_writer(path, after, *what, **how):
    "Run `keep_writing` in a child that is killed `after` seconds; returns the last number of safe rows it told, and whether it had finished."
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try: keep_writing(path, lambda n: os.write(write, struct.pack("q", n)), *what, **how); os._exit(0)
        except BaseException as e: os.write(2, repr(e).encode()); os._exit(1)
    os.close(write)
    os.read(read, 8)  # it has the folder
    time.sleep(after); os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]); told = b""
    while piece := os.read(read, 1 << 16): told += piece
    os.close(read)
    assert status in (0, -signal.SIGKILL)
    return max(struct.unpack(f"{len(told) // 8}q", told), default=0), status == 0

def named_rows(path):
    "What the manifest of an unfinished log names, read from the shards; rows behind the last whole episode too."
    home = shards_folder(path)
    if not (home / "writing.json").exists(): return {k: getattr(read_store(path), k) for k in SCHEMA} if path.exists() else {k: np.empty(0) for k in SCHEMA}
    about, listed = read_list(home / "writing.json"); parts = []
    for k, (rows, sha) in enumerate(listed):
        with check_shard(home, k, rows, sha, about) as f: parts.append({name: f[name][:] for name in SCHEMA})
    return {k: np.concatenate([p[k] for p in parts]) for k in SCHEMA}

def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 500)  # no multiple of an episode
    rng, last, path, kills, late = np.random.default_rng(0), 150, tmp_path / "set.h5", 0, 0
    wanted = episodes(0, last)
    with ShardWriter(tmp_path / "whole.h5", ABOUT) as w: w.append(wanted)
    whole = {p.name: p.read_bytes() for p in shards_folder(tmp_path / "whole.h5").iterdir()}
    while kills < KILLS:
        safe, done = killed_writer(path, rng.uniform(0, .5), last, 0, resume=True)
        kills += not done; late += not done and safe > 0
        found = named_rows(path); n = len(found["action"])
        assert n >= safe, "an acknowledged row is lost"
        for k in SCHEMA if n else (): assert np.array_equal(found[k], wanted[k][:n], equal_nan=SCHEMA[k][0][0] == "f"), (k, "a row is twice, or another")
        if not done and kills < KILLS and n < last * 32: continue
        with ShardWriter(path, ABOUT, resume=True) as w:
            assert w.rows >= safe, "an acknowledged row is gone after the resume"
            if w.next_episode < last: w.append(episodes(w.next_episode, last))
        assert {p.name: p.read_bytes() for p in shards_folder(path).iterdir()} == whole and same(read_store(path), read_store(tmp_path / "whole.h5"))
        shutil.rmtree(shards_folder(path)); path.unlink()
    assert late > 0

def test_a_writer_killed_while_it_replaces_a_set_leaves_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 500)
    rng, path, seen = np.random.default_rng(1), tmp_path / "set.h5", set()
    for seed in (0, 1):
        with ShardWriter(tmp_path / f"{seed}.h5", ABOUT) as w: w.append(episodes(0, 40, seed))
    sets = [read_store(tmp_path / f"{seed}.h5") for seed in (0, 1)]
    for trial in range(KILLS):
        with ShardWriter(path, ABOUT, overwrite=True) as w: w.append(episodes(0, 40, 0))
        killed_writer(path, rng.uniform(0, .3), 40, 1, overwrite=True)
        found = read_store(path); seen.add(same(found, sets[1]))
        assert same(found, sets[0]) or same(found, sets[1])
        if (shards_folder(path) / "writing.json").exists():
            with ShardWriter(path, ABOUT, resume=True) as w:
                if w.next_episode < 40: w.append(episodes(w.next_episode, 40, 1))
            assert same(read_store(path), sets[1])
    assert False in seen

def test_a_second_writer_is_refused_and_a_killed_one_is_not_waited_for(tmp_path):
    path, (read, write) = tmp_path / "set.h5", os.pipe()
    pid = os.fork()
    if pid == 0:
        with ShardWriter(path, ABOUT) as w: w.append(episodes(0, 2)); w.commit(); os.write(write, b"x"); time.sleep(60)
    os.read(read, 1)
    try:
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(UsageError, match="is being written by another process"): ShardWriter(path, ABOUT, **how)
    finally: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
    with pytest.raises(UsageError, match="unfinished"): ShardWriter(path, ABOUT)
    with ShardWriter(path, ABOUT, resume=True) as w: w.append(episodes(2, 4))
    assert len(read_store(path)) == 128 and [p.name for p in tmp_path.iterdir()] == ["set.h5"]

@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_whatever_write_fails_what_was_acknowledged_stays(tmp_path, broken, monkeypatch):
    "The n-th flush or rename fails, for every n."
    monkeypatch.setattr(shards, "SHARD", 500); real, wanted = getattr(os, broken), episodes(0, 40)
    for n in range(40):
        path, left = tmp_path / f"{n}" / "set.h5", [n]
        def fails(*where):
            left[0] -= 1
            if left[0] < 0: raise OSError(28, "No space left on device")
            return real(*where)
        safe, monkeypatched = 0, monkeypatch.setattr(os, broken, fails)
        try:
            with ShardWriter(path, ABOUT) as w:
                for a in range(0, 1280, 100): safe = w.append({k: v[a:a + 100] for k, v in wanted.items()})
        except OSError: pass
        finally: monkeypatch.setattr(os, broken, real)
        with ShardWriter(path, ABOUT, resume=True) as w:
            assert w.rows >= safe, "an acknowledged row is gone after the resume"
            if w.next_episode < 40: w.append(episodes(w.next_episode, 40))
        got = read_store(path); assert all(np.array_equal(getattr(got, k), wanted[k], equal_nan=SCHEMA[k][0][0] == "f") for k in SCHEMA)
        assert sorted(p.name for p in path.parent.iterdir()) == ["set.h5", "set.h5.shards"]
        if left[0] > 0: break
    assert n > 5 and left[0] > 0

def test_a_log_killed_and_resumed_has_the_rows_of_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 4000)
    config = LogTrajectories(episodes=600, length=32, policy="random", output=str(tmp_path / "set.h5"))
    whole = log_trajectories(LogTrajectories(episodes=600, length=32, policy="random", output=str(tmp_path / "whole" / "set.h5")))
    def slow(*what, each=trajectory_blocks):
        for block in each(*what):
            for a in range(0, len(block["action"]), 500): yield {k: v[a:a + 500] for k, v in block.items()}; time.sleep(.02)
    monkeypatch.setattr("leadlag.offline_rl.log_trajectories.trajectory_blocks", slow)
    pid = os.fork()
    if pid == 0: log_trajectories(config); os._exit(0)
    while not (shards_folder(config.output) / "writing.json").exists(): time.sleep(.01)
    time.sleep(.1); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
    with pytest.raises(UsageError, match="unfinished"): log_trajectories(config)
    log_trajectories(LogTrajectories(**{**vars(config), "resume": True}))
    assert same(read_store(config.output), read_store(whole)) and (tmp_path / "set.h5").read_bytes() == whole.read_bytes()
    for page in ("offline_metadata.json", "dataset_card.md"): assert (tmp_path / page).read_text() == (whole.parent / page).read_text()

def test_a_log_of_real_prices_has_no_truth(tmp_path):
    about = make_about(EnvSpec(market="prices.csv", leader="A", follower=("B", "C"), length=32), "two", policies=["early", "late"])
    rows = {k: v for k, v in episodes(0, 4).items() if k not in ("regime", "lookback", "mean", "episode")} | {"policy": np.repeat([0, 1], 64), "value": np.ones(128), "lane": np.repeat([0, 1, 2, 3], 32)}
    with ShardWriter(tmp_path / "set.h5", about) as w: w.append({k: v[:50] for k, v in rows.items()}); w.append({k: v[50:] for k, v in rows.items()})
    data = read_store(tmp_path / "set.h5")
    assert (data.regime == -1).all() and (data.lookback == -1).all() and np.isnan(data.mean).all() and np.array_equal(data.episode, np.repeat(np.arange(4), 32))
    assert (data.value == 1).all() and data.policy[-1] == 1 and data.about["policies"] == ["early", "late"] and data.about["regimes"] == [] and data.spec.pairs == (("A", "B"), ("A", "C"))
    with ShardWriter(tmp_path / "no.h5", about) as w:
        with pytest.raises(DataError, match="column mean"): w.append(episodes(0, 1))
        w.append({k: v for k, v in rows.items()})


# ---- whose shards these are

def log(path, last=3, seed=0, **how):
    "A set of `last` episodes of 32 steps; with shards of 40 steps."
    with ShardWriter(path, ABOUT, **how) as w: w.append(episodes(w.next_episode, last, seed))
    return path

def test_sets_whose_names_differ_in_the_ending_have_shards_of_their_own(sharded):
    good = read_store(sharded)
    for name in ("set.hdf5", "set"): log(sharded.with_name(name), seed=1); log(sharded.with_name(name), 1, seed=2, overwrite=True)
    assert same(read_store(sharded), good)

@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
@pytest.mark.parametrize("there", ["nothing", "a plain file", "a damaged file", "another set"])
def test_the_shards_of_a_renamed_set_are_not_touched(sharded, there, how):
    good, other = read_store(sharded), sharded.rename(sharded.with_name("other.h5"))
    if there == "a plain file": write_store(sharded, [episodes(0, 1)], ABOUT)
    if there == "a damaged file": sharded.write_bytes(other.read_bytes()[:2000])
    if there == "another set": log(sharded.with_name("third.h5")).rename(sharded)
    with pytest.raises(UsageError): log(sharded, seed=1, **how)
    assert same(read_store(other), good)
    if not how and there == "nothing":
        with pytest.raises(UsageError, match=r"set\.h5\.shards holds the shards of a set that is no longer called set\.h5: give"): log_trajectories(LogTrajectories(output=str(sharded)))
        consolidate(Consolidate(str(other))); assert same(read_store(other), good) and [p.name for p in sharded.parent.iterdir()] == ["other.h5"]
        log(sharded, seed=1)

def test_a_folder_of_shards_that_is_a_link_is_refused(sharded):
    good = read_store(sharded)
    os.symlink(shards_folder(sharded), shards_folder(sharded.with_name("u.h5")))
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match="is a link or a file"): log(sharded.with_name("u.h5"), **how)
    assert same(read_store(sharded), good)

def test_consolidating_leaves_what_is_not_ours_and_what_another_set_needs(sharded):
    home, good = shards_folder(sharded), read_store(sharded)
    (home / "notes.txt").write_text("mine"); (home / "sub").mkdir(); (home / "sub" / "x").write_text("mine")
    copy = shutil.copy(sharded, sharded.with_name("copy.h5"))
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match="copy.h5, a copy of .* would lose them"): log(sharded, 6, **how)
    consolidate(Consolidate(str(copy)))
    assert same(read_store(copy), good) and same(read_store(sharded), good)
    consolidate(Consolidate(str(sharded)))
    assert same(read_store(sharded), good) and sorted(str(p.relative_to(home)) for p in home.rglob("*")) == ["notes.txt", "sub", "sub/x"]
    log(sharded, 3, 1, overwrite=True); assert (home / "notes.txt").read_text() == "mine"

@pytest.mark.parametrize("what", ["log", "append", "overwrite", "overwrite with less", "consolidate"])
def test_killed_before_any_rename_or_removal_a_set_goes_on(sharded, what):
    "The n-th change of a name in a folder does not happen any more, for every n; the next writer is never refused as a stranger."
    kept, old = sharded.parent / "kept", read_store(sharded)
    kept.mkdir(); shutil.move(sharded, kept); shutil.move(shards_folder(sharded), kept)
    def work(n):
        left = [n]
        def mortal(call):
            def f(*a, **k):
                left[0] -= 1
                if left[0] < 0: os._exit(9)
                return call(*a, **k)
            return f
        for name in ("replace", "unlink", "rmdir"): setattr(os, name, mortal(getattr(os, name)))
        if what == "consolidate": consolidate(Consolidate(str(sharded)))
        else: log(sharded, 9 if what == "append" else 1 if "less" in what else 5, 0 if what == "append" else 1, resume=what == "append", overwrite="over" in what)
    for n in range(0, 200, 1 if KILLS >= 100 else 7):
        for p in (sharded, shards_folder(sharded)): shutil.rmtree(p, ignore_errors=True) if p.is_dir() else p.unlink(missing_ok=True)
        if what != "log": shutil.copytree(kept, sharded.parent, dirs_exist_ok=True)
        status = forked(lambda: work(n)); assert status in (0, 9)
        half = (shards_folder(sharded) / "writing.json").exists()
        if sharded.exists(): assert len(read_store(sharded)) in (96, 288 if what == "append" else 32 if "less" in what else 160)
        if what in ("append", "consolidate"): assert same(read_store(sharded).rows(slice(96)), old)
        log(sharded, 4, 2, overwrite=half or sharded.exists()); assert len(read_store(sharded)) == 128
        assert sum(shards.SHARD_FILE.match(p.name) is not None for p in shards_folder(sharded).iterdir()) == 4 and not [p for p in shards_folder(sharded).iterdir() if p.suffix == ".tmp"]
        if status == 0: break
    assert 3 < n < 190

@pytest.mark.parametrize("name", ["a:b.h5", "a\\b.h5", "%b.h5", "100%.h5", "tab\there.h5", "new\nline.h5", "nb\u00a0sp.h5", "z\u200bw.h5", "x" * 205 + ".h5", "ü" * 100 + ".h5", os.fsdecode(b"\xff.h5")], ids=ascii)
def test_names_that_hdf5_or_people_misread_are_refused_before_any_work(tmp_path, name):
    for begin in (lambda: ShardWriter(tmp_path / name, ABOUT), lambda: log_trajectories(LogTrajectories(output=str(tmp_path / name)))):
        with pytest.raises(UsageError, match="cannot be the name of a set") as e: begin()
        assert "\n" not in str(e.value) and str(e.value).isprintable() and not any(tmp_path.iterdir())

@pytest.mark.parametrize("name", ["größe 2.h5", "[abc].h5", "*.h5", "-x.h5", "emoji🙂.h5", " .h5", "y" * 190 + ".h5"], ids=ascii)
def test_other_names_are_taken(tmp_path, monkeypatch, name):
    monkeypatch.setattr(shards, "SHARD", 40)
    log(tmp_path / name); log(tmp_path / name, 6, resume=True)
    assert len(read_store(tmp_path / name)) == 192
    with h5py.File(tmp_path / name) as f: assert np.array_equal(f["reward"][:], episodes(0, 6)["reward"])

def test_a_teacher_trained_again_does_not_go_on_with_the_log_of_the_first(tmp_path):
    from leadlag.agents.ppo import NumpyPolicy
    from leadlag.core import write_json
    from leadlag.offline_rl.schema import spec_to_dict
    def train(seed):
        rng = np.random.default_rng(seed)
        NumpyPolicy(tuple((rng.normal(size=(o, i)).astype("f4"), np.zeros(o, "f4")) for i, o in ((15, 8), (8, 3)))).save(tmp_path / "run" / "policy.npz")
    write_json(tmp_path / "run" / "config.json", {"env": spec_to_dict(EnvSpec(length=32))}); train(0)
    config = {"length": 32, "policy": f"ppo:{tmp_path / 'run'}", "output": str(tmp_path / "d" / "set.h5")}
    log_trajectories(LogTrajectories(episodes=3, **config)); log_trajectories(LogTrajectories(episodes=6, resume=True, **config)); train(1)
    with pytest.raises(UsageError, match="begun with policies"): log_trajectories(LogTrajectories(episodes=9, resume=True, **config))
    assert read_store(config["output"]).about["policy"] == config["policy"]


# ---- a disk that is full

FULL = """
import sys
from leadlag.command import run
from leadlag.offline_rl import shards
from leadlag.offline_rl.log_trajectories import LogTrajectories, log_trajectories
from leadlag.offline_rl.shards import Consolidate, consolidate
shards.SHARD = int(sys.argv.pop(1)); what = sys.argv.pop(1)
sys.exit(run(*((consolidate, Consolidate) if what == "consolidate" else (log_trajectories, LogTrajectories)), prog=what))
"""

@pytest.fixture
def small_disk(tmp_path):
    "A disk of 300 kB."
    where = tmp_path / "disk"; where.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", where], capture_output=True).returncode: pytest.skip("no disk may be mounted here")
    yield where
    subprocess.run(["umount", where], check=True)

@pytest.mark.parametrize("shard, what, files", [(10**6, "log", 70), (2000, "log", 70), (500, "log", 20), (2000, "consolidate", 70)])
def test_a_full_disk_is_one_sentence_and_the_old_set_stays(small_disk, tmp_path, shard, what, files, monkeypatch):
    path = small_disk / "set.h5"; monkeypatch.setattr(shards, "SHARD", shard)
    source = path if what == "log" else tmp_path / "source.h5"
    log(source, 10 if what == "log" else 200); old = read_store(source)
    if what == "log": (small_disk / "ballast").write_bytes(b"x" * 1024 * files)
    else: (small_disk / "ballast").write_bytes(b"x" * 1024 * 200)
    words = [f"--dataset={source}", f"--output={path}"] if what == "consolidate" else [f"--output={path}", "--episodes=100", "--overwrite"]
    done = subprocess.run([sys.executable, "-c", FULL, str(shard), what, *words], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "it/s" not in line and not line.startswith("log")]
    assert done.returncode == 1 and "Traceback" not in done.stderr and said[-1].startswith("leadlag: No space left on device") and len(said) <= 2, done.stderr
    assert same(read_store(source), old)
    (small_disk / "ballast").unlink()
    if what == "log": log(path, 4, overwrite=True); assert len(read_store(path)) == 128


# ---- hostile files

@pytest.fixture
def sharded(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 40)
    with ShardWriter(tmp_path / "set.h5", ABOUT) as w: w.append(episodes(0, 3))
    return tmp_path / "set.h5"

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
    "a bomb of packed zeros": put("reward", lambda f, secret: f.create_dataset("reward", data=np.zeros(10**7), chunks=(10**7,), fletcher32=True, **hdf5plugin.Blosc(cname="zstd"))),
    "rows that were never written": put("mean", lambda f, secret: f.create_dataset("mean", (96,), "f8", chunks=(96,), fletcher32=True, **hdf5plugin.Blosc()).attrs.__setitem__("unit", np.bytes_("percent"))),
    "python objects": put("action", lambda f, secret: f.create_dataset("action", data=["x"] * 96, dtype=h5py.string_dtype())),
    "a column more": lambda f, secret: f.create_dataset("more", (96,), "f8"),
    "settings of another observation": settings(observe="raw"),
    "a vast burn-in": settings(burn_in=100_000),
    "a vast episode": settings(length=100_000),
    "a market that is a file": settings(market="/etc/passwd"),
    "a vast attribute": lambda f, secret: f.attrs.__setitem__("spec", np.bytes_(b" " * 65_000 + b"{")),
}

def listing(**change):
    "A change of the list of shards that leaves the columns as they are."
    return lambda f, secret: f.attrs.__setitem__("shards", np.bytes_(json.dumps(json.loads(f.attrs["shards"]) | change).encode()))

def leads(name, rows=96, start=0, column="reward"):
    "A change that lets the column `reward` come from elsewhere."
    def change(f, secret):
        del f["reward"]
        layout = h5py.VirtualLayout((96,), "f8"); layout[:rows] = h5py.VirtualSource(name or secret, column, (rows,)); f.create_virtual_dataset("reward", layout).attrs["unit"] = np.bytes_("percent")
    return change

HOSTILE_CONTENTS = {
    "another file": leads(None), "itself": leads("."), "a file above": leads("../x.h5"), "an absolute path": leads("/etc/passwd"), "fewer rows": leads(None, 40),
    "a folder above": listing(folder="../set.h5.shards"), "an absolute folder": listing(folder="/etc.shards"), "no folder": listing(folder=None), "no shards": listing(shards=[]),
    "shards without end": listing(shards=[[10**15, "0" * 64]] * 3), "shards that are none": listing(shards=[[40, "../x"]] * 3), "no list": listing(shards=7),
    "external link": HOSTILE["external link"], "soft link": HOSTILE["soft link"], "external storage": HOSTILE["external storage"], "a column more": HOSTILE["a column more"],
    "a real column": put("reward", lambda f, secret: f.create_dataset("reward", data=np.zeros(96))),
}

@pytest.mark.parametrize("how", HOSTILE_CONTENTS)
def test_a_hostile_table_of_contents_is_refused(sharded, how):
    secret, bad = sharded.with_name("secret.h5"), sharded.with_name("bad.h5")
    shutil.copy(sharded, secret), shutil.copy(sharded, bad)
    def make():
        with h5py.File(bad, "r+") as f: HOSTILE_CONTENTS[how](f, str(secret))
    assert forked(make) == 0, "the file could not be made"
    for look in (check_store, read_store, open_store): assert forked(lambda: look(bad) and None) == 50

@pytest.mark.parametrize("what", ["missing", "link", "folder", "changed", "of another set", "folder is a link"])
def test_a_shard_that_is_not_what_was_written_is_refused(sharded, what):
    home = shards_folder(sharded); victim = sorted(home.glob("0*"))[1]; kept = victim.read_bytes()
    if what == "folder is a link": home.rename(home.with_name("away")); os.symlink(home.with_name("away"), home)
    elif what == "changed": victim.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    else: victim.unlink()
    if what == "link": victim.with_name("x").write_bytes(kept); os.symlink(victim.with_name("x"), victim)
    if what == "folder": victim.mkdir()
    if what == "of another set": shutil.copy(sorted(home.glob("0*"))[0], victim)
    assert forked(lambda: read_store(sharded) and None) == 50

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
        return 0 if same(got, good) else 1
    for i in range(200):
        b = bytearray(whole)
        for at in rng.integers(0, len(b), 3): b[at] = rng.integers(256)
        bad.write_bytes(b[:rng.integers(len(b))] if i % 4 == 0 else b)
        status = forked(work)
        assert status in (0, 50), (i, status)
        refused += status == 50
    assert refused > 80

def test_a_sharded_set_with_any_byte_changed_is_refused_or_unharmed(sharded):
    good, rng, refused = read_store(sharded), np.random.default_rng(0), 0
    files = [sharded, *sorted(shards_folder(sharded).glob("0*"))]
    for i in range(60):
        file = files[i % len(files)]; kept = file.read_bytes(); b = bytearray(kept); b[rng.integers(len(b))] ^= 1 << rng.integers(8)
        file.write_bytes(b)
        status = forked(lambda: 0 if same(read_store(sharded), good) else 1)
        file.write_bytes(kept)
        assert status == 50 or (status == 0 and file == sharded), (i, file.name, status)
        refused += status == 50
    assert refused > 45

def test_another_process_writes_the_same_bytes(tmp_path):
    log_trajectories(LogTrajectories(episodes=3, length=32, output=str(tmp_path / "a" / "set.h5")))
    assert forked(lambda: log_trajectories(LogTrajectories(episodes=3, length=32, output=str(tmp_path / "b" / "set.h5"))) and None) == 0
    assert (tmp_path / "a" / "set.h5").read_bytes() == (tmp_path / "b" / "set.h5").read_bytes()
