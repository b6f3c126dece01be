# Made from _async/__init__.py by 'make contracts': change it there.
"""The SDK's source; `_sync` is generated from it. Users import `milepost_client`."""
