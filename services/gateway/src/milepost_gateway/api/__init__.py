"""The HTTP interface: FastAPI lives here and nowhere else."""
