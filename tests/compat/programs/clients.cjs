// What programs do with ioredis and node-redis: locks, scripts, events, and a leader that is killed
// meanwhile. Usage: node clients.cjs ioredis|node_redis
"use strict";

const assert = require("node:assert");
const { randomUUID } = require("node:crypto");
const readline = require("node:readline");

const run = JSON.parse(process.env.COMPAT_RUN);
const library = require(`./${process.argv[2]}.cjs`);

const RELEASE =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";
const CASE_DEADLINE_MS = 60_000;

// --- talking to whoever runs us -------------------------------------------------------------------

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const tell = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

async function ask(what) {
  tell({ ask: what });
  await answers.next();
}

// --- small things -----------------------------------------------------------------------------------

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const deadline = (ms, what) =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms).unref());

/** A map's fields, whether it came as a RESP3 map or as RESP2's array of fields and values. */
function fields(reply) {
  if (reply instanceof Map) return Object.fromEntries(reply);
  if (!Array.isArray(reply)) return { ...reply };
  const found = {};
  for (let at = 0; at < reply.length; at += 2) found[reply[at]] = reply[at + 1];
  return found;
}

async function version(client, key) {
  const reply = await client.call("LOCK.GET", key);
  assert.ok(reply, `nobody holds ${key}: ${JSON.stringify(reply)}`);
  return Number(fields(reply).version);
}

/** Carry out what may be carried out twice, until it is answered; errors are counted. */
async function insist(what, errors) {
  const until = Date.now() + 30_000;
  for (;;) {
    try {
      return await what();
    } catch (error) {
      if (error instanceof assert.AssertionError || Date.now() > until) throw error;
      count(errors, error);
      await sleep(20);
    }
  }
}

function count(errors, error) {
  const text = String(error.message || error).split(/[ :]/)[0];
  errors.set(text, (errors.get(text) || 0) + 1);
}

// --- the cases --------------------------------------------------------------------------------------

const CASES = {
  "SET NX PX takes a lock that is free, and no lock that is held": async (client) => {
    assert.ok(await client.take("try", "me", 30_000));
    assert.ok(!(await client.take("try", "you", 30_000)));
    assert.equal(await client.get("try"), "me");
    const left = await client.call("PTTL", "try");
    assert.ok(left > 0 && left <= 30_000, `PTTL ${left}`);
    assert.equal(await client.call("DEL", "try"), 1);
  },

  "EVAL releases the lock of its owner only": async (client) => {
    assert.ok(await client.take("release", "me", 30_000));
    assert.equal(await client.evaluate(RELEASE, "release", "you"), 0);
    assert.equal(await client.evaluate(RELEASE, "release", "me"), 1);
    assert.equal(await client.get("release"), null);
  },

  "SCRIPT LOAD, then EVALSHA": async (client) => {
    const sha = await client.load(RELEASE);
    assert.ok(await client.take("sha", "me", 30_000));
    assert.equal(await client.evaluateSha(sha, "sha", "me"), 1);
  },

  "an unknown script is NOSCRIPT": async (client) => {
    await assert.rejects(client.evaluateSha("0".repeat(40), "sha", "me"), /NOSCRIPT/);
  },

  "a lock ends with its TTL": async (client) => {
    assert.ok(await client.take("brief", "me", 50));
    const until = Date.now() + 10_000;
    while (!(await client.take("brief", "you", 30_000))) {
      assert.ok(Date.now() < until, "it does not end");
      await sleep(10);
    }
    assert.equal(await client.evaluate(RELEASE, "brief", "me"), 0);
  },

  "a hundred commands at once are answered in order": async (client) => {
    const keys = Array.from({ length: 100 }, (_, number) => `many:${number}`);
    const taken = await Promise.all(keys.map((key) => client.take(key, key, 30_000)));
    assert.ok(taken.every(Boolean));
    assert.deepEqual(await Promise.all(keys.map((key) => client.get(key))), keys);
  },

  "MULTI and EXEC": async (client) => {
    const replies = await client.transaction("multi", [
      ["SET", "multi", "me", "NX", "PX", "30000"],
      ["GET", "multi"],
    ]);
    assert.deepEqual(replies.map(String), ["OK", "me"]);
  },

  "LOCK.ACQUIRE grants a version, LOCK.GET and GET show the same lock": async (client) => {
    const granted = fields(await client.call("LOCK.ACQUIRE", "own", "me", "TTL", "30000"));
    assert.equal(granted.status, "granted");
    assert.equal(await version(client, "own"), Number(granted.version));
    assert.equal(await client.get("own"), "me");
  },

  "a subscriber hears of a lock that was released": async (client) => {
    let hear;
    const heard = new Promise((resolve) => (hear = resolve));
    const end = await client.listen("__keyspace@0__:heard", hear);
    try {
      assert.ok(await client.take("heard", "me", 30_000));
      await client.call("DEL", "heard");
      await Promise.race([heard, deadline(10_000, "an event")]);
    } finally {
      await end();
    }
  },
};

