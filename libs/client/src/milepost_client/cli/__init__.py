"""The `milepost` command. Data goes to standard output, progress and errors to standard error."""
