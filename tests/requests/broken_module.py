"""A module that fails when it is imported, as one does that reads a missing setting."""

raise RuntimeError("this module cannot be imported")
