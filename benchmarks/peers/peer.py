"""The servers that the service is compared with: how each is set up and spoken to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.peers.wires import BinaryTensors, Lists, RawFloats, Tensors, Upload, Wire

__all__ = ["BINARY", "JSON", "PEERS", "Peer", "Variant"]

JSON, BINARY = "JSON", "binary"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to set a server up: `arguments` for its module. The better variant counts, cell by cell."""

    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server that, in an environment with the packages of `<name>.txt`, runs until SIGTERM as
    `python -m benchmarks.peers.<name> MODEL PORT ARGUMENTS` in an empty folder.

    `package` is the one whose version is told. `wires` has JSON and, where the server takes it, BINARY.
    """

    name: str
    title: str
    package: str
    wires: Mapping[str, Wire]
    variants: tuple[Variant, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


V2 = "/v2/models/network/infer"
PEERS = (
    Peer(
        name="typed_fastapi",
        title="FastAPI, pydantic in and out",
        package="fastapi",
        wires={JSON: Lists("/reconstruct")},
        variants=(Variant(name="two workers"),),
    ),
    Peer(
        name="litserve",
        title="LitServe",
        package="litserve",
        wires={JSON: Lists("/predict"), BINARY: Upload("/predict")},
        variants=(Variant(name="single", arguments=("1",)), Variant(name="batches", arguments=("64",))),
    ),
    Peer(
        name="bento",
        title="BentoML",
        package="bentoml",
        wires={JSON: Lists("/reconstruct", bare=True)},
        variants=(Variant(name="single", arguments=("0",)), Variant(name="batches", arguments=("1",))),
    ),
    Peer(
        name="ray_serve",
        title="Ray Serve, HAProxy mode",
        package="ray",
        wires={JSON: Lists("/"), BINARY: RawFloats("/")},
        variants=(Variant(name="single", arguments=("1",)), Variant(name="batches", arguments=("64",))),
        environment={
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        package="mlserver",
        wires={JSON: Tensors(V2)},
        variants=(
            Variant(name="in process", arguments=("0", "0")),
            Variant(name="two processes", arguments=("2", "0")),
            Variant(name="batches", arguments=("0", "64")),
        ),
    ),
    Peer(
        name="torchserve",
        title="TorchServe",
        package="torchserve",
        wires={JSON: Lists("/predictions/network"), BINARY: RawFloats("/predictions/network")},
        variants=(Variant(name="single", arguments=("1", "1")), Variant(name="batches", arguments=("64", "1"))),
    ),
    Peer(
        name="triton",
        title="Triton",
        package="nvidia-pytriton",
        wires={JSON: Tensors(V2), BINARY: BinaryTensors(V2)},
        variants=(Variant(name="single", arguments=("0",)), Variant(name="batches", arguments=("64",))),
    ),
)
