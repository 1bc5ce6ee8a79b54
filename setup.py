"""Packaging, read from settings.ini: one place for every fact."""
import re, shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
facts = config["DEFAULT"]
lines = lambda key: [line for line in facts[key].splitlines() if line.strip()]
version = re.search(r'__version__ = "(.+)"', (here / "leadlag/__init__.py").read_text(encoding="utf-8"))[1]
extras = {key.removesuffix("_requirements"): lines(key) for key in facts if key.endswith("_requirements")}


class WithReports(build_py):
    "A wheel carries the report templates; a checkout reads them where they are edited, in nbs/reports."
    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(here / "nbs/reports", Path(self.build_lib, "leadlag/assets/reports"), dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("[._]*"))


setup(
    name=facts["name"], version=version, description=facts["description"], author=facts["author"],
    license=facts["license"], keywords=facts["keywords"], python_requires=facts["python_requires"],
    long_description=(here / "README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    packages=find_packages(include=["leadlag", "leadlag.*"]),
    package_data={"leadlag": ["py.typed", "assets/**/*"]},
    install_requires=lines("requirements"), extras_require=extras,
    cmdclass={"build_py": WithReports},
    entry_points={"console_scripts": lines("console_scripts")},
)