const CASES_WITH_A_KILLED_LEADER = {
  "the leader is killed: a lock that was held still is, with its version": async (client) => {
    const errors = new Map();
    assert.ok(await client.take("kept", "me", 600_000));
    const before = await version(client, "kept");
    await ask("kill leader");
    const began = Date.now();
    const after = await insist(() => version(client, "kept"), errors);
    const took = Date.now() - began;
    assert.equal(after, before);
    assert.equal(await client.get("kept"), "me");
    assert.ok(!(await client.take("kept", "you", 1_000)));
    assert.equal(await client.evaluate(RELEASE, "kept", "me"), 1);
    await ask("restore");
    return `answered after ${took} ms; ${described(errors)}`;
  },

  "the leader is killed: eight workers go on, and no two ever hold one lock": async (client) => {
    const state = { inside: new Map(), version: new Map(), errors: new Map(), rounds: 0, resent: 0, over: false };
    const workers = Array.from({ length: 8 }, (_, number) => work(client, `work:${number % 2}`, state));
    // One that fails early is looked at when all are awaited.
    const ended = Promise.allSettled(workers);
    await sleep(300);
    const before = state.rounds;
    assert.ok(before > 0, "nobody got a lock before");
    await ask("kill leader");
    await sleep(3_000);
    state.over = true;
    await ended;
    await ask("restore");
    const last = await Promise.all(workers);
    assert.ok(state.rounds > before, "nobody got a lock after");
    const longest = Math.max(...last);
    assert.ok(longest < 10_000, `a worker stood still for ${longest} ms`);
    return (
      `${state.rounds} locks taken; the longest wait was ${longest} ms; ${described(state.errors)}` +
      (state.resent ? `; ${state.resent} taken by a try whose reply was lost` : "")
    );
  },
};

/** Take and release one lock until it is over. Returns the longest time without getting it, in ms. */
async function work(client, key, state) {
  let longest = 0;
  let since = Date.now();
  while (!state.over) {
    const token = randomUUID();
    if (await attempt(client, key, token, state)) {
      const inside = (state.inside.get(key) || 0) + 1;
      state.inside.set(key, inside);
      assert.equal(inside, 1, "two hold the lock");
      const granted = await insist(() => version(client, key), state.errors);
      assert.ok(granted > (state.version.get(key) || 0), "the version does not rise");
      state.version.set(key, granted);
      state.inside.set(key, inside - 1);
      longest = Math.max(longest, Date.now() - since);
      since = Date.now();
      state.rounds += 1;
    }
    // Also after an error, when nobody can tell whether it was taken.
    await insist(() => client.evaluate(RELEASE, key, token), state.errors);
    await sleep(1);
  }
  return longest;
}

/** Whether the lock was had, also by a first try that the library has repeated. */
async function attempt(client, key, token, state) {
  try {
    if (await client.take(key, token, 30_000)) return true;
  } catch (error) {
    count(state.errors, error);
    return false;
  }
  if ((await insist(() => client.get(key), state.errors)) !== token) return false;
  state.resent += 1;
  return true;
}

function described(errors) {
  if (errors.size === 0) return "no error reached the program";
  const parts = [...errors].map(([text, times]) => `${times} ${text}`);
  return `errors that reached the program: ${parts.join(", ")}`;
}

// --- running them -----------------------------------------------------------------------------------

async function main() {
  const cases = run.nodes > 1 ? { ...CASES, ...CASES_WITH_A_KILLED_LEADER } : CASES;
  const name = "connects, and ends its connections";
  let client;
  try {
    client = await Promise.race([library.connect(run), deadline(CASE_DEADLINE_MS, "a connection")]);
  } catch (error) {
    tell({ case: name, outcome: "failed", reason: String(error.message || error) });
    return;
  }
  for (const [title, body] of Object.entries(cases)) await judge(title, () => body(client));
  await judge(name, async () => {
    await client.close();
  });
}

async function judge(title, body) {
  try {
    const note = await Promise.race([body(), deadline(CASE_DEADLINE_MS, title)]);
    tell({ case: title, outcome: "passed", reason: note || "" });
  } catch (error) {
    tell({ case: title, outcome: "failed", reason: String(error.message || error) });
  }
}

main().then(() => {
  process.stdout.write('{"end": true}\n', () => process.exit(0));
});
