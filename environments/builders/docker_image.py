"""An image on the target's container engine: a base image or a Dockerfile's, and the packages in layers above it. Without packages, the
image as it is, checked."""

from environments.builders.base import ON_ENGINE, Place, Step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    base = "a Dockerfile" if definition.dockerfile else definition.base_image or place.base_image
    as_it_is = (
        definition.user_managed or definition.conda_environment or not definition.packages + definition.conda_packages
    )
    title = f"Check the image {base}" if as_it_is and not definition.dockerfile else f"Make an image from {base}"
    return [{"title": title, "argv": ["python3", "-c", ON_ENGINE], "env": {}, "cwd": "."}]
