"""What leads to the pages: four shelves, the gallery, the commands, every name, and the list for machines."""
import ast, inspect, io, json, re, tokenize
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

GROUPS = {"governance": "Governance", "stats": "Statistics", "markets": "Markets", "estimators": "Estimators", "agents": "Online agents",
          "meta_rl": "Meta-learning", "offline_rl": "Offline learning", "benchmarks": "Benchmarks"}  # packages; single modules go by number
DECADES = {0: "Foundations", 1: "Governance", 2: "Markets", 3: "Estimators", 4: "Environment", 8: "Reports and command line", 9: "Reports and command line"}
ORDER = ("Foundations", "Governance", "Statistics", "Markets", "Estimators", "Environment", "Online agents", "Meta-learning", "Offline learning",
         "Benchmarks", "Reports and command line")
RESULTS = {"benchmarks.md": ("Speed", "The environment, the estimators, logs and trainings beside their peers, target by target."),
           "transfer.md": ("Transfer", "What adapts, and what still holds on regimes that it never saw."),
           "logs.md": ("From logs", "Every learner on every log, beside the policy that was allowed to try things out."),
           "history.md": ("History", "Prediction and profit on real prices, walk-forward, with a positive and a negative control."),
           "sweeps.md": ("Sweeps", "Throughput against workers, local and over several nodes, and a sweep of a million cells planned on paper.")}
ESSAYS = ("21_markets.synthetic", "34_estimators.regime_filter", "35_estimators.grid_filter", "37_estimators.notice", "38_facts", "11_governance.splits", "43_backtest",
          "15_stats.aggregate", "17_stats.selection", "61_meta_rl.agent", "64_meta_rl.recurrent", "71_offline_rl.counterfactual", "73_offline_rl.estimates")
SAID = {"Tutorials": "Learning by doing, each in about a minute of computing and ten of reading; every one is run by the tests.",
        "How-to": "One aim a page, for those who know what they want.",
        "Reference": "Every module is a notebook that defines, explains and tests its code; signatures come with shapes, units and errors, and the source is folded under them.",
        "Explanation": "What was found and why: the research note, the benchmarks with their misses, a run of each report, and essays on the ideas."}
HOME = {"Tutorials": "tutorials.md", "How-to": "howto.md", "Reference": "reference.md", "Explanation": "explanation.md"}


def group(page):
    "The section of a page: a shelf's folder, or a group of modules."
    path, package = page["path"], page["module"].split(".")[0]
    if path.parent.name: return path.parent.name
    if "." in page["module"] and package in GROUPS: return GROUPS[package]
    number = re.match(r"\d", path.name)
    return DECADES.get(int(number[0]), "") if number else path.stem

def grouped(pages):
    "Group -> its pages, in order."
    out = {}
    for page in pages: out.setdefault(group(page), []).append(page)
    return out

def sidebars(pages):
    "One for the first page and what is about the project, and one for each shelf."
    of = grouped(pages); entries = lambda name: [{"text": p["title"], "href": p["page"]} for p in of.get(name, [])]
    modules = [{"section": name, "contents": entries(name)} for name in ORDER if name in of]
    results = [{"text": text, "href": href} for href, (text, _) in RESULTS.items()]
    shelves = {"Tutorials": entries("tutorials"), "How-to": entries("howto"),
               "Reference": [{"text": "Every name", "href": "names.md"}, {"text": "Every command", "href": "verbs_and_settings.md"}, *modules],
               "Explanation": [*entries("note"), {"section": "What was measured", "contents": results}, {"section": "A run of each report", "contents": entries("reports")}]}
    about = [{"text": text, "href": href} for text, href in (("Gallery", "gallery.md"), ("Contributing", "contributing.md"), ("Changes", "changelog.md"))]
    return [{"id": "start", "contents": [*entries("index"), *about]},
            *({"id": re.sub(r"\W", "", name.lower()), "contents": [{"text": name, "href": HOME[name]}, *contents]} for name, contents in shelves.items())]

def navbar():
    "The shelves, and the gallery."
    return [{"text": name, "href": href} for name, href in HOME.items()] + [{"text": "Gallery", "href": "gallery.md"}]


# ---- pages that lead to others

def card(page, text=True):
    "A picture that leads to its page, with a title and a sentence."
    picture = f"[![{plain(page['caption'] or page['title'])}]({page['thumb']})]({page['page']})\n\n" if page["thumb"] else ""
    said = f"\n\n{page['description']}" if text and page["description"] else ""
    return f"::: {{.card-of-a-page}}\n{picture}[{page['title']}]({page['page']}){{.card-title}}{said}\n:::\n"

def plain(markdown): return re.sub(r"[\[\]*_`$]", "", markdown)

def cards(pages, text=True): return "::: {.cards}\n" + "\n".join(card(p, text) for p in pages) + ":::\n"

def titled(title, description, body): return f"---\ntitle: {title}\ndescription: {json.dumps(description)}\n---\n\n{body}"

def shelf(name, body): return titled(name, SAID[name], body)

def shelves(pages):
    "File name -> Markdown of the shelves' own pages."
    of = grouped(pages); by = {p["path"].stem: p for p in pages}
    results = "\n".join(f"- [{text}]({href}): {said}" for href, (text, said) in RESULTS.items())
    modules = "\n\n".join(f"## {name}\n\n" + "\n".join(f"- [{p['title']}]({p['page']}): {p['description']}" for p in of[name]) for name in ORDER if name in of)
    explained = f"{cards(of['note'])}\n## What was measured\n\n{results}\n\n## A run of each report\n\n{cards(of['reports'])}\n## Essays\n\n{cards([by[e] for e in ESSAYS])}"
    return {"tutorials.md": shelf("Tutorials", cards(of["tutorials"])), "howto.md": shelf("How-to", cards(of.get("howto", []))),
            "reference.md": shelf("Reference", "[Every name](names.md) and [every command](verbs_and_settings.md) have a page each.\n\n" + modules),
            "explanation.md": shelf("Explanation", explained)}

