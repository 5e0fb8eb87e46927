// node-redis, for clients.cjs.
"use strict";

const redis = require("redis");

async function open(run) {
  const common = run.protocol ? { RESP: run.protocol } : {};
  const nodes = run.addresses.map(([host, port]) => ({ host, port }));
  const made = {
    cluster: () =>
      redis.createCluster({ ...common, rootNodes: nodes.map((socket) => ({ socket })) }),
    sentinel: () => redis.createSentinel({ ...common, name: "resplock", sentinelRootNodes: nodes }),
    standalone: () => redis.createClient({ ...common, socket: { host: run.host, port: run.port } }),
  }[run.way]();
  made.on("error", () => {});
  await made.connect();
  return made;
}

/** Any command: who sends it differs between the three kinds of client. */
function send(client, way, words) {
  const texts = words.map(String);
  if (way === "cluster") return client.sendCommand(texts[1], false, texts);
  if (way === "sentinel") return client.sendCommand(false, texts);
  return client.sendCommand(texts);
}

async function connect(run) {
  const client = await open(run);
  const call = (...words) => send(client, run.way, words);
  return {
    take: async (key, token, ms) => (await client.set(key, token, { PX: ms, NX: true })) === "OK",
    get: (key) => client.get(key),
    call,
    evaluate: (script, key, token) => client.eval(script, { keys: [key], arguments: [token] }),
    load: (script) => call("SCRIPT", "LOAD", script),
    evaluateSha: (sha, key, token) => client.evalSha(sha, { keys: [key], arguments: [token] }),
    transaction: (key, commands) => {
      let multi = client.multi(run.way === "cluster" ? key : undefined);
      for (const words of commands) {
        multi =
          run.way === "cluster"
            ? multi.addCommand(words[1], false, words)
            : run.way === "sentinel"
              ? multi.addCommand(false, words)
              : multi.addCommand(words);
      }
      return multi.exec();
    },
    listen: async (channel, hear) => {
      const subscriber = await open(run);
      await subscriber.subscribe(channel, hear);
      return () => subscriber.close();
    },
    close: () => client.close(),
  };
}

module.exports = { connect };
