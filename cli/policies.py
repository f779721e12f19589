"""Computing policies for `generate`: the settings of a run, applied to one pod after the other."""
