"""What MLX has to compute for some arrays, and what of it their values do not depend on."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict

import mlx.core as mx

_PASSED_ON = "CustomTransforms"
"""Gives the arrays it takes last, once all that it takes is there."""


class Graph:
    """Of arrays that are not evaluated yet."""

    def __init__(self, *arrays: mx.array) -> None:
        named = {f"root{index}": array for index, array in enumerate(arrays)}
        text = io.StringIO()
        mx.export_to_dot(text, **named)
        self._roots = list(named)
        self._operations: dict[str, str] = {}
        self._inputs: dict[str, list[str]] = defaultdict(list)
        self._outputs: dict[str, list[str]] = defaultdict(list)
        self._source: dict[str, str] = {}
        for line in text.getvalue().splitlines():
            if found := re.match(r'\{ (\d+) \[label ="([^"]*)"', line):
                self._operations[found[1]] = found[2]
            elif found := re.match(r'"(\w+)" -> (\d+)$', line):
                self._inputs[found[2]].append(found[1])
            elif found := re.match(r'(\d+) -> "(\w+)"$', line):
                self._outputs[found[1]].append(found[2])
                self._source[found[2]] = found[1]

    def computed(self) -> Counter[str]:
        """Operations by name."""
        return Counter(self._operations.values())

    def needed(self) -> Counter[str]:
        """Those of them that the arrays' values depend on."""
        nodes: set[str] = set()
        seen: set[str] = set()
        left = list(self._roots)
        while left:
            name = left.pop()
            node = self._source.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            nodes.add(node)
            outputs = self._outputs[node]
            if self._operations[node] == _PASSED_ON:
                left.append(self._inputs[node][outputs.index(name) - len(outputs)])
            else:
                left += self._inputs[node]
        return Counter(self._operations[node] for node in nodes)
