"""The words that every part of Milepost shares. Opens no socket, reads no file.

One module per kind of word: `ids`, `states`, `values`, `events`, `fleet`, `envelope`, `view` (the merge law),
`document`, `topology`, `keys`, `problems`, `errors`.
"""
