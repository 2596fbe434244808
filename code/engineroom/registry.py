"""Finds plug-ins: one Python file each, ours or an overlay's, known by its name, imported only when used."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.paths import CODE, display, overlays

KINDS = {"benchmarks": "benchmark", "engines": "engine", "calibrators": "calibrator"}

# With hyphens too, as MLPerf's names have them: importlib, unlike the word import, does not mind. Not an editor's lock
# file, nor a helper, which begins with _.
_NAME = re.compile(r"[^\W_][\w-]*")


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was found: `name` is its file's name, `kind` its folder."""

    kind: str
    name: str
    path: Path

    def load(self) -> ModuleType:
        """Import the plug-in's module. Raises RequestError if the file does not import or holds no plug-in."""
        word = KINDS[self.kind]
        try:
            module = self._import()
        except Exception as error:  # whatever a plug-in's file may raise, the others shall stay usable
            raise RequestError(
                f"the {word} {self.name} cannot be imported: {type(error).__name__}: {error}",
                where=display(self.path),
            ) from error
        if not hasattr(module, word.upper()):
            raise RequestError(
                f"the {word} {self.name} holds no {word.upper()}",
                where=display(self.path),
                mend=f"end the file with {word.upper()} = ..., or begin its name with _ if it is none",
            )
        return module

    def _import(self) -> ModuleType:
        if self.path.is_relative_to(CODE / "engineroom"):
            return importlib.import_module(f"engineroom.{self.kind}.{self.name}")
        package = f"engineroom_overlay.{self.kind}"
        name = f"{package}.{self.name}"
        if name not in sys.modules:
            for parent in ("engineroom_overlay", package):  # no overlay is a package, but pickle asks for them
                sys.modules.setdefault(parent, ModuleType(parent))
            folder = [str(self.path.parent)] if self.path.name == "__init__.py" else None
            spec = spec_from_file_location(name, self.path, submodule_search_locations=folder)
            if spec is None or spec.loader is None:
                raise ImportError("is no Python source")
            module = sys.modules[name] = module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def find(kind: str) -> dict[str, Plugin]:
    """Return every plug-in of `kind` by name. Raises RequestError if two files bear one name."""
    return _find(kind, (CODE / "engineroom" / kind, *(root / kind for root in overlays())))


@cache
def _find(kind: str, folders: tuple[Path, ...]) -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for path in [path for folder in folders for path in _files(folder)]:
        name = _name(path)
        if not _NAME.fullmatch(name):
            continue
        if name in found:
            raise RequestError(
                f"two {kind} are named {name}: {display(found[name].path)} and {display(path)}",
                mend="rename one of the two files",
            )
        found[name] = Plugin(kind, name, path)
    return found


def _name(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def _files(folder: Path) -> list[Path]:
    paths = [*folder.glob("*.py"), *folder.glob("*/__init__.py")]
    return sorted((path for path in paths if path != folder / "__init__.py"), key=lambda path: (_name(path), path))


def get(kind: str, name: str, *, where: str | None = None) -> Plugin:
    """Return the plug-in `name` of `kind`. Raises RequestError with the nearest known name."""
    known = find(kind)
    if name not in known:
        raise RequestError(f"unknown {KINDS[kind]} {shown(name)}", where=where, mend=did_you_mean(name, known))
    return known[name]


def missing(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of `modules` that are not installed, without importing any but the parents of submodules."""
    return tuple(module for module in modules if not _is_installed(module))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the parent of a submodule is missing; a module was imported without a spec
        return False


def folder_of(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None
