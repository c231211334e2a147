"""Constants that scripts of Azure Machine Learning read."""

from runstead import __version__

VERSION = __version__
# There an image with the software that runs needed; here a target's own base image is taken where none is named.
DEFAULT_CPU_IMAGE = None
DEFAULT_GPU_IMAGE = None
TENSORFLOW_DEFAULT_VERSION = "2.2.0"
