"""`make bench-training`: an epoch of the textbook's variational autoencoder by the textbook's loop and by ours.

The contenders take turns (A B C ... A B C ...), so that a machine that slows down slows all; each turn is a process of
its own, which starts from fresh weights. What counts is the ratio of the medians, at equal loss on the test rows.
`--compile` adds torch.compile.
On a machine with other work, `--threads 1` and the CPU's seconds tell more: threads that wait for each other count too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.serving import print_line
from training.config import Fitting
from training.data import load
from training.fit import fit
from training.hardware import Hardware, flush_denormals
from training.networks import Architecture, Autoencoder, build
from training.objectives import Variational

ROWS, TEST_ROWS, VALIDATION_ROWS = 60_000, 10_000, 2_000
# Adam's averages get denormal in the second epoch, which is part of what there is to measure.
BATCH, RATE, EPOCHS = 128, 1e-3, 3
BAR = 1 / 3


class Round(NamedTuple):
    """What one contender needed for an epoch, by the clock and of the CPU (workers not counted), and the negative
    bound (nats) on the test rows afterwards."""

    seconds: float
    cpu_seconds: float
    test_loss: float


class Textbook(nn.Module):
    """784-400-20 as everybody writes it first (github.com/pytorch/examples, vae/main.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the codes."""
        h = functional.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def logits(self, z: Tensor) -> Tensor:
        """What the sigmoid is applied to."""
        logits: Tensor = self.fc4(functional.relu(self.fc3(z)))
        return logits


class Bench:
    """The rows, in memory and as the files that torchvision reads in `folder`, and the contenders as methods."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self.threads = threads
        self.contenders: dict[str, Callable[[int], Round]] = {
            "textbook, 0 workers": lambda seed: self.textbook(seed, workers=0),
            "textbook, 2 workers": lambda seed: self.textbook(seed, workers=2),
            "ours": self.ours,
            "ours, bf16-mixed": lambda seed: self.ours(seed, hardware=Hardware(precision="bf16-mixed")),
            "bare loop": self.bare,
            "bare loop with Fabric": lambda seed: self.bare(seed, lightning=True),
            "bare loop, compiled": lambda seed: self.bare(seed, compiled=True),
        }
        data = load("fashion-mnist", Path("data"))
        features, labels = data.features[: ROWS + TEST_ROWS], data.labels
        if labels is None or len(features) != ROWS + TEST_ROWS:
            raise RuntimeError("Fashion-MNIST has 70,000 labelled rows")
        self.train, self.test = features[:ROWS].clone(), features[ROWS:]
        self.folder = folder
        raw = folder / "FashionMNIST" / "raw"
        if raw.exists():
            return
        raw.mkdir(parents=True)
        for part, rows in (("train", slice(0, ROWS)), ("t10k", slice(ROWS, None))):
            images = (features[rows] * 255).round().to(torch.uint8).reshape(-1, 28, 28)
            write_idx(raw / f"{part}-images-idx3-ubyte", images)
            write_idx(raw / f"{part}-labels-idx1-ubyte", labels[rows].to(torch.uint8))

    def textbook(self, seed: int, *, workers: int) -> Round:
        """torchvision's data set, ToTensor, DataLoader, sigmoid, cross-entropy and Adam, all by default."""
        torch.manual_seed(seed)
        network = Textbook()
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        data = datasets.FashionMNIST(self.folder, transform=transforms.ToTensor())
        loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers)
        start = time.perf_counter(), time.process_time()
        for _ in range(EPOCHS):
            total = 0.0
            for x, _label in loader:
                x = x.view(-1, 784)
                optimizer.zero_grad()
                mean, log_variance = network.encode_distribution(x)
                z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
                cross_entropy = functional.binary_cross_entropy(torch.sigmoid(network.logits(z)), x, reduction="sum")
                divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
                loss = (cross_entropy + divergence) / len(x)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
                total += loss.item()
                optimizer.step()
        return self.measured(start, network)

    def ours(self, seed: int, *, hardware: Hardware | None = None) -> Round:
        """training.fit.fit as a recipe calls it: with validation, checkpoint and log after every epoch."""
        network = vae(seed)
        settings = Fitting(
            epochs=EPOCHS,
            batch_size=BATCH,
            learning_rate=RATE,
            schedule="constant",
            threads=self.threads,
            hardware=hardware or Hardware(),
        )
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter(), time.process_time()
            fit(
                network,
                Variational(),
                settings=settings,
                train=self.train,
                validation=self.test[:VALIDATION_ROWS],
                seed=seed,
                folder=Path(folder),
            )
            return self.measured(start, network)

    def bare(self, seed: int, *, lightning: bool = False, compiled: bool = False) -> Round:
        """The same mathematics and nothing else: no checkpoint, no log, no schedule; Fabric where `lightning`."""
        network = vae(seed)
        objective, generator = Variational(), Generator().manual_seed(seed)
        loss_of: Any = Loss(network, objective)
        optimizer: Any = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
        backward: Callable[..., Any] = Tensor.backward
        start = time.perf_counter(), time.process_time()
        if lightning:
            fabric = Fabric(accelerator="cpu", devices=1)
            loss_of, optimizer = fabric.setup(loss_of, optimizer)
            backward = fabric.backward
        if compiled:
            loss_of = torch.compile(loss_of)
        for _ in range(EPOCHS):
            total = torch.zeros((), dtype=torch.float64)
            for batch in torch.split(torch.randperm(ROWS, generator=generator), BATCH):
                loss = loss_of(self.train[batch], generator)
                optimizer.zero_grad()
                backward(loss)
                optimizer.step()
                total.add_(loss.detach(), alpha=len(batch))
            with torch.no_grad():
                loss_of(self.test[:VALIDATION_ROWS], generator).item()
        return self.measured(start, network)

    def measured(self, start: tuple[float, float], network: Any) -> Round:
        """What `network` took since `start`, and how good it is."""
        clock, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        return Round(clock / EPOCHS, cpu / EPOCHS, self.test_loss(network))

    @torch.no_grad()
    def test_loss(self, network: Any) -> float:
        """The negative evidence lower bound, in nats, on the test rows; the same draws for every contender."""
        mean, log_variance = network.encode_distribution(self.test)
        draws = torch.randn(mean.shape, generator=Generator().manual_seed(0))
        logits = network.logits(mean + torch.exp(0.5 * log_variance) * draws)
        surprise = functional.binary_cross_entropy_with_logits(logits, self.test, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return float(surprise + divergence) / len(self.test)


class Loss(nn.Module):
    """The objective as a module, which is what Fabric and torch.compile take."""

    def __init__(self, network: Autoencoder, objective: Variational) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, x: Tensor, generator: Generator) -> Tensor:
        """The loss of a batch."""
        return self.objective.loss(self.network, x, generator)


