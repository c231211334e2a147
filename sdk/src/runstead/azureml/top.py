"""`azureml` as a run finds it: the real package where its environment has it, else the names of runstead."""

from runstead.azureml import stand_in

stand_in(globals())
