"""Reads Python files that hold settings and runs none of them: assignments, classes, dicts, imports between files.

What can be worked out from the text alone becomes a content; everything else becomes `Unresolved`, with its text.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

BYTES_MAX = 1_000_000  # NVIDIA's largest file has 130 kB
IMPORTS_MAX = 20  # files that import one another in a row
BASES_MAX = 50  # classes that inherit from one another in a row
NUMBER_MAX = 10**18
TEXT_MAX = 10_000
SHIFT_MAX = 60
TEXT_SHOWN = 80
WORK_MAX = 5_000_000  # entries that one file may copy from dict to dict: a few lines can ask for any number


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1."""

    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name that no file read defines, dotted: "KnownSystem.L4x1", "code.fields.models.precision"."""

    name: str

    @property
    def last(self) -> str:
        """The part after the last dot."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a file read defines; it is never called."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of something that is not known here: its last name, and what it was given."""

    name: str
    arguments: tuple[Content, ...]
    keywords: tuple[tuple[str, Content], ...]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An expression that only running it could resolve."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """A content, and the line that set it."""

    content: Content
    place: Place


class Table:
    """A dict. `doubt` is the line of a statement that may have changed it in a way that is not followed here."""

    def __init__(self) -> None:
        self.entries: dict[Content, Value] = {}
        self.doubt: Place | None = None

    def copy(self, *, deep: bool, made: dict[int, Table]) -> Table:
        """Return a copy. `made` collects all that were made: what stands twice is copied once, as Python does."""
        if id(self) in made:
            return made[id(self)]
        made[id(self)] = copied = Table()
        copied.doubt = self.doubt
        for key, value in self.entries.items():
            inner = value.content
            copied.entries[key] = (
                Value(inner.copy(deep=True, made=made), value.place) if deep and isinstance(inner, Table) else value
            )
        return copied


@dataclass(eq=False, slots=True)
class Class:
    """A class with what its own body sets."""

    name: str
    place: Place
    bases: tuple[Content, ...]
    decorators: tuple[Content, ...]
    names: dict[str, Value] = field(default_factory=dict)

    def ancestry(self) -> tuple[list[Class], Content]:
        """Return the class and those it inherits from, nearest first, and what the last of them inherits from."""
        found = [self]
        while len(bases := found[-1].bases) == 1 and len(found) < BASES_MAX:
            if not isinstance(bases[0], Class):
                return found, bases[0]
            found.append(bases[0])
        if not bases:
            return found, Symbol("object")
        return found, Unresolved(f"class {found[-1].name}: more than one base, or more than {BASES_MAX} in a row")


@dataclass(eq=False, slots=True)
class Module:
    """A file that was read: its names, its classes in their order, and the environment variables that it sets."""

    path: Path
    names: dict[str, Value] = field(default_factory=dict)
    classes: list[Class] = field(default_factory=list)
    environment: list[tuple[str, Place]] = field(default_factory=list)
    _work: int = 0

    def spend(self, entries: int) -> None:
        """Note that entries are copied. Raises Unreadable when it is too many of them."""
        self._work += entries
        if self._work > WORK_MAX:
            raise Unreadable("copies more than a file of settings has")


_Plain: TypeAlias = "int | float | str | bool | None | tuple[Content, ...]"
Content: TypeAlias = "_Plain | Symbol | Function | Call | Unresolved | Table | Class | Module"


class Unreadable(Exception):  # noqa: N818  (says what the file is)
    """A file cannot be read as Python. `line` is where, 0 if it is all of it."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


class Reader:
    """Reads files, each one once."""

    def __init__(self) -> None:
        self._modules: dict[Path, Module | Unreadable] = {}
        self._depth = 0

    def read(self, path: Path) -> Module:
        """Return a file as far as it can be followed, one still being read as far as it is. Raises Unreadable."""
        if path not in self._modules:
            self._modules[path] = self._read(path)
        found = self._modules[path]
        if isinstance(found, Unreadable):
            raise found
        return found

    def _read(self, path: Path) -> Module | Unreadable:
        if self._depth >= IMPORTS_MAX:
            return Unreadable(f"is imported through more than {IMPORTS_MAX} files")
        self._depth += 1
        try:
            text = _text(path)
            tree = _parse(text)
            self._modules[path] = module = Module(path)
            _Body(self, module, re.split(r"\r\n|\r|\n", text), module.names).follow(tree.body)
            return module
        except Unreadable as problem:
            return problem
        except RecursionError:
            return Unreadable("is nested too deeply")
        finally:
            self._depth -= 1


