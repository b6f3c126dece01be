"""The types and functions that all parts of Milepost share. Opens no socket.

`values`, `states`, `ids`, `clock`, `errors`; `messages` (CloudEvents, events, delay levels, topology), `asyncapi`;
`status` (the merge law, the status document, Redis keys); `http` (problems, access, callback URLs, webhooks).
"""
