"""Manifests seen from outside: by another validator, by failing disks, by two writers at once and by forgers."""
import multiprocessing, os, random, subprocess, sys

import h5py, numpy as np, pandas as pd, pytest

from leadlag.core import DataError, LeadLagError, UsageError
from leadlag.governance.dataset import MANIFEST, extend_manifest, read_manifest, record_manifest, record_sidecar
from leadlag.governance.provenance import trace, verify

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and locks as POSIX has them")


def awkward_folder(folder):
    "Every kind of file that a run writes, and the tables that validators stumble over."
    (folder / "Figures 2026").mkdir(parents=True)
    n = 6
    pd.DataFrame({"date": pd.bdate_range("2006-04-03", periods=n), "when": pd.date_range("2006-04-03 10:00", periods=n, freq="h"),
                  "x": [1, np.nan, -np.inf, 1e-300, 2, 0.1], "done": [True, False] * 3, "ticker": ["NA", "", "a,b", 'say "x"', "two\nlines", "ρ"],
                  "seed": [2**62 - 1] * n, "empty": [np.nan] * n}).to_csv(folder / "Rows.csv", index=False)
    pd.DataFrame({"x": [1, 2]}).to_csv(folder / "nameless.csv")
    (folder / "twice.csv").write_text("a,a\n1,2\n")
    (folder / "header.csv").write_text("run,seed\n")
    (folder / "tabs.tsv").write_text("run\tseed\na,b\t1\n")
    pd.DataFrame({"US": np.arange(3.0)}, index=pd.bdate_range("2006-04-03", periods=3)).to_parquet(folder / "p.parquet")
    with h5py.File(folder / "log.h5", "w") as f: f["observations"] = np.zeros((5, 2))
    np.savez_compressed(folder / "w.npz", a=np.arange(3))
    for name in ("config.json", "report.html", "Figures 2026/lag ρ.png", "report.ipynb", "NOTES", "rows.CSV"): (folder / name).write_text("{}")
    return folder

def frictionless(path):
    done = subprocess.run([sys.executable, "-m", "frictionless", "validate", str(path)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr

def test_frictionless_agrees(tmp_path):
    pytest.importorskip("frictionless")
    folder = awkward_folder(tmp_path / "run")
    record_manifest(folder, config={"rho": .3}, seed=7, sources="made up", licence="CC0-1.0", units={"x": "percent"})
    extend_manifest(folder, "config.json", seed=8)
    code, text = frictionless(folder / MANIFEST)
    assert code == 0 and verify(folder).ok and text.count("VALID") >= 13, text
    (folder / "report.html").write_text("[]")  # as many bytes as before
    code, text = frictionless(folder / MANIFEST)
    assert code == 1 and "report.html" in text and verify(folder).changed == ("report.html",)


class Failing:
    "Let the n-th call of each of some functions of `os` and of `Path.write_bytes` fail."
    def __init__(self, monkeypatch, n):
        from pathlib import Path
        self.calls, self.n = 0, n
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "write_bytes")): monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.n: raise OSError(28, "No space left on device")
            return function(*args, **kwargs)
        return call

@pytest.mark.parametrize("n", range(1, 5))
@pytest.mark.parametrize("again", ["record", "extend"])
def test_nth_write_fails(tmp_path, monkeypatch, n, again):
    (tmp_path / "a.csv").write_text("x\n1\n"); record_manifest(tmp_path)
    before = (tmp_path / MANIFEST).read_bytes(); (tmp_path / "b.csv").write_text("x\n2\n")
    with monkeypatch.context() as patch:
        failing = Failing(patch, n)
        work = (lambda: record_manifest(tmp_path)) if again == "record" else (lambda: extend_manifest(tmp_path, "b.csv"))
        if n <= 3:
            with pytest.raises(OSError, match="No space left"): work()
        else: work()
        assert failing.calls == min(n, 3)
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv", MANIFEST], "a leftover"
    assert ((tmp_path / MANIFEST).read_bytes() == before) == (n <= 3)
    assert verify(tmp_path, strict=False).ok and verify(tmp_path).ok == (n > 3)