def _text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device would never end
            raise Unreadable("is no regular file")
        if status.st_size > BYTES_MAX:
            raise Unreadable(f"has {status.st_size:,} bytes; a file of settings is smaller")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None


def _parse(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file's own matter: "\d" and such
            return ast.parse(text)
    except SyntaxError as error:
        raise Unreadable(f"is not Python: {error.msg}", error.lineno or 0) from None
    except (ValueError, MemoryError):  # a NUL byte; too many brackets
        raise Unreadable("is not Python") from None


class _NotFollowed(Exception):  # noqa: N818  (no error: the expression stays text)
    """An expression that is not worked out here."""


class _Body:
    """Follows the statements of a file, or of a class in it, in their order."""

    def __init__(self, reader: Reader, module: Module, lines: Sequence[str], names: dict[str, Value]) -> None:
        self._reader, self._module, self._lines, self._names = reader, module, lines, names

    def follow(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self._follow(statement)

    def _follow(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=targets, value=expression):
                content = self._content(expression)
                for target in targets:
                    self._bind(target, content)
            case ast.AnnAssign(target=target, value=expression):
                if expression is not None:
                    self._bind(target, self._content(expression))
            case ast.AugAssign(target=ast.Name() | ast.Subscript() as target, op=op, value=expression):
                content = self._content(ast.copy_location(ast.BinOp(target, op, expression), statement))
                if isinstance(content, Table):  # it changes in place, for whoever else holds it, too
                    self._distrust(statement)
                else:
                    self._bind(target, content)
            case ast.Import(names=names):
                for name in names:
                    self._import(name)
            case ast.ImportFrom():
                self._import_from(statement)
            case ast.ClassDef():
                self._define(statement)
            case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word):
                self._names[word] = Value(Function(word), self._place(statement))
            case ast.Expr(value=expression):
                if isinstance(self._content(expression), Unresolved):
                    self._distrust(statement)
            case ast.Pass():
                pass
            case _:
                self._distrust(statement)

    def _place(self, node: ast.expr | ast.stmt) -> Place:
        return Place(self._module.path, node.lineno)

    def _bind(self, target: ast.expr, content: Content) -> None:
        value = Value(content, self._place(target))
        if isinstance(target, ast.Name):
            self._names[target.id] = value
            return
        owner = self._content(target.value) if isinstance(target, ast.Subscript | ast.Attribute) else None
        match target, owner:
            case ast.Subscript(slice=key), Table(entries=entries):
                entries[self._key(key)] = value
            case ast.Subscript(slice=key), Symbol(name="os.environ"):
                name = self._content(key)
                self._module.environment.append((name if isinstance(name, str) else self._shown(key), value.place))
            case ast.Attribute(attr=name), Class(names=names):
                names[name] = value
            case _:
                self._distrust(target)

    def _distrust(self, node: ast.stmt | ast.expr) -> None:
        """Trust nothing any more that a statement which is not followed may have changed."""
        for name in (name for name in ast.walk(node) if isinstance(name, ast.Name)):
            known = self._names.get(name.id)
            if known and isinstance(known.content, Table):
                known.content.doubt = self._place(node)
            if not isinstance(name.ctx, ast.Load):
                self._names[name.id] = Value(Unresolved(self._shown(node)), self._place(node))

    def _define(self, statement: ast.ClassDef) -> None:
        bases = tuple(self._content(base) for base in statement.bases)
        decorators = tuple(self._content(decorator) for decorator in statement.decorator_list)
        made = Class(statement.name, self._place(statement), bases, decorators)
        _ClassBody(self._reader, self._module, self._lines, made.names, self._names).follow(statement.body)
        self._names[made.name] = Value(made, made.place)
        self._module.classes.append(made)

    # Imports: a file that lies in the same folder of settings is read, anything else is a symbol.

    def _import(self, name: ast.alias) -> None:
        bound, dotted = (name.asname, name.name) if name.asname else [name.name.partition(".")[0]] * 2
        self._names[bound] = Value(self._imported(dotted), Place(self._module.path, name.lineno))

    def _import_from(self, statement: ast.ImportFrom) -> None:
        dotted = statement.module or ""
        source = self._imported(dotted, statement.level)
        for name in statement.names:
            if name.name == "*":
                known = source.names if isinstance(source, Module) else {}
                self._module.spend(len(known))
                self._names.update({word: value for word, value in known.items() if not word.startswith("_")})
            elif isinstance(source, Module) and name.name in source.names:
                self._names[name.asname or name.name] = source.names[name.name]
            else:
                inner = self._imported(f"{dotted}.{name.name}".lstrip("."), statement.level)
                self._names[name.asname or name.name] = Value(inner, self._place(statement))

    def _imported(self, dotted: str, level: int = 0) -> Module | Symbol:
        path = _find_module(self._module.path, dotted, level)
        try:
            return self._reader.read(path) if path else Symbol(dotted)
        except Unreadable:
            return Symbol(dotted)

    # Expressions.

    def _content(self, node: ast.expr) -> Content:
        try:
            return self._evaluate(node)
        except _NotFollowed:
            return Unresolved(self._shown(node))

    def _key(self, node: ast.expr) -> Content:
        content = self._content(node)
        return content if _is_key(content) else Unresolved(self._shown(node))

    def _lookup(self, name: str) -> Content:
        return self._names[name].content if name in self._names else Symbol(name)

    def _evaluate(self, node: ast.expr) -> Content:
        match node:
            case ast.Constant(value=int() | float() | str() | None as constant):
                return constant
            case ast.Name(id=name):
                return self._lookup(name)
            case ast.Attribute(value=owner, attr=name):
                return _attribute(self._evaluate(owner), name)
            case ast.Subscript(value=owner, slice=key):
                return self._item(self._evaluate(owner), self._key(key))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return _number(operator.neg if isinstance(sign, ast.USub) else operator.pos, self._evaluate(operand))
            case ast.BinOp(left=left, op=op, right=right):
                first, second = self._evaluate(left), self._evaluate(right)
                if isinstance(op, ast.BitOr) and isinstance(first, Table):
                    table = self._copy(first)
                    self._merge(table, second)
                    return table
                return _combined(type(op), first, second)
            case ast.Dict(keys=keys, values=values):
                return self._table(zip(keys, values, strict=True))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return tuple(self._content(item) for item in items)
            case ast.Call():
                return self._call(node)
        raise _NotFollowed

    def _table(self, items: Iterable[tuple[ast.expr | None, ast.expr]]) -> Table:
        table = Table()
        for key, expression in items:
            if key is not None:
                table.entries[self._key(key)] = Value(self._content(expression), self._place(key))
            else:
                self._merge(table, self._evaluate(expression))
        return table

    def _copy(self, table: Table, *, deep: bool = False) -> Table:
        made: dict[int, Table] = {}
        copied = table.copy(deep=deep, made=made)
        self._module.spend(sum(len(each.entries) for each in made.values()))
        return copied

    def _merge(self, table: Table, other: Content) -> None:
        if not isinstance(other, Table):
            raise _NotFollowed
        self._module.spend(len(other.entries))
        table.entries.update(other.entries)
        table.doubt = table.doubt or other.doubt

    def _item(self, owner: Content, key: Content) -> Content:
        if isinstance(owner, Table) and key in owner.entries and not owner.doubt:
            return owner.entries[key].content
        raise _NotFollowed

    def _call(self, node: ast.Call) -> Content:
        arguments = tuple(self._content(argument) for argument in node.args)
        keywords = tuple((word.arg or "**", self._content(word.value)) for word in node.keywords)
        if isinstance(node.func, ast.Attribute) and isinstance(owner := self._evaluate(node.func.value), Table):
            return self._method(owner, node, arguments, keywords)
        function = self._evaluate(node.func)
        name = function.name if isinstance(function, Symbol) else ""
        if name in _NUMERIC and not keywords:
            return _number(_NUMERIC[name], *arguments)
        if name in ("dict", "copy.copy", "copy.deepcopy"):
            return self._dict(arguments, keywords, node, deep=name == "copy.deepcopy")
        if name == "importlib.import_module" and len(arguments) == 1 and isinstance(arguments[0], str):
            return self._imported(arguments[0])
        for table in (each for each in (*arguments, *(word for _, word in keywords)) if isinstance(each, Table)):
            table.doubt = self._place(node)
        if not isinstance(function, Symbol | Function):
            raise _NotFollowed
        return Call(function.name.rpartition(".")[2], arguments, keywords)

    def _method(
        self, owner: Table, node: ast.Call, arguments: tuple[Content, ...], keywords: tuple[tuple[str, Content], ...]
    ) -> Content:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method == "copy" and not node.args:
            return self._copy(owner)
        try:
            if method != "update":
                raise _NotFollowed
            self._merge(owner, self._dict(arguments, keywords, node, deep=False))
        except _NotFollowed:
            owner.doubt = self._place(node)
            raise
        return None

    def _dict(
        self, arguments: tuple[Content, ...], keywords: tuple[tuple[str, Content], ...], node: ast.expr, *, deep: bool
    ) -> Table:
        """Return a new dict of at most one other and of keywords."""
        if len(arguments) > 1:
            raise _NotFollowed
        table = Table()
        if arguments:
            self._merge(table, arguments[0])
            table = self._copy(table, deep=deep)
        for word, content in keywords:
            if word == "**":
                self._merge(table, content)
            else:
                table.entries[Symbol(word)] = Value(content, self._place(node))
        return table

    def _shown(self, node: ast.expr | ast.stmt) -> str:
        """Return the first line of a node's text, shortened."""
        line = self._lines[node.lineno - 1]
        if len(line) > TEXT_MAX:
            return f"in line {node.lineno}"
        end = node.end_col_offset if node.end_lineno == node.lineno else None
        text = line.encode()[node.col_offset : end].decode(errors="replace").strip()
        return text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 3]}..."


