"""What a person sees: reports and the site in a real browser, with nothing to be had from outside."""
import re, shutil, subprocess, sys
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()
ROOT = Path(__file__).parent.parent
SEEN = ROOT / "tests/output/site"  # kept; git ignores it
DOORS = {"I am a quant": ("tutorials/bring_your_prices.html", "reports/scan.html", "scanning.html"),
         "I am an RL researcher": ("tutorials/train_and_watch.html", "reports/online_ppo.html", "env.html"),
         "I am an engineer": ("tutorials/read_a_report.html", "reports/study.html", "reports.html")}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None: pytest.skip("no chromium on the path: apt-get install chromium")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)  # a fresh profile folder each time
        yield browser
        browser.close()

@contextmanager
def watched(browser, **context):
    "A page, and the list of what it should not have done: errors, and requests that leave the machine."
    complaints = []
    inside = ("file:", "data:", "blob:", "http://127.0.0.1:")
    with browser.new_context(**context) as c:
        page = c.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith(inside) else complaints.append(f"asks for {r.url}"))
        yield page, complaints


# ---- reports

CELLS = [new_markdown_cell("# A *tiny* report\n\n> With an equation.\n\n## The rule\n\n$$ p_t = \\mathrm{sign}(x_t), \\quad c < 1 $$"),
         new_code_cell("seed = 1\nlabel = 'bull'", metadata={"tags": ["parameters"]}),
         new_markdown_cell("## The table\n\n" + "Some words. " * 300),
         new_code_cell("import pandas as pd\npd.DataFrame({'regime': [label, 'bear'], 'reward': [seed, -1]})"),
         new_code_cell("from leadlag.core import axes\naxes(figsize=(5, 2)).plot(range(seed + 5));")]
HOSTILE = """<img src="http://127.0.0.1:9/x.png" onerror="document.title='owned'"><script>document.title='owned'</script>"""

def report(folder, cells, **params):
    from leadlag.reports import render
    template = folder / "tiny.ipynb"
    folder.joinpath("run").mkdir()
    nbformat.write(new_notebook(cells=cells), template)
    return render(template, folder / "run", params)

@pytest.fixture(scope="module")
def page_file(tmp_path_factory): return report(tmp_path_factory.mktemp("report"), CELLS, seed=3)

@pytest.mark.parametrize("width", [1280, 400])
def test_report_opens_offline(browser, page_file, width):
    with watched(browser, offline=True, viewport={"width": width, "height": 800}) as (page, complaints):
        page.goto(page_file.as_uri())
        page.wait_for_selector(".katex-display .katex-html")
        assert page.title() == "A tiny report"
        assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px KaTeX_Main'))")
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)") and page.locator("img").count() == 1
        assert not page.locator(".input").first.is_visible(), "the reader comes for the story"
        page.get_by_label("Show the code").check()
        assert page.locator(".input").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
        assert page.locator("nav a", has_text="The table").is_visible() == (width > 1216)
        if width > 1216:
            page.locator("nav a", has_text="The table").click()
            page.wait_for_function("window.scrollY > 0 || location.hash === '#The-table'")
        assert complaints == []

def test_report_has_a_dark_side(browser, page_file):
    def paper(scheme):
        with watched(browser, offline=True, color_scheme=scheme) as (page, _):
            page.goto(page_file.as_uri())
            return page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper("light") == "rgb(255, 255, 255)" != paper("dark")

def test_report_runs_no_label(browser, tmp_path):
    show = new_code_cell("from IPython.display import HTML\nHTML(label)")
    hostile = report(tmp_path, [*CELLS[:3], show, new_code_cell("seed")], label=HOSTILE)
    with watched(browser) as (page, complaints):
        page.goto(hostile.as_uri())
        page.wait_for_selector(".katex-html")
        assert page.title() == "A tiny report" and page.locator("img").count() == 1
        assert any("Content Security Policy" in c for c in complaints), "the watcher sees what the policy stops"


# ---- the site

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "_docs"
    done = subprocess.run([sys.executable, str(ROOT / "docs/build.py"), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]  # a broken link is a failure
    return out

def test_site_fetches_nothing(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "nbs").glob("*.ipynb")))
    outside = {p.name: hits for p in pages if (hits := re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?:https?:)?//[^"']+""", p.read_text()))}
    assert not outside and not any("@import" in p.read_text() for p in site.rglob("*.css"))

def test_site_documents_every_exported_function(site):
    from leadlag import reports
    page = (site / "reports.html").read_text()
    assert all(f'id="{name}"' in page for name in ("templates", "parameters", "run_report")) and 'id="to_html"' in (site / "report_page.html").read_text()
    assert "name of a report, or path of a notebook" in re.sub(r"<[^>]+>", "", page), "docments are shown"
    assert reports.run_report.__doc__.split(";")[0] in (site / "names.html").read_text()

def picture(page, width, name):
    "Keep what is seen, to be looked at."
    SEEN.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SEEN / f"{name}_{width}.png")

