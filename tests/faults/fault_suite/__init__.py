"""The fault suite: a load, a ledger of submissions, answers and executions, faults, and invariants that must hold.

matrix (the rows) → fault (what a row is) → scenario (one run of one fault) → cluster, load, readers, ledger
                  → harm_* (cause faults, and prove that they took hold) → verdict (the invariants) → report
"""
