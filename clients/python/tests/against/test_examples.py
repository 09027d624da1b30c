"""The examples of the package: in its docstrings, in its README and in the project's. They run against one head with
one data node, and print what stands there, but for ids and times, which are other ones each time.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import unittest
from pathlib import Path

import acopio

from . import given

HERE = Path(__file__).resolve().parents[2]
AT = "127.0.0.1:5000"
_OTHER_EACH_TIME = (
    (r"\b[0-9]{10}[-0-9A-Z_a-z]{10}(?![-\w])", "<id>"),
    (r"'[V-Z_a-z][-0-9A-Z_a-z]{9}'", "<client>"),
    (r"client [V-Z_a-z][-0-9A-Z_a-z]{9}(?![-\w])", "client <client>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", "<time>"),
    (r"127\.0\.0\.[2-9]", "<node>"),
    (r"place='[^']+'", "place='<place>'"),
)


class Checker(doctest.OutputChecker):
    """Takes ids and times for the same."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        for pattern, word in _OTHER_EACH_TIME:
            want, got = re.sub(pattern, word, want), re.sub(pattern, word, got)
        return super().check_output(want, got, flags)


class Examples(unittest.TestCase):
    def run_all(self, tests: "list[doctest.DocTest]") -> int:
        head = given("ACOPIO_HEADS")
        runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF)
        said: "list[str]" = []
        for test in tests:
            for example in test.examples:
                example.source = example.source.replace(AT, head)
                example.want = example.want.replace(AT, head)
            runner.run(test, out=said.append)
        self.assertEqual(runner.failures, 0, "".join(said))
        return runner.tries

    def test_docstrings(self) -> None:
        finder, tests = doctest.DocTestFinder(), []
        names = [acopio.__name__, *(f"acopio.{module.name}" for module in pkgutil.iter_modules(acopio.__path__))]
        for name in names:
            tests += finder.find(importlib.import_module(name), name)
        self.assertGreater(self.run_all(tests), 50)

    def test_readmes(self) -> None:
        for path, least in ((HERE / "README.md", 14), (HERE.parents[1] / "README.md", 3)):
            text = path.read_text(encoding="utf-8").replace("```", "\n")
            test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
            self.assertGreaterEqual(self.run_all([test]), least, path)

    def test_every_public_name_has_a_docstring(self) -> None:
        for name in acopio.__all__:
            self.assertTrue((getattr(acopio, name).__doc__ or "").strip(), name)


if __name__ == "__main__":
    unittest.main()