def sound(page, width):
    "The page is there, in its width, with its pictures and without raw TeX."
    page.wait_for_load_state()
    assert page.locator("h1").first.inner_text().strip()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{page.url} runs out of the page"
    page.evaluate("[...document.images].forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)"), f"{page.url} lacks a picture, or a picture its words"
    levels = page.evaluate("[...document.querySelectorAll('main :is(h1, h2, h3, h4)')].map(h => +h.tagName[1])")
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), f"{page.url} leaves out a level of its headings: {levels}"
    assert "$$" not in page.evaluate("(m => { m.querySelectorAll('pre, code').forEach(c => c.remove()); return m.innerText })(document.querySelector('main').cloneNode(true))")

@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("who, way", DOORS.items())
def test_three_doors(browser, site, width, who, way):
    "First page, tutorial, executed report, the interface with its source: the way of each reader, without a network."
    with watched(browser, offline=True, color_scheme="light", viewport={"width": width, "height": 900}) as (page, complaints):
        for step, target in enumerate(way):
            page.goto((site / "index.html").as_uri()); sound(page, width); picture(page, width, "index")
            page.locator(".doors li", has_text=who).locator("a").nth(step).click()
            page.wait_for_url(f"**/{target}"); sound(page, width); picture(page, width, target.replace("/", "_").removesuffix(".html"))
        summary = page.locator("details.code-fold summary", has_text="Source").first  # the last is the interface
        summary.click()
        assert "def " in page.locator("details.code-fold[open]").first.inner_text()
        assert complaints == []

def test_example_reports(browser, site):
    "From the shelf to the page that a run left, for every template there is."
    from leadlag.reports import templates
    for name in templates():
        with watched(browser, offline=True, viewport={"width": 1280, "height": 900}) as (page, complaints):
            page.goto((site / "explanation.html").as_uri())
            page.locator(f"main a[href='./reports/{name}.html'], main a[href='reports/{name}.html']").first.click()
            page.wait_for_url(f"**/reports/{name}.html"); sound(page, 1280)
            page.locator("main a", has_text="the page that the run left").click()
            page.wait_for_url(f"**/runs/{name}/report.html")
            assert page.get_by_label("Show the code").count() and page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)")
            picture(page, 1280, f"run_{name}")
            assert complaints == [], name

@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["tutorials", "howto", "reference", "explanation", "gallery", "verbs_and_settings", "history", "transfer", "note"])
def test_shelves(browser, site, width, name):
    with watched(browser, offline=True, color_scheme="light", viewport={"width": width, "height": 900}) as (page, complaints):
        page.goto((site / f"{name}.html").as_uri()); sound(page, width); picture(page, width, name)
        assert page.locator("main a[href]").count() > 3 and complaints == []

def test_list_for_machines(site):
    "Every link of llms.txt is a page as Markdown, and every page is in it."
    links = re.findall(r"\]\((\S+?\.llms\.md)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(links) == sorted(p.relative_to(site).as_posix() for p in site.rglob("*.llms.md"))
    assert all((site / link).read_text(encoding="utf-8").startswith("# ") for link in links)

@pytest.mark.parametrize("width", [1280, 400])
def test_site_in_a_browser(browser, site, width):
    with watched(browser, offline=True, color_scheme="light", viewport={"width": width, "height": 900}) as (page, complaints):
        page.goto((site / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto((site / "core.html").as_uri())
        page.wait_for_selector(".katex-display .katex-html")
        assert page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => a.hash && !document.getElementById(decodeURIComponent(a.hash.slice(1)))).length") == 0
        if width < 992: page.locator(".navbar-toggler").first.click()
        box = page.locator(".smalldocs-search input:visible").first
        box.fill("run_report")
        page.locator(".search-result:visible").first.click()
        page.wait_for_url(re.compile(r"(reports|names)\.html"))
        assert complaints == []

def test_site_turns_dark_and_remembers(browser, site):
    paper = "getComputedStyle(document.body).backgroundColor"
    with watched(browser, offline=True, color_scheme="light", viewport={"width": 1280, "height": 900}) as (page, complaints):
        page.goto((site / "index.html").as_uri())
        light = page.evaluate(paper)
        page.locator("[onclick*=ToggleScheme]:visible, .quarto-color-scheme-toggle:visible").first.click()
        page.wait_for_function(f"{paper} !== '{light}'")
        dark = page.evaluate(paper)
        picture(page, 1280, "index_dark")
        page.locator("#quarto-header a", has_text="Gallery").first.click()
        page.wait_for_url("**/gallery.html"); page.wait_for_function(f"{paper} === '{dark}'"); picture(page, 1280, "gallery_dark")
        assert complaints == []
