"""Installations of Runfold: programs on a namespace of their own, in processes or in this one."""
