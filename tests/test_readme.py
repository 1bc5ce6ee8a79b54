"""What the README says is what the files say, and its Python runs as printed."""
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_is_read_from_results():
    from leadlag.benchmarks.policies import readme_table
    shown = re.search(r"<!-- table:policies -->\n(.*?)\n<!-- /table:policies -->", README, re.S)[1]
    assert shown == readme_table(pd.read_csv(ROOT / "results/policies/aggregate.csv"))


def test_transfer_is_read_from_results():
    from leadlag.benchmarks.targets import readme_table
    shown = re.search(r"<!-- table:transfer -->\n(.*?)\n<!-- /table:transfer -->", README, re.S)[1]
    run = ROOT / "results/meta_benchmark"
    assert shown == readme_table(pd.read_csv(run / "aggregate.csv"))
    targets, words = pd.read_csv(run / "targets.csv"), dict(zip(("none", "one", "two", "three", "four", "five", "six", "seven"), map(str, range(8))))
    counted = re.search(r"Of (\d+) targets.*?, (\d+) reach the aim, (\d+) the gate and (\w+) miss.*; (\w+) verdicts lie", README).groups()
    n = targets.verdict.value_counts()
    assert tuple(words.get(c, c) for c in counted) == tuple(map(str, (len(targets), n["aim"], n["gate"], n.get("missed", 0), (targets.certain == "no").sum())))


def test_learning_from_logs_is_read_from_results():
    from leadlag.benchmarks.offline_page import readme_table
    shown = re.search(r"<!-- table:offline -->\n(.*?)\n<!-- /table:offline -->", README, re.S)[1]
    run = ROOT / "results/offline_benchmark"
    assert shown == readme_table(pd.read_csv(run / "aggregate.csv"))
    targets = pd.read_csv(run / "targets.csv").set_index("what")
    for observe in ("belief", "features", "raw"):
        said = targets.loc[f"wrong rules, {observe}: chosen by estimate, over online", ["value", "ci_low", "ci_high"]]
        assert "{:.3f} [{:.3f}, {:.3f}]".format(*said) in README
    counted, n = re.search(r"Of (\d+) \[targets\].*?, (\d+) reach the aim, (\d+) the gate and one misses", README).groups(), targets.verdict.value_counts()
    assert tuple(map(int, counted)) == (len(targets), n["aim"], n["gate"]) and n["missed"] == 1
    costs = 1 - targets[targets.index.str.contains("wrong-rules.*hindsight|early.*hindsight")]["value"]
    assert costs.max().round(3) == .028 and costs.min() > -.001


def test_verdict_is_read_from_results():
    import json
    shown = re.search(r"<!-- verdict:msci -->(.*?)<!-- /verdict:msci -->", README)[1]
    assert shown == json.loads((ROOT / "results/history/msci/table.json").read_text(encoding="utf-8"))["verdict"]


def test_scan_prints_what_is_shown(tmp_path):
    from leadlag.examples import example_prices
    from leadlag.scanning import scan, shown
    example_prices().to_csv(tmp_path / "prices.csv")
    assert "\n".join((tmp_path / "prices.csv").read_text().splitlines()[:3]) in README
    printed = re.search(r"<!-- scan -->\n```\n(.*?)\n```\n<!-- /scan -->", README, re.S)[1]
    assert shown(scan(tmp_path / "prices.csv").pairs, 20).to_string(index=False).startswith(printed)


def test_a_run_of_each_report_is_kept():
    "With the parameters that its template has now: who changes them makes the runs again (results/examples/reports/README.md)."
    import json
    from leadlag.reports import parameters, templates
    kept = {p.parent.name: json.loads(p.read_text(encoding="utf-8"))["run"]["config"] for p in (ROOT / "results/examples/reports").glob("*/data_manifest.json")}
    assert set(kept) == set(templates())
    for name, config in kept.items(): assert set(config) - {"report"} == set(parameters(name)), name


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README): assert (ROOT / target).exists(), target


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.S))
def test_python_runs_as_printed(block, capsys, tmp_path, monkeypatch):
    import numpy as np
    levels = 100 * np.exp(np.random.default_rng(0).standard_normal((400, 3)).cumsum(0) / 100)
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(levels, columns=["US", "JP", "KR"], index=pd.bdate_range("2020-01-01", periods=400, name="date")).to_csv("prices.csv")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("manifest", sorted(p for p in (ROOT / "results").rglob("data_manifest.json") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)),
                         ids=lambda p: p.parent.relative_to(ROOT / "results").as_posix())
def test_committed_results_hold(manifest):
    """Those results that are committed are whole, and no code was changed when they were made."""
    import json, subprocess
    if subprocess.run(["git", "-C", str(ROOT), "ls-files", "--error-unmatch", str(manifest)], capture_output=True).returncode: pytest.skip("not committed: a run of one's own")
    from leadlag.governance.provenance import verify
    assert verify(manifest.parent).ok
    assert json.loads(manifest.read_text(encoding="utf-8"))["run"]["code"].get("dirty") is False
