"""Minari's own code reads what we wrote, and we read what it wrote. Minari is no dependency: where it is not installed these tests are skipped."""
import os, subprocess, sys, time
from pathlib import Path

import h5py, numpy as np, pytest

from leadlag.core import DataError, UsageError
from leadlag.engine.spec import EnvSpec
from leadlag.offline_rl.from_minari import ForeignSpec, FromMinari, from_minari, read_minari
from leadlag.offline_rl.learners import Learning, fit_bc, fit_cql, fit_fqi, fit_iql, load_network
from leadlag.offline_rl.log_trajectories import LogTrajectories, _lay, log_trajectories, record_actions
from leadlag.offline_rl.minari import ToMinari, to_minari
from leadlag.offline_rl.schema import SCHEMA, make_about
from leadlag.offline_rl.shards import ShardWriter
from leadlag.offline_rl.store import read_store
from leadlag.governance.provenance import verify

minari = pytest.importorskip("minari", reason="minari is not installed: pip install 'minari[create,hdf5]>=0.5,<0.6' to let it read our sets and write its own")
pytestmark = pytest.mark.filterwarnings("ignore")  # Minari's own, about authors and permalinks that are not given
NEEDS_JAX = "Minari's collector needs jax: pip install 'minari[create]>=0.5,<0.6'"

@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    "A small log, and the same set as views and as copies in a folder of Minari's."
    home = tmp_path_factory.mktemp("minari")
    path = log_trajectories(LogTrajectories(episodes=12, output=str(home/"ours"/"offline_dataset.h5"), policy="momentum", noise=.2, observe="features", length=64))
    for name in ("view", "copy"): to_minari(ToMinari(f"leadlag/{name}-v0", str(path), str(home/"sets"), copy=name == "copy"))
    return home, read_store(path)

@pytest.fixture(autouse=True)
def minaris_folder(request, monkeypatch, tmp_path_factory):
    "Minari looks where we wrote; where a test has written nothing, in a folder of its own."
    home = request.getfixturevalue("ours")[0]/"sets" if "ours" in request.fixturenames else tmp_path_factory.mktemp("sets")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(home))
    return home


# ---- ours, read by Minari

