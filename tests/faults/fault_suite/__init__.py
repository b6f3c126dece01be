"""The fault suite: a load, a ledger of submissions, answers and executions, faults, and invariants that must hold.

faults (the matrix) → scenario (one run of one fault) → cluster, load, ledger → verdict → report
"""