def gallery(pages):
    "The first figure of every page that has one, by shelf and group."
    of = grouped([p for p in pages if p["thumb"] and p["path"].stem != "index"])
    names = {"note": "Research note", "reports": "Reports", "tutorials": "Tutorials", "howto": "How-to"} | {name: name for name in ORDER}
    return titled("Gallery", "The first figure of every page that has one. A figure leads to the page that makes it, with the code beside it.",
                  "\n".join(f"## {title}\n\n{cards(of[name], text=False)}" for name, title in names.items() if name in of))

def every_name(pages):
    "A page that lists the public functions and classes, module by module."
    lines = [titled("Every name", "The public functions and classes, module by module. Each links to its place in the notebook that defines it.", "")]
    for page in pages:
        if not page["names"]: continue
        lines += ["", f"## leadlag.{page['module']}", "", "| name | what it does |", "|---|---|"]
        lines += [f"| [`{name}`]({page['page']}#{name.lower()}) | {cell(summary)} |" for name, summary in page["names"].items()]
    return "\n".join(lines) + "\n"

def symbols(pages):
    "Names in backticks that become links, from the site's root: modules, qualified names, and plain names that could be nothing else."
    out, plain = {}, {}
    for page in pages:
        html = f"/{Path(page['page']).with_suffix('.html').as_posix()}"
        if page["module"]: out |= {page["module"]: html, f"leadlag.{page['module']}": html} if "." in page["module"] else {f"leadlag.{page['module']}": html}
        for name in page["names"]:
            out |= {f"{page['module']}.{name}": f"{html}#{name.lower()}", f"leadlag.{page['module']}.{name}": f"{html}#{name.lower()}"}
            plain.setdefault(name, []).append(f"{html}#{name.lower()}")
    return out | {name: where[0] for name, where in plain.items() if len(where) == 1 and re.search(r"_|[A-Z]", name)}


# ---- every command

def cell(text): return str(text).replace("|", "\\|")

def comments(config):
    "Setting -> the comment beside it."
    source = inspect.getsource(config)
    beside = {t.start[0]: t.string.lstrip("# ").strip() for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    return {n.target.id: beside.get(n.end_lineno, "") for n in ast.parse(source).body[0].body if isinstance(n, ast.AnnAssign)}

def setting(field, bare, note):
    "A row of the table of a verb."
    flag = field.name.upper() if bare else f"--{field.name.replace('_', '-')}"
    default = field.default if field.default is not MISSING else field.default_factory() if field.default_factory is not MISSING else MISSING
    shown = "required" if default is MISSING else "none" if default in ("", None, ()) else f"`{cell(' '.join(map(str, default)) if isinstance(default, tuple) else default)}`"
    note = re.sub(r"(?<!`)(--[a-z][a-z-]+)", r"`\1`", cell(note))  # or two hyphens would become a dash
    return f"| `{flag}` | {shown} | {note} |"

def every_command():
    "A page of all verbs with all that they take."
    from leadlag.command import bare
    from leadlag.verbs import VERBS
    lines = [titled("Every command", "What can be typed after leadlag, and what it takes.", "`leadlag VERB --help` says the same in a terminal; where results and caches go is on the page of [settings](settings.ipynb).")]
    for verb, (module, function, config, line) in VERBS.items():
        config = getattr(import_module(f"leadlag.{module}"), config); naked, notes = bare(config), comments(config)
        lines += ["", f"## leadlag {verb}", "", f"{line[:1].upper()}{line[1:]}. In Python: `{module}.{function}`.", "", "| setting | default | what it is |", "|---|---|---|"]
        lines += [setting(f, f.name in naked, notes.get(f.name, "")) for f in fields(config)]
    return "\n".join(lines) + "\n"


# ---- for machines

def for_machines(pages, about):
    "The text of llms.txt: every shelf with its pages as Markdown, each with a sentence."
    copy = lambda href: f"{Path(href).with_suffix('').as_posix()}.llms.md"
    lines, of = ["# leadlag", "", f"> {about}.", ""], grouped(pages)
    for title, names in (("Start", ("index", "note")), ("Tutorials", ("tutorials",)), ("How-to", ("howto",)), ("Reports, executed", ("reports",)), ("Reference", ORDER)):
        lines += [f"## {title}", "", *(f"- [{p['title']}]({copy(p['page'])}): {plain(p['description'])}" for name in names for p in of.get(name, [])), ""]
    others = {"names.md": ("Every name", "the public functions and classes, module by module"), "verbs_and_settings.md": ("Every command", "what can be typed after leadlag, and what it takes"),
              **{href: (name, SAID[name]) for name, href in HOME.items()}, "gallery.md": ("Gallery", "the first figure of every page"),
              "contributing.md": ("Contributing", "how to change things"), "changelog.md": ("Changes", "what changed from version to version")}
    for title, rows in (("What was measured", RESULTS), ("Lists of pages", others)): lines += [f"## {title}", "", *(f"- [{text}]({copy(href)}): {said}" for href, (text, said) in rows.items()), ""]
    return "\n".join(lines) + "\n"