@pytest.mark.parametrize("name", ["view", "copy"])
def test_minari_reads_every_number(ours, name):
    import hdf5plugin  # as the description of the set asks for
    _, data = ours
    theirs = minari.load_dataset(f"leadlag/{name}-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (12, len(data)) and theirs.action_space.n == 3 and theirs.observation_space.shape == data.observation.shape[1:]
    assert f"leadlag/{name}-v0" in minari.list_local_datasets()
    for k, e in enumerate(theirs.iterate_episodes()):
        mine = data.rows(data.episode == k)
        for found, wanted in ((e.observations[:-1], mine.observation), (e.actions, mine.action), (e.rewards, mine.reward), (e.terminations, mine.terminated), (e.truncations, mine.truncated),
                              *((e.infos[i][:-1], getattr(mine, i)) for i in ("probability", "regime", "lookback", "mean"))):
            assert np.array_equal(found, wanted)
        assert len(e.observations) == len(e) + 1 and (e.observations[-1] == e.observations[-2]).all() and np.isnan(e.infos["mean"][-1]) and e.infos["regime"][-1] == -1
        assert all(theirs.observation_space.contains(o) for o in e.observations) and all(theirs.action_space.contains(a) for a in e.actions)
    assert [m["seed"] for m in theirs.storage.get_episode_metadata(range(12))] == data.seed[data.step == 0].tolist()
    theirs.set_seed(0); assert {len(e) for e in theirs.sample_episodes(5)} == {64}
    winners = theirs.filter_episodes(lambda e: e.rewards.sum() > 0); assert 0 <= winners.total_episodes <= 12

def test_the_environment_comes_back(ours):
    env = minari.load_dataset("leadlag/view-v0").recover_environment().unwrapped
    assert env.env_spec == ours[1].spec

def test_a_view_is_small_and_moves_along(ours, tmp_path):
    import shutil, hdf5plugin
    home, data = ours
    size = {name: (home/"sets"/"leadlag"/f"{name}-v0"/"data"/"main_data.hdf5").stat().st_size for name in ("view", "copy")}
    assert size["view"] < 12 * 6000 and verify(home/"sets"/"leadlag"/"view-v0").ok
    shutil.copytree(home, tmp_path/"moved")
    from minari.dataset.minari_dataset import MinariDataset
    assert np.array_equal(MinariDataset(tmp_path/"moved"/"sets"/"leadlag"/"view-v0"/"data")[3].rewards, data.rows(data.episode == 3).reward)
    shutil.rmtree(tmp_path/"moved"/"ours")  # the rows are gone: nothing may look like data
    lost = MinariDataset(tmp_path/"moved"/"sets"/"leadlag"/"view-v0"/"data")[3]
    assert np.isnan(lost.observations).all() and np.isnan(lost.rewards).all() and (lost.actions == -1).all()

def test_a_reader_without_the_filter(ours):
    "A view needs one import, a copy none."
    code = "import sys, minari\nd = minari.load_dataset(sys.argv[1])\nassert 'hdf5plugin' not in sys.modules\ntry: print(len(d[0]), end=' ')\nexcept OSError: print('refused', end=' ')\nimport hdf5plugin; print(len(d[0]))"
    said = [subprocess.run([sys.executable, "-c", code, f"leadlag/{name}-v0"], capture_output=True, text=True, check=True).stdout.split() for name in ("view", "copy")]
    assert said == [["refused", "64"], ["64", "64"]]
    told = [minari.load_dataset(f"leadlag/{name}-v0").storage.metadata for name in ("view", "copy")]
    assert "import hdf5plugin" in told[0]["description"] and "hdf5plugin" not in told[1]["description"] and told[1]["requirements"] == ["leadlag"]

def test_overwriting(ours):
    home, _ = ours
    path, sets = home/"ours"/"offline_dataset.h5", str(home/"sets")
    with pytest.raises(UsageError, match="--overwrite"): to_minari(ToMinari("leadlag/copy-v0", str(path), sets))
    (home/"sets"/"mine-v0").mkdir(); (home/"sets"/"mine-v0"/"thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no data set of Minari"): to_minari(ToMinari("mine-v0", str(path), sets, overwrite=True))
    assert (home/"sets"/"mine-v0"/"thesis.txt").exists()
    file = home/"sets"/"leadlag"/"copy-v0"/"data"/"main_data.hdf5"; before = file.read_bytes()
    to_minari(ToMinari("leadlag/copy-v0", str(path), sets, copy=True, overwrite=True))
    assert file.read_bytes() == before

@pytest.mark.parametrize("after", range(4))
def test_killed_while_it_replaces_a_set(ours, tmp_path, after):
    "Whatever rename was the last one, the next call finds a set under the name, the old one or the new one, and no leftovers."
    path, sets = ours[0]/"ours"/"offline_dataset.h5", tmp_path/"sets"
    home = to_minari(ToMinari("a/set-v0", str(path), str(sets))); (home/"mark").write_text("the old one")
    (home.parent/f".set-v0.{os.getpid()}.tmp").mkdir()  # of a process that lives: not ours to remove
    pid = os.fork()
    if pid == 0:
        real, left = os.replace, [after]
        def mortal(a, b):
            if Path(b).parent == home.parent:
                left[0] -= 1
                if left[0] < 0: os._exit(9)
            return real(a, b)
        os.replace = mortal; to_minari(ToMinari("a/set-v0", str(path), str(sets), overwrite=True)); os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (9 if after < 2 else 0)
    assert home.exists() == (after != 1)
    with pytest.raises(UsageError, match="--overwrite"): to_minari(ToMinari("a/set-v0", str(path), str(sets)))
    assert sorted(p.name for p in home.parent.iterdir()) == [f".set-v0.{os.getpid()}.tmp", "set-v0"] and (home/"mark").exists() == (after < 2) and (home/"data"/"metadata.json").is_file()


# ---- there and back

def test_there_and_back(ours, tmp_path):
    home, data = ours
    back = read_minari("leadlag/copy-v0")
    for name in SCHEMA:
        a, b = getattr(back, name), getattr(data, name)
        assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), name
    assert back.about == data.about
    kept = read_store(from_minari(FromMinari("leadlag/copy-v0", str(tmp_path/"kept"/"set.h5"))))
    assert np.array_equal(kept.observation, data.observation) and kept.about == data.about and verify(tmp_path/"kept").ok
    with pytest.raises(DataError, match="shows rows of another file"): read_minari("leadlag/view-v0")


# ---- theirs, read by us

