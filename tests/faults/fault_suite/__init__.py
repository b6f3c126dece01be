"""The fault suite: a load, a ledger of what it was told and what it did, faults, and invariants that must hold.

faults (the matrix) → scenario (one run of one fault) → cluster, load, ledger → verdict → report
"""
