# Made from _async/__init__.py by 'make contracts': change it there.
"""The SDK's one source; its synchronous twin is made of it. Users import `milepost_client`."""
