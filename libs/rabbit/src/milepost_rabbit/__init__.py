"""Access to RabbitMQ: a connection that reconnects, the topology, publishing with confirms."""