def play(env, steps, seed=0):
    "Minari's collector at work on a rule that a clone can learn; what it saw and did."
    collector, rng, rows = minari.DataCollector(env, record_infos=False), np.random.default_rng(seed), []
    obs, _ = collector.reset(seed=seed)
    for _ in range(steps):
        action = int(obs[2] + .5 * obs[3] > 0)
        rows.append((obs, action)); obs, *_, = step = collector.step(action)
        if step[2] or step[3]: obs, _ = collector.reset(seed=int(rng.integers(2**31)))
    return collector, rows

def test_their_collector_and_our_learners(minaris_folder, tmp_path):
    import gymnasium
    pytest.importorskip("jax", reason=NEEDS_JAX)
    collector, rows = play(gymnasium.make("CartPole-v1"), 1200)
    collector.create_dataset("cart/rule-v0", algorithm_name="a rule")
    data = read_minari("cart/rule-v0")
    assert len(data) == 1200 and data.spec == ForeignSpec("CartPole-v1", 4, 2) and data.about["policy"] == "a rule" and np.isnan(data.probability).all()
    assert np.array_equal(data.observation, np.array([o for o, _ in rows], np.float32)) and data.action.tolist() == [a for _, a in rows]
    with pytest.raises(UsageError, match="CartPole-v1"): from_minari(FromMinari("cart/rule-v0", str(tmp_path/"set.h5")))
    learns(data, tmp_path)

def test_a_set_of_theirs_without_the_collector(minaris_folder, tmp_path):
    "The same through Minari's buffers, which need nothing more; four actions, counted from one."
    from gymnasium.spaces import Box, Discrete
    from minari.data_collector import EpisodeBuffer
    rng, buffers = np.random.default_rng(0), []
    for k in range(40):
        x = rng.normal(size=(31, 5)).astype(np.float32); a = 1 + 2 * (x[:-1, 0] > 0) + (x[:-1, 1] > 0); ends = np.arange(30) == 29
        buffers.append(EpisodeBuffer(id=k, seed=int(rng.integers(2**32)), observations=list(x), actions=list(a), rewards=list((a == 4) * 1.), terminations=list(ends & (k % 2 == 0)), truncations=list(ends & (k % 2 == 1)),
                                     infos={"action_probs": np.tile(np.full(4, .25), (31, 1))}))
    minari.create_dataset_from_buffers("made-up/buffers-v3", buffers, observation_space=Box(-np.inf, np.inf, (5,), np.float32), action_space=Discrete(4, start=1))
    data = read_minari("made-up/buffers-v3")
    assert data.spec == ForeignSpec("made-up/buffers-v3", 5, 4) and set(data.action) == {0, 1, 2, 3} and data.about["actions"] == ["1", "2", "3", "4"] and (data.probability == .25).all()
    assert np.array_equal(data.rows(data.episode == 7).observation, np.array(buffers[7].observations[:-1])) and data.terminated.sum() == 20 and data.seed[0] == buffers[0].seed
    learns(data, tmp_path)
    by_command("made-up/buffers-v3", tmp_path/"results")

def by_command(id, folder):
    "`leadlag offline train` on a set of another world: what can be said is said, and nothing else."
    from leadlag.core import read_json
    from leadlag.governance.provenance import verify
    from leadlag.offline_rl.algorithms import load_offline
    from leadlag.offline_rl.train_offline import TrainOffline, train_offline
    for algorithm, file in (("bc-logistic", "policy.json"), ("iql", "policy.npz")):
        train_offline(TrainOffline(id, output_dir=str(folder), algorithm=algorithm, updates=200, overwrite=True))
        found = read_json(folder/"offline_results.json")
        assert verify(folder).ok and found["reward"] is None and found["teacher_reward"] is None and found["market"] == id and load_offline(folder/file).spec.actions == 4
        if algorithm == "bc-logistic": assert found["accuracy"] > .9  # by chance a quarter
    with pytest.raises(UsageError, match="is of made-up/buffers-v3"): train_offline(TrainOffline(id, output_dir=str(folder), algorithm="iql", tune=True, updates=20, overwrite=True))

