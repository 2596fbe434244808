"""Writes a C++ header with a class per interface of TensorRT's implementation, whose every function aborts.

python tensorrt_stubs.py FOLDER_OF_NVINFER_H HEADER

A double derives from these and overrides what it needs: the interfaces have more than a hundred functions, and they
differ from version to version.
"""

import re
import sys
from pathlib import Path

INTERFACES = ("VRuntime", "VCudaEngine", "VExecutionContext")


def main(include: str, header: str) -> None:
    """Write the header."""
    text = (Path(include) / "NvInferImpl.h").read_text(encoding="utf-8")
    text = re.sub(r"//.*", "", text)
    classes = [_stub(name, _body(text, name)) for name in INTERFACES]
    lines = [
        "#pragma GCC system_header",
        "#include <NvInferRuntime.h>",
        "#include <cstdlib>",
        "namespace nvinfer1::stub {",
        *classes,
        "}",
    ]
    Path(header).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _body(text: str, name: str) -> str:
    begin = re.search(rf"class {name}\b[^;{{]*{{", text)
    assert begin, f"NvInferImpl.h has no class {name}"
    return text[begin.end() : text.index("\n};", begin.end())]


def _stub(name: str, body: str) -> str:
    functions = re.findall(r"virtual\s+([^;]*?)\s*=\s*0\s*;", body)
    overrides = "\n".join(f"  {' '.join(_plain(each).split())} override {{ std::abort(); }}" for each in functions)
    return f"struct {name} : apiv::{name} {{\n{overrides}\n}};"


def _plain(declaration: str) -> str:
    return declaration.replace("TRT_DEPRECATED", "")


if __name__ == "__main__":
    main(*sys.argv[1:])
