#!/usr/bin/env python3
"""Holds Cargo.lock against deny.toml: licences, banned crates, sources. `cargo deny check licenses bans sources` does
that too, but takes minutes to install. Advisories need cargo-deny, and a database from the internet.

A key of deny.toml that is not understood here is an error, never passed over. `python3 -m doctest` tests it.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = ("registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/")
# Table by table, what is understood: each key with its possible values, or none for any.
UNDERSTOOD = {
    "graph": {"targets": None},
    "licenses": {"allow": None},
    "bans": {"multiple-versions": ("allow", "warn"), "deny": None},
    "sources": {"unknown-registry": ("deny",), "unknown-git": ("deny",)},
}


def allowed(expression, allow):
    """Whether an SPDX expression can be satisfied with the licences of a set.

    >>> allowed("MIT OR (GPL-3.0 AND Zlib)", {"MIT"}), allowed("GPL-3.0 OR MIT", {"MIT"})
    (True, True)
    >>> allowed("MIT AND GPL-3.0", {"MIT"}), allowed("(MIT OR GPL-3.0) AND Zlib", {"MIT", "Zlib"})
    (False, True)
    >>> allowed("MIT OR GPL-3.0 AND GPL-2.0", {"MIT"}), allowed("MIT/Apache-2.0", {"Apache-2.0"})
    (True, True)
    >>> with_llvm = "Apache-2.0 WITH LLVM-exception"
    >>> allowed(with_llvm, {"Apache-2.0"}), allowed(with_llvm, {with_llvm})
    (False, True)
    >>> allowed("MPL-2.0+", {"MPL-2.0"}), allowed("MPL-2.0+", {"MIT"})
    (True, False)
    >>> allowed("MIT OR", {"MIT"})
    Traceback (most recent call last):
    ValueError: MIT OR
    """
    tokens = re.findall(r"[()]|[^\s()/]+(?:\s+WITH\s+[^\s()/]+)?", expression.replace("/", " OR "))

    def one():
        if not tokens or tokens[0] in ("AND", "OR", ")"):
            raise ValueError(expression)
        token = tokens.pop(0)
        if token != "(":
            # "or any later version" offers this version too.
            return " ".join(token.split()).removesuffix("+") in allow
        inner = either()
        if not tokens or tokens.pop(0) != ")":
            raise ValueError(expression)
        return inner

    def both():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    result = either()
    if tokens:
        raise ValueError(expression)
    return result


def not_understood(deny):
    """What of deny.toml this program does not know.

    >>> sources = {"unknown-registry": "deny", "unknown-git": "deny"}
    >>> rest = {"graph": {"targets": []}, "licenses": {"allow": []}, "bans": {"deny": []}}
    >>> list(not_understood(rest | {"sources": sources, "advisories": {"yanked": "deny"}}))
    []
    >>> list(not_understood(rest | {"sources": {"unknown-git": "warn"}}))
    ["[sources] unknown-git = 'warn'", '[sources] has no unknown-registry']
    >>> list(not_understood(rest | {"sources": sources, "licenses": {"exceptions": []}, "output": {}}))
    ['[licenses] exceptions = []', '[licenses] has no allow', '[output]']
    >>> list(not_understood(rest | {"sources": sources, "bans": {"deny": [{"crate": "a@1"}, {"crate": "b"}]}}))
    ["[bans] deny {'crate': 'a@1'}"]
    """
    for table, keys in UNDERSTOOD.items():
        for key, value in deny.get(table, {}).items():
            if key not in keys or (keys[key] and value not in keys[key]):
                yield f"[{table}] {key} = {value!r}"
        for key in sorted(keys.keys() - deny.get(table, {}).keys() - {"multiple-versions"}):
            yield f"[{table}] has no {key}"
    for ban in deny.get("bans", {}).get("deny", []):
        plain = isinstance(ban, dict) and ban.keys() <= {"crate", "reason"}
        if not plain or not re.fullmatch(r"[\w-]+", ban.get("crate", "")):
            yield f"[bans] deny {ban}"
    for table in sorted(deny.keys() - UNDERSTOOD.keys() - {"advisories"}):
        yield f"[{table}]"


def mistakes(deny, packages):
    """What is wrong with packages.

    >>> deny = {"licenses": {"allow": ["MIT"]}, "bans": {"deny": [{"crate": "b", "reason": "slow"}]}}
    >>> package = {"name": "a", "version": "1.0.0", "license": "MIT", "source": CRATES_IO[0]}
    >>> list(mistakes(deny, [package, package | {"source": None}]))
    []
    >>> list(mistakes(deny, [package | {"license": "GPL-3.0"}, package | {"license": None}]))
    ["a 1.0.0: its licence is not allowed: 'GPL-3.0'", 'a 1.0.0: its licence is not allowed: None']
    >>> list(mistakes(deny, [package | {"name": "b"}]))
    ['b 1.0.0: it is banned: slow']
    >>> list(mistakes(deny, [package | {"source": "git+https://example.org/a"}]))
    ['a 1.0.0: it comes from git+https://example.org/a']
    """
    allow = set(deny["licenses"]["allow"])
    banned = {ban["crate"]: ban.get("reason", "") for ban in deny["bans"]["deny"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not allowed(package["license"], allow):
            yield f"{name}: its licence is not allowed: {package['license']!r}"
        if package["name"] in banned:
            yield f"{name}: it is banned: {banned[package['name']]}"
        if package["source"] is not None and package["source"] not in CRATES_IO:
            yield f"{name}: it comes from {package['source']}"


def main():
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    unknown = list(not_understood(deny))
    if unknown:
        sys.exit(f"error: deny.toml has what {pathlib.Path(__file__).name} does not understand: {'; '.join(unknown)}")
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for target in deny["graph"]["targets"]:
        command += ["--filter-platform", target]
    metadata = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    packages = json.loads(metadata.stdout)["packages"]
    found = list(mistakes(deny, packages))
    for mistake in found:
        print(f"error: {mistake}", file=sys.stderr)
    print(f"{len(packages)} packages held against deny.toml, {len(found)} mistakes", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
