"""Learn to tell two spirals apart, the data divided among several processes (PyTorch's DistributedDataParallel).

Runs as it is with ``torchrun --nproc_per_node 2 train.py``, and with ``python train.py`` as one process.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

try:
    from runstead import Run
except ImportError:
    Run = None


def spirals(points, seed):
    """``points`` points (x, y) of two spirals that wind around each other, and which of the two each belongs to."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(points) % 2
    turn = torch.rand(points, generator=generator).sqrt() * 3 * torch.pi
    angle = turn + label * torch.pi
    place = torch.stack([angle.cos(), angle.sin()], dim=1) * turn[:, None] / (3 * torch.pi)
    return place + 0.02 * torch.randn(points, 2, generator=generator), label.float()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=100, help="of each process")
    parser.add_argument("--lr", type=float, default=0.01)
    options = parser.parse_args()

    several = "WORLD_SIZE" in os.environ
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    if several:
        dist.init_process_group("nccl" if gpu else "gloo")
    rank, size = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    torch.manual_seed(0)  # the same weights everywhere to begin with

    data = TensorDataset(*spirals(options.points, seed=1))
    sampler = DistributedSampler(data, num_replicas=size, rank=rank, seed=2)
    loader = DataLoader(data, batch_size=options.batch_size, sampler=sampler)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)).to(device)
    trained = DistributedDataParallel(model) if several else model
    optimizer = torch.optim.Adam(trained.parameters(), lr=options.lr)
    loss_of = nn.BCEWithLogitsLoss()
    test_points, test_labels = (part.to(device) for part in spirals(1000, seed=3))
    run = Run.get_context() if Run is not None and rank == 0 else None
    print(f"process {rank} of {size} on {device}: {len(sampler)} of {len(data)} points", flush=True)

    for epoch in range(1, options.epochs + 1):
        sampler.set_epoch(epoch)
        for points, labels in loader:
            optimizer.zero_grad()
            loss = loss_of(trained(points.to(device)).squeeze(1), labels.to(device))
            loss.backward()  # here the processes agree on the gradient
            optimizer.step()
        with torch.no_grad():
            accuracy = ((model(test_points).squeeze(1) > 0) == (test_labels > 0.5)).float().mean().item()
        if rank == 0:
            print(f"epoch {epoch:3d}  loss {loss.item():.4f}  accuracy {accuracy:.3f}", flush=True)
        if run is not None:
            run.log("loss", loss.item(), step=epoch)
            run.log("val/accuracy", accuracy, step=epoch)

    if rank == 0:
        Path("outputs").mkdir(exist_ok=True)
        torch.save(model.state_dict(), "outputs/model.pt")
    if several:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