class _ClassBody(_Body):
    """Follows a class's body: its own names come first, then the file's."""

    def __init__(
        self, reader: Reader, module: Module, lines: Sequence[str], names: dict[str, Value], outer: dict[str, Value]
    ) -> None:
        super().__init__(reader, module, lines, names)
        self._outer = outer

    def _lookup(self, name: str) -> Content:
        if name not in self._names and name in self._outer:
            return self._outer[name].content
        return super()._lookup(name)


def _is_key(content: Content, depth: int = 2) -> bool:
    """Tell whether a content may be a key. Hashing nested tuples could take for ever: a few lines can double them."""
    if isinstance(content, Call):
        inner = (*content.arguments, *(word for _, word in content.keywords))
        return depth > 0 and all(_is_key(each, depth - 1) for each in inner)
    return isinstance(content, str | int | float | Symbol | Unresolved)


def _find_module(importer: Path, dotted: str, level: int) -> Path | None:
    """Return the file that an import means: beside the importer, or below the nearest folder of the first name."""
    parts = dotted.split(".") if dotted else []
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", part) for part in parts) or len(parts) > 10:
        return None  # import_module("/etc/passwd")
    if level:
        base: Path | None = importer.parents[min(level, len(importer.parents)) - 1]
    else:
        base = next((folder for folder in importer.parents if parts and folder.name == parts[0]), None)
        parts = parts[1:]
    if base is None:
        return None
    place = base.joinpath(*parts)
    files = (place / "__init__.py", place.parent / f"{place.name}.py")
    try:
        return next((path for path in files if path.is_file()), None)
    except OSError:  # a closed folder
        return None


