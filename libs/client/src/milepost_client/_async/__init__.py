"""The SDK's source; `_sync` is generated from it. Users import `milepost_client`."""