def learns(data, folder):
    "Every learner takes the set; a clone is right mostly; a policy comes back from its file."
    few = Learning(updates=300, batch=256, learning_rate=3e-3, hidden=(32,))
    for fit in (fit_bc, fit_cql, fit_iql, fit_fqi):
        policy, _ = fit(data, config=few)
        assert policy.act(data.observation).max() < data.spec.actions
        again = load_network(policy.save(folder/"policy.npz"))
        assert again.spec == data.spec and np.array_equal(again.logits(data.observation[:9]), policy.logits(data.observation[:9]))
        if fit is fit_bc: assert (policy.act(data.observation) == data.action).mean() > .75  # by chance half, or a quarter
    with pytest.raises(UsageError, match="learn from the logged rows"): fit_fqi(data, config=Learning(updates=1, counterfactual=True))

def test_our_environment_through_their_collector(minaris_folder, tmp_path):
    import gymnasium, leadlag
    pytest.importorskip("jax", reason=NEEDS_JAX)
    env = minari.DataCollector(gymnasium.make("leadlag/LeadLag-v0", regime="bear", observe="features", length=32)); env.action_space.seed(0)
    for seed in range(4):
        env.reset(seed=seed); over = False
        while not over: _, _, ended, cut, _ = env.step(env.action_space.sample()); over = ended or cut
    env.create_dataset("leadlag/collected-v0")
    data = read_minari("leadlag/collected-v0")
    assert data.spec == EnvSpec(regime="bear", observe="features", length=32) and len(data) == 128 and data.seed[data.step == 0].tolist() == [0, 1, 2, 3]
    policy, _ = fit_bc(data, config=Learning(updates=3, batch=16)); assert policy.spec == data.spec
    with pytest.raises(UsageError, match="no probabilities"): from_minari(FromMinari("leadlag/collected-v0", str(tmp_path/"set.h5")))


# ---- prepared files

def edit(name, change):
    def attack(folder, tmp_path):
        (tmp_path/"secret.h5").unlink(missing_ok=True)
        with h5py.File(tmp_path/"secret.h5", "w") as s: s["x"] = np.arange(64.)
        with h5py.File(folder/"main_data.hdf5", "a") as f: change(f["episode_1"], tmp_path)
    return pytest.param(attack, id=name)

def put(group, name, value, **how):
    del group[name]
    group.create_dataset(name, data=value, **how) if isinstance(value, np.ndarray) else group.__setitem__(name, value)

def a_view(group, tmp):
    del group["rewards"]; layout = h5py.VirtualLayout((64,), "f8"); layout[:] = h5py.VirtualSource(str(tmp/"secret.h5"), "x", (64,)); group.create_virtual_dataset("rewards", layout)

def a_bomb(group, tmp):
    del group["rewards"]; group.create_dataset("rewards", (1 << 33,), "f8", chunks=(1 << 20,), compression="gzip")

@pytest.mark.parametrize("attack", [
    edit("an external link", lambda g, tmp: put(g, "rewards", h5py.ExternalLink(str(tmp/"secret.h5"), "/x"))), edit("a soft link", lambda g, tmp: put(g, "rewards", h5py.SoftLink("/episode_0/rewards"))),
    edit("a view of another file", a_view), edit("a bomb", a_bomb), edit("objects", lambda g, tmp: put(g, "rewards", np.array(["1"] * 64, h5py.string_dtype()))), edit("another length", lambda g, tmp: put(g, "actions", np.zeros(63, int))),
    edit("an action too many", lambda g, tmp: put(g, "actions", np.full(64, 3))), edit("no number", lambda g, tmp: put(g, "rewards", np.full(64, np.nan))), edit("an end in the middle", lambda g, tmp: put(g, "terminations", np.ones(64, bool))),
    edit("no array", lambda g, tmp: (g.__delitem__("actions"), g.create_group("actions"))), edit("nothing", lambda g, tmp: g.clear()), edit("external bytes", lambda g, tmp: (g.__delitem__("rewards"), g.create_dataset("rewards", (64,), "f8", external=[(str(tmp/"secret.h5"), 0, 512)]))),
    edit("a scalar", lambda g, tmp: put(g, "rewards", np.array(1.))), edit("an empty one", lambda g, tmp: (g.__delitem__("rewards"), g.create_dataset("rewards", data=h5py.Empty("f8"))))])
def test_prepared_files_are_refused(ours, tmp_path, attack):
    import shutil
    shutil.copytree(ours[0]/"sets"/"leadlag"/"copy-v0", tmp_path/"bad")
    attack(tmp_path/"bad"/"data", tmp_path)
    with pytest.raises(DataError) as e: read_minari(str(tmp_path/"bad"))
    assert str(tmp_path/"bad") in str(e.value) and "\n" not in str(e.value)

