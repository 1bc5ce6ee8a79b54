"""A training that is logged, killed without warning at random moments, and goes on; and foreign files of weights. Each attempt runs in a process of its own."""
import os, pickle, signal, time

import numpy as np
import pytest

from leadlag.agents.ppo import TrainPPO, fit
from leadlag.core import DataError, UsageError
from leadlag.engine.spec import EnvSpec
from leadlag.offline_rl.store import read_store
from leadlag.offline_rl.weights import read_weights

KILLS = int(os.environ.get("LEADLAG_KILLS", 4))
CONFIG = TrainPPO(steps=8192, lanes=16, rollout=32, batch=256, epochs=2, length=40)  # episodes and rollouts end at different times

def trained(folder, when="all"):
    "Train, or go on; the policy. The log's rows are made safe every 1024 steps."
    from leadlag.offline_rl.live import TrajectoryLog
    check = lambda model, config: {"step": int(model.num_timesteps), "ratio": 0.}
    return fit(CONFIG, folder / "work", check=check, log=TrajectoryLog(folder / "log.h5", when, apart=1024))[0]

@pytest.mark.parametrize("when", ["all", "every:3", "better"])
def test_a_killed_training_goes_on_with_its_log(tmp_path, when):
    policy, rng, killed = trained(tmp_path / "whole", when), np.random.default_rng(0), 0
    alone = fit(CONFIG, tmp_path / "alone", check=lambda model, config: {"step": int(model.num_timesteps), "ratio": 0.})[0]
    assert all(np.array_equal(a, b) for l, m in zip(policy.layers, alone.layers) for a, b in zip(l, m))
    whole = (tmp_path / "whole/log.h5").read_bytes()
    for k in range(KILLS):
        home = tmp_path / f"killed{k}"
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try: trained(home, when); os._exit(0)
                except BaseException: os._exit(1)
            time.sleep(rng.uniform(.05, 1.5)); os.kill(pid, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        again = trained(home, when)
        assert (home / "log.h5").read_bytes() == whole
        assert all(np.array_equal(a, b) for l, m in zip(policy.layers, again.layers) for a, b in zip(l, m))
    assert killed

def test_lanes_that_are_ruined_are_logged_whole(tmp_path):
    from leadlag.offline_rl.live import TrajectoryLog
    from leadlag.sb3 import LeadLagVecEnv
    from stable_baselines3 import PPO
    env = LeadLagVecEnv(8, seed=3, length=50, cost=8., kappa=0.)  # a trade costs eight of a hundred
    PPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(2048, callback=TrajectoryLog(tmp_path / "log.h5"))
    data = read_store(tmp_path / "log.h5")
    sizes = np.bincount(data.episode)
    assert data.terminated.sum() > 20 and sizes.min() < 50 and (data.step[data.terminated] + 1 == sizes[data.episode[data.terminated]]).all()
    assert len(np.unique(data.lane)) == 8 and (data.rows(data.policy < 8)).reward.size == 2048

def test_a_hostile_file_of_weights_runs_nothing(tmp_path):
    import torch
    class Evil:
        def __reduce__(self): return os.system, (f"touch {tmp_path / 'it-ran'}",)
    class Hidden(dict):
        def __reduce__(self): return Evil().__reduce__()
    for protocol in range(6):
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol))
        with pytest.raises(DataError): read_weights(tmp_path / "evil.pth", EnvSpec())
    for hidden in ({"0.weight": Evil()}, Hidden(), [Evil()], {"0.weight": torch.zeros(3), "x": {"y": Evil()}}):
        for zipped in (True, False):
            torch.save(hidden, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
            with pytest.raises(DataError): read_weights(tmp_path / "evil.pth", EnvSpec())
    np.savez(tmp_path / "evil.npz", **{"0.weight": np.array([Evil()], dtype=object)})
    with pytest.raises(DataError): read_weights(tmp_path / "evil.npz", EnvSpec())
    assert not (tmp_path / "it-ran").exists()

def test_broken_files_of_weights_are_refused_with_a_sentence(tmp_path):
    import torch
    net, rng = torch.nn.Sequential(torch.nn.Linear(15, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)), np.random.default_rng(0)
    torch.save(net.state_dict(), tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    read_weights(tmp_path / "good.pth", EnvSpec())
    for k in range(200):
        bad = bytearray(good)
        if k % 2: bad = bad[:rng.integers(len(bad))]
        else: bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        (tmp_path / "bad.pth").write_bytes(bad)
        try: read_weights(tmp_path / "bad.pth", EnvSpec())
        except (DataError, UsageError) as e: assert "\n" not in str(e) and len(str(e)) < 500


def test_logs_that_cannot_be_played_are_learned_from_all_the_same(tmp_path, capsys):
    import pandas as pd
    from stable_baselines3 import PPO
    from leadlag.core import read_json
    from leadlag.governance.provenance import verify
    from leadlag.offline_rl.live import TrajectoryLog
    from leadlag.offline_rl.train_offline import TrainOffline, train_offline
    from leadlag.sb3 import LeadLagVecEnv
    moves = np.random.default_rng(0).normal(0, .01, (2000, 2)).cumsum(0)
    pd.DataFrame(100 * np.exp(moves), columns=["US", "JP"], index=pd.bdate_range("2001-01-01", periods=2000, name="date")).to_csv(tmp_path / "prices.csv")
    for name, settings in (("real", dict(market=str(tmp_path / "prices.csv"), leader="US", follower="JP")), ("equity", dict(reward="log"))):
        PPO("MlpPolicy", LeadLagVecEnv(16, 0, length=64, **settings), n_steps=64, batch_size=256, n_epochs=1, seed=0, device="cpu").learn(6144, callback=TrajectoryLog(tmp_path / f"{name}.h5"))
        train_offline(TrainOffline(str(tmp_path / f"{name}.h5"), output_dir=str(tmp_path / name)))
        found, estimates, said = read_json(tmp_path / name / "offline_results.json"), pd.read_csv(tmp_path / name / "offline_estimates.csv"), capsys.readouterr()
        assert verify(tmp_path / name).ok and found["accuracy"] > 0 and found["reward"] is None and "the policy is not played, because" in said.err
        assert (estimates.note.str.contains("reward='net'").all() if name == "equity" else estimates["value"].notna().any()) and estimates["played"].isna().all()
