"""The commands, one file each: a file named as the command, with a ``command`` in it, is found by being here."""