@pytest.mark.parametrize("key, value, said", [("data_format", "arrow", "arrow"), ("action_space", '{"type": "Box", "shape": [1]}', "Discrete"), ("observation_space", '{"type": "Dict", "subspaces": {}}', "flat Box"),
    ("observation_space", '{"type": "Box", "dtype": "uint8", "shape": [64, 64, 3]}', "flat Box"), ("action_space", "[" * 100_000, "action_space"), ("action_space", '{"type": "Discrete", "n": 100000}', "127"), ("total_episodes", 10**9, "episodes"), ("total_episodes", "12", "episodes"),
    ("leadlag", {"spec": 1}, "itself"), ("leadlag", [1], "itself")])
def test_odd_metadata_are_refused(ours, tmp_path, key, value, said):
    import json, shutil
    shutil.copytree(ours[0]/"sets"/"leadlag"/"copy-v0", tmp_path/"bad")
    file = tmp_path/"bad"/"data"/"metadata.json"; file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(DataError, match=said): read_minari(str(tmp_path/"bad"))

def test_nothing_is_made_that_the_metadata_name(ours, tmp_path):
    "Minari would import this; here it stays a name."
    import json, shutil
    shutil.copytree(ours[0]/"sets"/"leadlag"/"copy-v0", tmp_path/"bad")
    file = tmp_path/"bad"/"data"/"metadata.json"; told = json.loads(file.read_text()); del told["leadlag"]
    file.write_text(json.dumps(told | {"env_spec": json.dumps({"id": "Evil-v0", "entry_point": "evil:Env", "kwargs": {}})}))
    data = read_minari(str(tmp_path/"bad")); assert data.spec.market == "Evil-v0" and "evil" not in sys.modules


# ---- how fast

def minari_collector_rate(folder, spec, actions, seed=0):
    "Seconds that Minari's collector needs for these steps, all and without the environment; `actions` [episodes, length]."
    import gymnasium, leadlag
    from dataclasses import asdict
    def play(env):
        start = time.process_time()
        for k, row in enumerate(actions.tolist()):
            env.reset(seed=seed + k)
            for a in row:
                if env.step(a)[2]: break  # ruined
        return env, start
    bare, start = play(gymnasium.make("leadlag/LeadLag-v0", regime=spec.regime, length=spec.length)); alone = time.process_time() - start
    env, start = play(minari.DataCollector(gymnasium.make("leadlag/LeadLag-v0", regime=spec.regime, length=spec.length)))
    env.create_dataset(f"speed/s{seed}-v0")
    total = time.process_time() - start
    return total, total - alone

def our_rate(folder, spec, actions, seed=0):
    "The same for a policy-free rollout through the writer: seconds of all, and of writing alone."
    start = time.process_time()
    got = record_actions(spec, actions, np.full(3, 1 / 3), seed)
    alone = time.process_time() - start
    with ShardWriter(folder/"set.h5", make_about(spec, "coin"), overwrite=True) as w: w.append(_lay([(slice(None), got)], len(actions)))
    total = time.process_time() - start
    return total, total - alone

def test_writing_beside_their_collector(minaris_folder, tmp_path, capsys):
    "The same steps of the same environment, written both ways, in turn; a figure to read, and the same rewards."
    pytest.importorskip("jax", reason=NEEDS_JAX)
    spec, rng = EnvSpec(regime="bear"), np.random.default_rng(0)
    our_rate(tmp_path, spec, rng.integers(0, 3, (2, 256)))  # compiles
    for k in range(3):
        actions = rng.integers(0, 3, (40, 256))
        theirs, mine = minari_collector_rate(tmp_path, spec, actions, 1000 * k), np.mean([our_rate(tmp_path, spec, actions, 1000 * k) for _ in range(5)], 0)
        with capsys.disabled(): print(f"\n{actions.size / theirs[0]:.0f} steps/s by Minari's collector, {actions.size / mine[0]:.0f} by ours: {theirs[0] / mine[0]:.0f} times, without the environment {theirs[1] / mine[1]:.0f} times", end="")
    data, collected = read_store(tmp_path/"set.h5"), read_minari("speed/s2000-v0")
    assert np.array_equal(collected.reward, data.reward) and np.array_equal(collected.observation, data.observation)
