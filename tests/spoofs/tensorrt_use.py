"""What our source uses of TensorRT's Python API, held against NVIDIA's own bindings.

    python tensorrt_use.py FOLDER_OF_BINDINGS FOLDER_OF_LIBRARIES SOURCE ...

prints JSON: {"version", "uses", "mistakes"}. It reads the source's syntax tree and follows types as far as calls,
annotations and pybind11's docstrings tell them: "set_flag(self: ..., flag: BuilderFlag) -> None".
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
MODULE = object()  # stands for the module tensorrt among types
CPP_NAMES = {"nvonnxparser::IParserError": "ParserError"}  # where a docstring has the name of C++


class Signature:
    """One overload: its parameters by name, which of them must be given, and the name of the class it returns."""

    def __init__(self, text: str) -> None:
        inside, _, returned = _split_call(text)
        names = [part.strip() for part in _split(inside) if part.strip()]
        words = [re.match(r"\*{0,2}(\w+)", name) for name in names]
        self.names = [word[1] for word in words if word and word[1] != "self"]
        self.needed = [
            name
            for name, text in zip(self.names, names[len(names) - len(self.names) :], strict=True)
            if "=" not in text
        ]
        self.returns = returned

    def takes(self, count: int, keywords: list[str]) -> bool:
        """Whether a call with so many arguments by place, and these by name, fits."""
        by_place = self.names[:count]
        given = {*by_place, *keywords}
        return count <= len(self.names) and set(keywords) <= set(self.names[count:]) and set(self.needed) <= given


def _split_call(text: str) -> tuple[str, str, str]:
    depth, start = 0, text.index("(")
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            after = text[place + 1 :]
            return text[start + 1 : place], after, after.partition("->")[2].strip()
    raise ValueError(text)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def signatures(name: str, doc: str) -> list[Signature]:
    """Return the overloads that a docstring of pybind11's tells."""
    lines = [line for line in doc.splitlines() if re.match(rf"(?:\d+\. )?{name}\((?!\*args, \*\*kwargs)", line)]
    return [Signature(line) for line in lines]


