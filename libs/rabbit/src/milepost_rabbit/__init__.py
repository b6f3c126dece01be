"""RabbitMQ as Milepost uses it: keep a connection, declare the topology, publish with confirms."""