def vae(seed: int) -> Autoencoder:
    """784-400-20, by the network that the recipes use."""
    return build(784, Architecture(hidden=(400,), latent=20), variational=True, range=(0.0, 1.0), seed=seed)


def write_idx(path: Path, values: Tensor) -> None:
    """The file in MNIST's format that holds the unsigned bytes `values`."""
    heading = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(heading + values.numpy().tobytes())


def turn(contender: str, folder: Path, *, threads: int, seed: int) -> Round:
    """One turn of `contender` in a process of its own: threads, allocator and caches are nobody else's."""
    options = ["--contender", contender, "--seed", str(seed), "--threads", str(threads), "--folder", str(folder)]
    command = [sys.executable, "-m", "benchmarks.training", *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Round(*json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Measures every contender and prints the table. Exit code 1 where ours takes more than a third of the textbook."""
    parser = argparse.ArgumentParser(description="An epoch of 784-400-20: the textbook's loop and ours.")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also the bare loop through torch.compile")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        if not options.contender.startswith("textbook"):
            flush_denormals()  # as `diabolo train` does
        bench = Bench(options.folder, threads=options.threads)
        print_line(json.dumps(bench.contenders[options.contender](options.seed)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = Bench(folder, threads=options.threads).contenders
        contenders = [each for each in known if options.compile or "compiled" not in each]
        rounds: dict[str, list[Round]] = {each: [] for each in contenders}
        print_line(
            f"784-400-20, {ROWS} rows, batches of {BATCH}, epochs {EPOCHS}, threads {options.threads}, "
            f"rounds {options.rounds}; seconds an epoch:"
        )
        for seed in range(options.rounds):
            for each in contenders:
                rounds[each].append(turn(each, folder, threads=options.threads, seed=seed))
    print_line(f"{'':24}{'median':>8}{'CPU':>8}{'all rounds':>28}{'test loss, nats':>30}")
    for name, measured in rounds.items():
        seconds = "".join(f"{one.seconds:9.2f}" for one in measured)
        losses = "".join(f"{one.test_loss:9.2f}" for one in measured)
        cpu = statistics.median(one.cpu_seconds for one in measured)
        print_line(f"{name:24}{median(measured):8.2f}{cpu:8.2f}{seconds:>28}{losses:>30}")

    ours, bare, fabric = (median(rounds[name]) for name in ("ours", "bare loop", "bare loop with Fabric"))
    textbook = min(median(measured) for name, measured in rounds.items() if name.startswith("textbook"))
    share = statistics.median(
        (a.seconds - b.seconds) / b.seconds
        for a, b in zip(rounds["bare loop with Fabric"], rounds["bare loop"], strict=True)
    )
    print_line(f"ours / textbook: {ours / textbook:.3f} (at most {BAR:.3f})")
    print_line(f"Lightning's share: {share:+.1%} (median of rounds), {fabric - bare:+.3f} s")
    print_line(f"validation, checkpoint and log apart from it: {ours - fabric:+.3f} s")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "pytorch-lightning"))
    print_line(f"Python {platform.python_version()}, {packages}, {torch.backends.cpu.get_cpu_capability()}")
    return 0 if ours <= BAR * textbook else 1


def median(rounds: list[Round]) -> float:
    """The median of the seconds."""
    return statistics.median(one.seconds for one in rounds)


if __name__ == "__main__":
    raise SystemExit(main())
