"""Recognise handwritten digits: a small neural network on the 1,797 images that come with scikit-learn.

Runs as it is on any machine (``python train.py``). Where Runstead runs it, what it logs appears live in the studio; anywhere
else the same lines are printed.
"""

import argparse
import json
import time
from pathlib import Path

import joblib
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

try:
    from runstead import Run
except ImportError:
    Run = None

OUTPUTS = Path("outputs")


class Log:
    """Metrics to the run where there is one, else to the terminal."""

    def __init__(self):
        self.run = Run.get_context() if Run is not None else None

    def __call__(self, name, value, step=None):
        if self.run is not None:
            self.run.log(name, value, step=step)
        else:
            print(f"{name} = {value:.4f}" if step is None else f"[{step}] {name} = {value:.4f}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.002, help="learning rate (default: %(default)s)")
    parser.add_argument(
        "--hidden", type=int, default=128, help="units in each of two hidden layers (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=32, help="images per step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the split and the weights (default: %(default)s)")
    options = parser.parse_args()
    for name in ("epochs", "lr", "hidden", "batch"):
        if getattr(options, name) <= 0:
            parser.error(f"argument --{name}: must be greater than 0")
    return options


def draw_confusion(table, path):
    """A picture of which digit was taken for which."""
    figure, axes = plt.subplots(figsize=(5, 4.4), dpi=120)
    image = axes.imshow(table, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10), title="Test images by digit")
    for row, column in np.ndindex(table.shape):
        if table[row, column]:
            colour = "white" if table[row, column] > table.max() / 2 else "black"
            axes.text(column, row, table[row, column], ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, fraction=0.046)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main():
    options = arguments()
    OUTPUTS.mkdir(exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=options.seed
    )
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    model = MLPClassifier((options.hidden, options.hidden), learning_rate_init=options.lr, random_state=options.seed)
    print(f"{len(train_y)} training images, {len(test_y)} test images, {options.epochs} epochs")

    log = Log()
    order = np.random.default_rng(options.seed)
    best = {"accuracy": 0.0, "epoch": 0}
    began = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        shuffled = order.permutation(len(train_y))
        for start in range(0, len(shuffled), options.batch):
            rows = shuffled[start : start + options.batch]
            model.partial_fit(train_x[rows], train_y[rows], classes=np.arange(10))
        loss = log_loss(train_y, model.predict_proba(train_x), labels=np.arange(10))
        validation_loss = log_loss(test_y, model.predict_proba(test_x), labels=np.arange(10))
        accuracy = accuracy_score(test_y, model.predict(test_x))
        log("loss", float(loss), epoch)
        log("val/loss", float(validation_loss), epoch)
        log("val/accuracy", float(accuracy), epoch)
        if accuracy > best["accuracy"]:
            best = {"accuracy": float(accuracy), "epoch": epoch}
        print(
            f"epoch {epoch:>3}/{options.epochs}  loss {loss:.4f}  val loss {validation_loss:.4f}  val accuracy {accuracy:.4f}"
        )

    predicted = model.predict(test_x)
    joblib.dump({"scaler": scaler, "model": model}, OUTPUTS / "model.joblib")
    draw_confusion(confusion_matrix(test_y, predicted), OUTPUTS / "confusion.png")
    report = {
        "accuracy": float(accuracy_score(test_y, predicted)),
        "best": best,
        "wrong": int((predicted != test_y).sum()),
        "test_images": len(test_y),
        "seconds": round(time.perf_counter() - began, 2),
        "parameters": vars(options),
    }
    (OUTPUTS / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"accuracy {report['accuracy']:.4f}, best {best['accuracy']:.4f} at epoch {best['epoch']}, {report['seconds']} s"
    )


if __name__ == "__main__":
    # Matrices this small are slower on several cores than on one, and far slower where other work wants the cores too.
    with threadpool_limits(1):
        main()
