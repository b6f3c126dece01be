"""The SDK's one source; its synchronous twin is made of it. Users import `milepost_client`."""