def add_files(folder, who, barrier):
    barrier.wait()
    for k in range(5):
        (folder / f"{who}{k}.csv").write_text(f"x\n{k}\n"); extend_manifest(folder, f"{who}{k}.csv")

def test_two_writers_lose_nothing(tmp_path):
    (tmp_path / "first.csv").write_text("x\n1\n"); record_manifest(tmp_path)
    context = multiprocessing.get_context("fork"); barrier = context.Barrier(2)
    both = [context.Process(target=add_files, args=(tmp_path, who, barrier)) for who in "ab"]
    for p in both: p.start()
    for p in both: p.join(60)
    assert [p.exitcode for p in both] == [0, 0] and verify(tmp_path).checked == 11 and verify(tmp_path).ok
    assert len(read_manifest(tmp_path / MANIFEST)["history"]) == 10


def test_any_damage_is_noticed(tmp_path):
    "Flip, cut and insert bytes in a manifest: an error or a mismatch, never 'verified', never a crash."
    (tmp_path / "a.csv").write_text("x\n1\n"); record_manifest(tmp_path, config={"k": [1.5, "σ"]}, seed=3)
    path, rng = tmp_path / MANIFEST, random.Random(0); whole = path.read_bytes()
    original = read_manifest(path)
    for _ in range(500):
        text = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            kind = rng.randrange(3)
            if kind == 0: text[at] = rng.randrange(256)
            elif kind == 1: del text[at:at + rng.randint(1, 40)]
            else: text[at:at] = rng.choice([b'"', b"{", b"]", b"1e999", b"NaN", b"\\ud800", b"\x00", b"9" * 5000, b"[" * 2000])
        path.write_bytes(text)
        try: result = verify(tmp_path).ok
        except (DataError, UsageError): continue
        assert not result or read_manifest(path) == original, bytes(text)

@pytest.mark.parametrize("bad", [{"resources": [{"path": "a", "bytes": True, "hash": "sha256:" + "0" * 64}]}, {"resources": {}}, {}, [], 3, None,
                                 {"resources": [{"path": ["a"], "bytes": 1, "hash": "sha256:" + "0" * 64}]}, {"resources": [{"path": "a"}]}])
def test_forged_shapes_are_refused(tmp_path, bad):
    from leadlag.core import write_json
    from leadlag.governance.dataset import _seal
    write_json(tmp_path / MANIFEST, bad | {"seal": _seal(bad)} if isinstance(bad, dict) else bad)
    for function in (verify, trace):
        with pytest.raises(LeadLagError): function(tmp_path)

def test_links_lead_nowhere(tmp_path):
    "A link in any role: as file, as folder, as manifest, as sidecar, as parent's pipe."
    outside = tmp_path / "outside"; outside.mkdir(); (outside / "secret.csv").write_text("x\n1\n"); record_manifest(outside)
    def fresh(name):
        run = tmp_path / name; run.mkdir(); (run / "a.csv").write_text("x\n1\n"); record_manifest(run); return run
    run = fresh("folder"); (run / "sub").symlink_to(outside)
    assert verify(run).refused == ("sub (a link)",)
    with pytest.raises(UsageError, match="sub is a link"): record_manifest(run)
    run = fresh("manifest"); (run / MANIFEST).unlink(); (run / MANIFEST).symlink_to(outside / MANIFEST)
    with pytest.raises(DataError, match="is a link"): verify(run)
    run = fresh("unit"); (run / "sub").mkdir(); (run / "sub" / MANIFEST).symlink_to(outside / MANIFEST)
    with pytest.raises(DataError, match="is a link"): verify(run)
    run = fresh("loop"); (run / "sub").symlink_to(run)
    assert not verify(run).ok and verify(run).checked == 1
    lone = tmp_path / "lone.csv"; lone.write_text("x\n1\n"); record_sidecar(lone); lone.rename(tmp_path / "moved.csv"); lone.symlink_to("moved.csv")
    assert verify(lone).refused == ("lone.csv (not a plain file)",)
    os.mkfifo(tmp_path / "pipe"); run = fresh("child"); record_manifest(run, parents={"name": "pipe", "path": "../pipe", "sha256": "", "of": "file"})
    assert trace(run).state.tolist() == ["sealed", "changed"]
