// reactor.py in JavaScript: npm install amqplib; node reactor.mjs
import amqp from "amqplib";

const broker = process.env.MILEPOST_RABBITMQ_URL ?? "amqp://guest:guest@127.0.0.1/";
const exchange = `${process.env.MILEPOST_NAMESPACE ?? "milepost"}.jobs`;

const connection = await amqp.connect(broker);
const channel = await connection.createChannel();
await channel.prefetch(20);
// A full queue loses its oldest events. (One that refused new ones would slow Milepost down.)
const limits = { "x-queue-type": "quorum", "x-max-length": 100_000, "x-overflow": "drop-head" };
const { queue } = await channel.assertQueue("billing-js.milepost", { durable: true, arguments: limits });
await channel.bindQueue(queue, exchange, "job.succeeded.#");
console.log("listening");
await channel.consume(queue, (message) => {
  const event = JSON.parse(message.content); // a CloudEvent
  const job = event.data;
  console.log(event.id, job.type, job.id, JSON.stringify(job.result));
  channel.ack(message); // after the work: without an ack it is delivered again
});
