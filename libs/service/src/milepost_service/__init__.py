"""The infrastructure of every Milepost service: settings, logs, health, metrics, back-off and callback URLs."""
