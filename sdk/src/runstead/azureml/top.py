"""`azureml` as a run finds it: the names of runstead, with whatever else of the namespace its environment has."""

from runstead.azureml import stand_in

stand_in(globals())