def _attribute(owner: Content, name: str) -> Content:
    match owner:
        case Symbol(name=symbol):
            return Symbol(f"{symbol}.{name}")
        case Module(names=names) if name in names:
            return names[name].content
        case Class():
            for each in owner.ancestry()[0]:
                if name in each.names:
                    return each.names[name].content
        case Call() if name == "short":  # NVIDIA's own short form of the same workload setting
            return owner
    raise _NotFollowed


def _combined(kind: type[ast.operator], left: Content, right: Content) -> Content:
    if kind is ast.Add and isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= TEXT_MAX:
        return left + right
    if kind is ast.LShift and not (isinstance(right, int) and 0 <= right <= SHIFT_MAX):
        raise _NotFollowed
    if kind not in _OPERATORS:
        raise _NotFollowed
    return _number(_OPERATORS[kind], left, right)


def _number(function: Callable[..., Any], *operands: Content) -> int | float:
    """Work out a small sum. Its size is bounded, so that a few lines cannot ask for gigabytes."""
    if not operands or not all(isinstance(operand, int | float) for operand in operands):
        raise _NotFollowed
    try:
        result = function(*operands)
    except (ArithmeticError, ValueError, TypeError):
        raise _NotFollowed from None
    if not isinstance(result, int | float) or abs(result) > NUMBER_MAX or not math.isfinite(result):
        raise _NotFollowed
    return result


# round() with one operand only: rounding to minus a billion digits would take all memory.
_NUMERIC: dict[str, Callable[..., Any]] = {
    "int": lambda number: int(number),
    "float": lambda number: float(number),
    "round": lambda number: round(number),
    "min": min,
    "max": max,
}
_OPERATORS: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
}
