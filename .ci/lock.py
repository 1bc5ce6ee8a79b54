"""Write requirements.lock: the exact version of everything that `make install` brought, from the metadata of what is installed; asks no network."""
import os, platform, sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OUT = Path(__file__).resolve().parent.parent / "requirements.lock"
EXTRAS = ("dev", "test")  # what `make install` asks for


def wanted(name, extras=()):
    "Requirements of an installed package that apply to this interpreter."
    for text in requires(name) or []:
        need = Requirement(text)
        if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in (*extras, "")): yield need


def closure(name, extras):
    "{package: version} of all that `name[extras]` needs, itself left out."
    found, seen, todo = {}, set(), [(name, tuple(extras))]
    while todo:
        here = todo.pop()
        if here in seen: continue
        seen.add(here)
        for need in wanted(*here):
            try: installed = distribution(need.name)
            except PackageNotFoundError: sys.exit(f"{need.name} is wanted by {here[0]} and not installed: run make install first")
            found[canonicalize_name(need.name)] = installed.version.partition("+")[0]  # a local build such as +cpu is the index's business
            todo.append((need.name, tuple(sorted(need.extras))))
    return found


if __name__ == "__main__":
    pins = closure("leadlag", EXTRAS)
    head = (f"# What `make lock` found installed for leadlag[{','.join(EXTRAS)}] with Python {platform.python_version()} on {sys.platform} {platform.machine()}.\n"
            "# Constraints, not requirements: `make install LOCKED=1`, or `pip install -c requirements.lock leadlag`.\n")
    temporary = OUT.with_suffix(".tmp")
    temporary.write_text(head + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())), encoding="utf-8")
    os.replace(temporary, OUT)
    print(f"{OUT.name}: {len(pins)} packages")
