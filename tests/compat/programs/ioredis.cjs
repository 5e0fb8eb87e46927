// ioredis, for clients.cjs.
"use strict";

const Redis = require("ioredis");

const quietly = (client) => client.on("error", () => {});

function open(run) {
  const options = run.protocol ? { protocol: run.protocol } : {};
  switch (run.way) {
    case "cluster":
      return new Redis.Cluster(
        run.addresses.map(([host, port]) => ({ host, port })),
        { redisOptions: options },
      );
    case "sentinel":
      return new Redis({
        sentinels: run.addresses.map(([host, port]) => ({ host, port })),
        name: "resplock",
        ...options,
      });
    default:
      return new Redis({ host: run.host, port: run.port, ...options });
  }
}

async function connect(run) {
  const redis = quietly(open(run));
  await redis.ping();
  return {
    take: async (key, token, ms) => (await redis.set(key, token, "PX", ms, "NX")) === "OK",
    get: (key) => redis.get(key),
    call: (...words) => redis.call(...words),
    evaluate: (script, key, token) => redis.eval(script, 1, key, token),
    load: (script) => redis.script("LOAD", script),
    evaluateSha: (sha, key, token) => redis.evalsha(sha, 1, key, token),
    transaction: async (key, commands) => {
      const replies = await redis.multi(commands.map(([name, ...words]) => [name.toLowerCase(), ...words])).exec();
      return replies.map(([error, reply]) => {
        if (error) throw error;
        return reply;
      });
    },
    listen: async (channel, hear) => {
      const subscriber = quietly(open(run));
      subscriber.on("message", (_, message) => hear(message));
      await subscriber.subscribe(channel);
      return () => subscriber.quit();
    },
    close: () => redis.quit(),
  };
}

module.exports = { connect };
