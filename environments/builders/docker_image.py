"""An image on the target's container engine: a base image, and the packages in one layer above it. Without packages, the base
image as it is, checked."""

from environments.builders.base import ON_ENGINE, Place, Step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    base = definition.base_image or place.base_image
    title = f"Make an image from {base}" if definition.packages else f"Check the image {base}"
    return [{"title": title, "argv": ["python3", "-c", ON_ENGINE], "env": {}, "cwd": "."}]