class Reader(ast.NodeVisitor):
    """Follows one source file. `uses` and `mistakes` grow; each mistake has its line."""

    def __init__(self, api: Any, source: str, name: str) -> None:
        self.api, self.name = api, name
        self.uses: set[str] = set()
        self.mistakes: list[str] = []
        self.scopes: list[dict[str, Any]] = [{}]
        self.base: Any = None  # of the class that is being read, where it is TensorRT's
        self.own: set[str] = set()  # the attributes that this class adds
        self.visit(ast.parse(source))

    def wrong(self, node: ast.AST, what: str) -> None:
        self.mistakes.append(f"{self.name}:{getattr(node, 'lineno', 0)}: {what}")

    # Types

    def class_of(self, annotation: ast.expr | None) -> Any:
        """Return the class that an annotation names, `trt.X` or `trt.X | None`; None for what is not TensorRT's."""
        if isinstance(annotation, ast.BinOp):
            return self.class_of(annotation.left)
        if (
            isinstance(annotation, ast.Attribute)
            and isinstance(annotation.value, ast.Name)
            and annotation.value.id == "trt"
        ):
            found = getattr(self.api, annotation.attr, None)
            if found is None:
                self.wrong(annotation, f"tensorrt has no {annotation.attr}")
            return found
        return None

    def named(self, text: str) -> Any:
        """Return the class that a docstring says is returned."""
        text = CPP_NAMES.get(text, text)
        return getattr(self.api, text.rpartition(".")[2], None) if re.fullmatch(r"[\w.]+", text) else None

    def type_of(self, node: ast.expr) -> Any:
        """Return MODULE, ("class", C), ("object", C), ("method", C, name), or None for what is not TensorRT's."""
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, self.type_of(node.value))
        if isinstance(node, ast.Call):
            return self.call(node)
        return None

    def attribute(self, node: ast.Attribute, owner: Any) -> Any:
        if owner is MODULE:
            if not hasattr(self.api, node.attr):
                self.wrong(node, f"tensorrt has no {node.attr}")
                return None
            self.uses.add(node.attr)
            found = getattr(self.api, node.attr)
            return ("class", found) if isinstance(found, type) else None
        if owner and owner[0] == "class":
            if not hasattr(owner[1], node.attr):
                self.wrong(node, f"{owner[1].__name__} has no {node.attr}")
                return None
            self.uses.add(f"{owner[1].__name__}.{node.attr}")
            found = getattr(owner[1], node.attr)
            return ("class", found) if isinstance(found, type) else ("method", owner[1], node.attr, "unbound")
        if owner and owner[0] == "object":
            if node.attr in self.own and owner[1] is self.base:
                return None
            if not hasattr(owner[1], node.attr):
                self.wrong(node, f"{owner[1].__name__} has no {node.attr}")
                return None
            self.uses.add(f"{owner[1].__name__}.{node.attr}")
            return ("method", owner[1], node.attr)
        return None

    def call(self, node: ast.Call) -> Any:
        function = self.type_of(node.func)
        if isinstance(node.func, ast.Name) and node.func.id == "imported":
            return MODULE
        if not function or function is MODULE or function[0] == "object":
            return None
        name = "__init__" if function[0] == "class" else function[2]
        found = signatures(name, getattr(getattr(function[1], name), "__doc__", None) or "")
        keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
        self.uses |= {f"{function[1].__name__}.{name}({keyword})" for keyword in keywords}
        count = len(node.args) - (len(function) == 4)  # X.__init__(self): the object comes first
        if found and not any(each.takes(count, keywords) for each in found):
            known = " or ".join(f"({', '.join(each.names)})" for each in found)
            self.wrong(node, f"{function[1].__name__}.{name} takes {known}, not {count} by place and {keywords}")
        if function[0] == "class":
            return ("object", function[1])
        returned = next((cls for each in found if (cls := self.named(each.returns))), None)
        return ("object", returned) if isinstance(returned, type) else None

    # Statements

    def visit_Call(self, node: ast.Call) -> None:
        self.call(node)
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(part)
        if isinstance(node.func, ast.Attribute):
            self.visit(node.func.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.type_of(node)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
            else:
                pairs = iter([(target, node.value)])
            for place, value in pairs:
                if isinstance(place, ast.Name):
                    self.scopes[-1][place.id] = self.type_of(value)
                elif isinstance(place, ast.Attribute):
                    self.setting(place)

    def setting(self, place: ast.Attribute) -> None:
        owner = self.type_of(place.value)
        if owner and owner is not MODULE and owner[0] == "object":
            found = getattr(owner[1], place.attr, None)
            if place.attr in self.own and owner[1] is self.base:
                return
            if not isinstance(found, property) or found.fset is None:
                self.wrong(place, f"{owner[1].__name__}.{place.attr} cannot be set")
            self.uses.add(f"{owner[1].__name__}.{place.attr}=")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)
        if isinstance(node.target, ast.Name):
            cls = self.class_of(node.annotation)
            self.scopes[-1][node.target.id] = ("object", cls) if cls else None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        known = {each.arg: self.class_of(each.annotation) for each in arguments}
        self.class_of(node.returns)
        self.scopes.append({name: ("object", cls) if cls else None for name, cls in known.items()})
        if node.args.args and node.args.args[0].arg == "self" and self.base:
            self.scopes[-1]["self"] = ("object", self.base)
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self.type_of(base)
            if kind and kind is not MODULE and kind[0] == "class":
                self.base = kind[1]
                self.own = {
                    part.target.attr
                    for part in ast.walk(node)
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Attribute)
                }
                for method in (each for each in node.body if isinstance(each, ast.FunctionDef)):
                    self.overridden(method)
                self.generic_visit(node)
                self.base, self.own = None, set()

    def overridden(self, method: ast.FunctionDef) -> None:
        """Check that TensorRT calls a method of this name, with as many arguments."""
        if method.name.startswith("__"):
            return
        doc = getattr(getattr(self.base, method.name, None), "__doc__", None)
        if doc is None:
            self.wrong(method, f"{self.base.__name__} calls no {method.name}")
            return
        names = [each.arg for each in method.args.args if each.arg != "self"]
        if not any(each.names == names for each in signatures(method.name, doc)):
            self.wrong(method, f"{self.base.__name__} calls {method.name} with other arguments than {names}")
        self.uses.add(f"{self.base.__name__}.{method.name}({', '.join(names)})")


def load(bindings: Path, libraries: Path) -> Any:
    """Load NVIDIA's bindings over what stands for the libraries."""
    for name in LIBRARIES:
        [path] = libraries.glob(f"lib{name}.so.*")
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(bindings))
    import tensorrt_bindings  # type: ignore[import-not-found]

    return tensorrt_bindings


def main(bindings: str, libraries: str, *sources: str) -> None:
    api = load(Path(bindings), Path(libraries))
    readers = [Reader(api, Path(path).read_text(encoding="utf-8"), Path(path).name) for path in sources]
    print(
        json.dumps(
            {
                "version": api.__version__,
                "uses": sorted(set().union(*(each.uses for each in readers))),
                "mistakes": [mistake for each in readers for mistake in each.mistakes],
            }
        ),
        flush=True,
    )
    os._exit(0)  # what stands for the library cannot be torn down


if __name__ == "__main__":
    main(*sys.argv[1:])
