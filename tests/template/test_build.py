"""The built bundle: what `sam build` packed is enough, and no more than it should be."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.template import FunctionSpec
from tests.template.support import FOLDERS
from tools.build import RUNTIME, UNZIPPED_LIMIT, build, flavour
from tools.programs import ROOT, find_python

pytestmark = pytest.mark.timeout(900)  # the first build on a machine downloads its tools

AARCH64 = 183  # e_machine in an ELF header
LIBRARIES = [
    "aws_lambda_powertools",
    "boto3",
    "httpx",
    "jwt",
    "psycopg",
    "pydantic",
    "sentry_sdk",
    "storage3",
    "stripe",
    "supabase",
    "upstash_ratelimit",
    "upstash_redis",
]


@pytest.fixture(scope="session")
def layer(local_bundle: Path) -> Path:
    """Return the layer's folder that Lambda puts on Python's path."""
    return (local_bundle / "SharedLayer").resolve() / "python"


def test_functions_are_built(built_functions: dict[str, FunctionSpec]) -> None:
    """Each function has its app.py, no libraries of its own, and the layer."""
    assert built_functions.keys() == FOLDERS.keys()
    for name, spec in built_functions.items():
        assert (spec.code / "app.py").is_file(), name
        assert not (spec.code / "requirements.txt").exists(), name
        assert len(spec.layers) == 1, name


@pytest.mark.parametrize("library", [*LIBRARIES, "holdfast"])
def test_layer_has(layer: Path, library: str) -> None:
    """The layer brings every library that product code may import, and holdfast itself."""
    assert (layer / library / "__init__.py").is_file()


def test_libraries_import_from_the_layer_alone(layer: Path) -> None:
    """On a bare interpreter everything imports from the layer, boto3 with the layer's urllib3 included."""
    code = f"import {', '.join(LIBRARIES)}, psycopg_binary, pydantic_core; print(boto3.__file__)"
    bare = os.path.realpath(sys.executable)  # not the virtual environment's
    done = subprocess.run(
        [bare, "-S", "-c", code],
        env={"PYTHONPATH": str(layer), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(layer)


def test_package_data_is_packed(layer: Path) -> None:
    """Files of holdfast that are not Python are in the layer as well."""
    source = ROOT / "layers" / "shared" / "holdfast"
    wanted = {
        p.relative_to(source)
        for p in source.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    packed = {p.relative_to(layer / "holdfast") for p in (layer / "holdfast").rglob("*")}
    assert wanted <= packed


def test_sizes(layer: Path, built_functions: dict[str, FunctionSpec]) -> None:
    """Layer and function together are far from Lambda's limit."""
    size = sum(p.stat().st_size for p in layer.rglob("*") if p.is_file())
    code = max(sum(p.stat().st_size for p in s.code.rglob("*")) for s in built_functions.values())
    assert size + code < UNZIPPED_LIMIT * 0.6
    assert code < 64 * 1024


def test_bytecode(layer: Path) -> None:
    """Every module is compiled for this Python, and is used whatever the files' times are."""
    modules = list(layer.rglob("*.py"))
    assert modules
    for module in modules:
        compiled = Path(importlib.util.cache_from_source(str(module)))
        assert compiled.is_file(), module
        head = compiled.read_bytes()[:8]
        assert head[:4] == importlib.util.MAGIC_NUMBER
        assert int.from_bytes(head[4:], "little") == 1, module  # by hash, and not checked


def test_no_dead_weight(layer: Path) -> None:
    """The layer has no test folders, no scripts and no leftovers of its installer."""
    assert not [p for p in layer.rglob("tests") if p.is_dir()]
    assert not (layer / "bin").exists()
    assert not (layer / ".lock").exists()


def test_second_build_does_nothing(local_bundle: Path) -> None:
    """A build whose inputs did not change is skipped."""
    _, done = build(flavour("local"), require_bytecode=True)
    assert not done


def test_deploy_bundle_is_for_arm64(deploy_bundle: Path) -> None:
    """The bundle for AWS holds ARM libraries only, whatever this machine is."""
    libraries = list((deploy_bundle / "SharedLayer").resolve().rglob("*.so"))
    assert len(libraries) > 5
    for path in libraries:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:20], "little") == AARCH64, path.name


def test_deploy_bundle_has_bytecode_of_its_runtime(deploy_bundle: Path) -> None:
    """The bundle for AWS is compiled for Lambda's Python when this machine has one."""
    if find_python(RUNTIME) is None:
        pytest.skip(f"no Python {RUNTIME} here")
    layer = (deploy_bundle / "SharedLayer").resolve()
    assert {p.name.split(".")[-2] for p in layer.rglob("*.pyc")} == {
        f"cpython-{RUNTIME.replace('.', '')}"
    }
