"""The research note says what the files say: it types no number, and made again it is what is committed."""
import json, re
from pathlib import Path

import pytest

NOTE = Path(__file__).parent.parent / "nbs/note.ipynb"
CELLS = [{**c, "source": "".join(c["source"])} for c in json.loads(NOTE.read_text(encoding="utf-8"))["cells"]]


def words(outputs): return ["".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})]


def test_no_number_is_typed():
    """Results come from files: no sentence holds a number with a decimal point, or a percentage, of its own."""
    typed = [c["source"] for c in CELLS if c["cell_type"] == "markdown" and not c["source"].startswith("## References")]
    typed += [re.sub(r"\{[^{}]*\}", "", text) for c in CELLS if c["cell_type"] == "code" for text in re.findall(r'say\(f"""(.*?)"""', c["source"], re.S)]
    allowed = {"of 95 %", "rather 88 %", "is .3,"}  # what an interval means, how much of that five seeds cover, and a setting of the market
    for text in typed:
        for phrase in allowed: text = text.replace(phrase, "")
        assert not (found := re.findall(r"[^\d\w]\.\d+|\d+\.\d+|\d+ %", text)), (found, text[:80])


def test_made_again_it_is_the_same(monkeypatch):
    """Every sentence is computed anew from the committed results, every claim asserted anew."""
    from execnb.shell import CaptureShell
    monkeypatch.chdir(NOTE.parent)
    shell = CaptureShell(mpl_format="png")
    for cell in CELLS:
        if cell["cell_type"] != "code": continue
        outputs = shell.run(cell["source"])
        if shell.exc: pytest.fail(f"{cell['source'][:60]!r}: {shell.exc}")
        assert words(outputs) == words(cell["outputs"])


def test_a_changed_file_stops_it(tmp_path):
    """A result edited by hand is refused by name."""
    import shutil
    from leadlag.core import VerificationError
    from leadlag.governance.provenance import verify
    shutil.copytree(NOTE.parent.parent / "results/appending", tmp_path / "appending")
    table = tmp_path / "appending/aggregate.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.", "0.9", 1), encoding="utf-8")
    with pytest.raises(VerificationError, match="aggregate.csv"): verify(tmp_path / "appending").raise_if_bad()
