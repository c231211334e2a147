"""Count the words of the texts beside this script, with Spark.

Runs as it is wherever ``spark-submit`` is (``spark-submit count.py``): on this machine alone, or on a cluster.
"""

import argparse
import csv
from pathlib import Path

from pyspark.sql import SparkSession
from words import words_of

try:
    from runstead import Run
except ImportError:
    Run = None

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=20, help="how many words to print")
    parser.add_argument("--parts", type=int, default=2, help="how many tasks count")
    options = parser.parse_args()

    spark = SparkSession.builder.getOrCreate()
    # The texts are small and lie beside the script; what is large lies where every executor can read it.
    lines = [
        line for path in sorted(HERE.glob("texts/*.txt")) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    counted = (
        spark.sparkContext.parallelize(lines, options.parts)
        .flatMap(words_of)
        .map(lambda word: (word, 1))
        .reduceByKey(lambda one, other: one + other)
        .collect()
    )
    counted.sort(key=lambda pair: (-pair[1], pair[0]))
    spark.stop()

    for word, count in counted[: options.top]:
        print(f"{count:5d}  {word}")
    Path("outputs").mkdir(exist_ok=True)
    with Path("outputs/words.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("word", "count"), *counted])
    if Run is not None:
        run = Run.get_context()
        run.log("lines", len(lines))
        run.log("words", sum(count for _, count in counted))
        run.log("different words", len(counted))


if __name__ == "__main__":
    main()
