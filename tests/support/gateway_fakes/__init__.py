"""The gateway's ports in memory; each file has the name of its port."""
