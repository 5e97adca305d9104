#!/usr/bin/python3
"""Tells how often each operation of the description was answered with what, and fails where one was
never answered with success: then it was not tried but only refused."""

import collections
import json
import re
import sys
import urllib.request

# What answers a plain request with a refusal, and what schemathesis takes the description from.
NO_SUCCESS = {"GET /ws/{camera}"}
NOT_TRIED = {"GET /api/v1/openapi.json"}


def main(report, address):
    with urllib.request.urlopen(f"{address}/api/v1/openapi.json", timeout=20) as answer:
        paths = json.load(answer)["paths"]
    operations = [
        (method.upper(), path, re.compile(re.sub(r"{[^}]*}", "[^/]*", path) + "$"))
        for path, methods in paths.items()
        for method in methods
    ]
    answers = collections.defaultdict(collections.Counter)
    with open(report, encoding="utf-8") as file:
        entries = json.load(file)["log"]["entries"]
    for entry in entries:
        path = entry["request"]["url"].removeprefix(address).split("?")[0]
        for method, template, pattern in operations:
            if entry["request"]["method"] == method and pattern.match(path):
                answers[f"{method} {template}"][entry["response"]["status"]] += 1
    missing = []
    for method, template, _ in operations:
        name = f"{method} {template}"
        counted = sorted(answers[name].items())
        print(f"{name}: " + ", ".join(f"{status} x {count}" for status, count in counted))
        success = any(200 <= status < 300 for status, _ in counted)
        if not success and name not in NO_SUCCESS | NOT_TRIED:
            missing.append(name)
    if missing:
        sys.exit(f"ci/api: never answered with success: {', '.join(missing)}")


main(*sys.argv[1:])
